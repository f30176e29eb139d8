"""The test that ended a mutant earlier is tried first, unless it is gone or fails anyway."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.hints import ALLOWED_S, Hints

HERE = "tests/mutation/test_hints.py"


def written(path: Path, *rows: tuple[str, str, str]) -> Path:
    lines = (json.dumps({"key": key, "outcome": outcome, "by": by}) for key, outcome, by in rows)
    path.write_text("\n".join(lines))
    return path


def test_a_hint_is_a_test_that_killed_and_passes_without_a_mutant(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def passing(tests: Sequence[str]) -> set[str]:
        asked.append(tests)
        return {f"{HERE}::good"}

    first = written(
        tmp_path / "first.jsonl", ("a", "killed", f"{HERE}::good"), ("b", "killed", f"{HERE}::fails"),
        ("c", "killed", "tests/absent.py::gone"), ("d", "survived", f"{HERE}::good"), ("e", "killed", "import"),
        ("f", "killed", "tests/absent.py::gone"),
    )  # fmt: skip
    hints = Hints([first, written(tmp_path / "second.jsonl", ("f", "killed", f"{HERE}::good"))], passing)
    assert {key: dict(hints.of(key)) for key in "abcdefg"} == {
        "a": {f"{HERE}::good": ALLOWED_S}, "b": {}, "c": {}, "d": {}, "e": {}, "f": {f"{HERE}::good": ALLOWED_S},
        "g": {},
    }  # fmt: skip
    assert asked == [[f"{HERE}::fails", f"{HERE}::good"]], "once per file"


def test_without_earlier_results_there_is_no_hint() -> None:
    assert dict(Hints([]).of("a")) == {}
