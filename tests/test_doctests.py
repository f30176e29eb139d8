"""Examples in docstrings (``>>>``) give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("infinity", "flows", "infra")


def with_examples() -> list[str]:
    """Names of the modules whose source holds ``>>>``."""
    files = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if ">>>" in path.read_text())
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, optionflags=flags)
    assert result.attempted > 0, f"{name}: holds '>>>' outside of a docstring, where nothing runs it"
    assert result.failed == 0, f"{name}: {result.failed} of {result.attempted} examples differ; see the captured output"
