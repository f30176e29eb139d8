"""A mutant is killed by the test of its law, and survives tests of other laws."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.mutation.running import _HEAVY, ROOT

# In a process of its own: this one has imported the library already, so that a fork of it would import no mutant.
PROGRAM = """
import json, sys
from tests.mutation.mutants import mutants_of
from tests.mutation.running import ROOT, judged, register_profile
register_profile()
file, function, change, *tests = json.loads(sys.argv[1])
(mutant,) = [m for m in mutants_of(ROOT / file, ROOT) if (m.function, m.change) == (function, change)]
print(json.dumps(judged(mutant, dict.fromkeys(tests, 5.0))))
"""
LAW = "tests/infinity/test_bits.py::test_fold_puts_position_dy_dx_of_channel_c_at_4c_plus_2dy_plus_dx"
LIMIT = "tests/infinity/test_bits.py::test_integer_label_of_64_bits_is_refused"


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (["infinity/bits.py", "fold", "2 -> 3", LIMIT, LAW], ["killed", LAW]),
        (["infinity/bits.py", "fold", "2 -> 3", LIMIT], ["survived", "1 tests"]),
    ],
    ids=["the law", "another law"],
)
def test_the_test_of_the_law_decides(case: list[str], outcome: list[Any]) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(case)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == outcome


@pytest.mark.parametrize("name", _HEAVY)
def test_what_every_fork_shares_is_installed(name: str) -> None:
    """A package that left the project ended each run of mutants before its first one."""
    assert importlib.util.find_spec(name) is not None
