"""Which test ended a mutant in an earlier run: it is tried first, if it passes without a mutant."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.mutation.running import ROOT, Told, fork

ALLOWED_S = 120.0
"""Processor seconds of a test; what it takes without a mutant is not known here."""


class Hints:
    """Tests that killed mutants earlier, by the keys of the mutants.

    Args:
        files: Results of earlier runs, ``results.jsonl``; later files count more.
        passing: Function from tests of one file to those that pass without a mutant.
    """

    def __init__(self, files: Iterable[Path], passing: Callable[[Sequence[str]], set[str]] | None = None) -> None:
        self._killers: dict[str, str] = {}
        for path in files:
            rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            self._killers |= {row["key"]: row["by"] for row in rows if row["outcome"] == "killed" and "::" in row["by"]}
        self._of_file: dict[str, set[str]] = defaultdict(set)
        for test in self._killers.values():
            self._of_file[test.partition("::")[0]].add(test)
        self._passing = passing or passing_tests
        self._known: dict[str, set[str]] = {}

    def of(self, key: str) -> Mapping[str, float]:
        """Return the test to try first with the processor seconds that it may take; nothing where none is known."""
        test = self._killers.get(key, "")
        file = test.partition("::")[0]
        if not test or not (ROOT / file).is_file():
            return {}
        if file not in self._known:  # all hints of a file at once, since most of the cost is its import
            self._known[file] = self._passing(sorted(self._of_file[file]))
        return {test: ALLOWED_S} if test in self._known[file] else {}


def passing_tests(tests: Sequence[str]) -> set[str]:
    """Return those of some tests of one file that run and pass without a mutant."""
    file = tests[0].partition("::")[0]
    run = fork([file], lambda pipe: Told(pipe, dict.fromkeys(tests, ALLOWED_S)))
    if run.timed_out or run.code not in (0, 1):
        return set()
    begun, failed = ({str(line[1]) for line in run.told if line[0] == kind} for kind in ("start", "failed"))
    return (begun & set(tests)) - failed
