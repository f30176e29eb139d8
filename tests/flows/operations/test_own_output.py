"""A flow outlives the worker that reads its lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import REPOSITORY
from tests.fixtures.limits import AGES_S

SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from flows.operations.own_output import say_into_own_file

if sys.argv[2] == "own":
    say_into_own_file("run-1")
print("begun", flush=True)
sys.stdin.readline()  # the worker is dead by now
for number in range(3):
    Console(file=sys.stdout).print(f"line {number}")
    Console(file=sys.stderr).print(f"error line {number}")
Path(sys.argv[1]).write_text("the end")
"""


@pytest.mark.parametrize(("kind", "survives"), [("own", True), ("of the worker", False)])
def test_a_flow_whose_reader_died_goes_on_only_with_an_output_of_its_own(
    tmp_path: Path, kind: str, survives: bool
) -> None:
    flow = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "end"), kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY, text=True,
        env=os.environ | {"INFINITY_STATE": str(tmp_path / "state")},
    )  # fmt: skip
    assert flow.stdin is not None
    assert flow.stdout is not None
    assert flow.stderr is not None
    assert (flow.stdout.readline() == "begun\n") == (kind != "own")
    flow.stdout.close()
    flow.stderr.close()
    flow.stdin.write("go on\n")
    flow.stdin.close()
    flow.wait(timeout=AGES_S)
    assert (tmp_path / "end").exists() == survives
    if survives:
        log = tmp_path / "state" / "flows" / "run-1.log"
        assert log.stat().st_mode & 0o077 == 0
        assert log.read_text().splitlines()[0] == "begun"
        assert {f"line {number}" for number in range(3)} < set(log.read_text().splitlines())
