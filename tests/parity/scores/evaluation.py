"""Golden files of evaluation: which files are any, recognised by what they hold, and how each is replayed.

A kind is a function that looks at a file's JSON (or arrays) and hands back its replay, or None where the file is of
another kind. New kinds are added to `kinds`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Compare = Callable[["Figures"], None]
Kind = Callable[[Path, Any], Compare | None]


@dataclass
class Figures:
    """Comparisons of one file.

    Attributes:
        compared: How many values were compared.
        largest_difference: Of all numbers that were compared.
        by_figure: The same by the last word of a figure's name that is no number.
        failures: Sentences; the file passed if there are none.
        information: What is told beside.
    """

    compared: int = 0
    largest_difference: float = 0.0
    by_figure: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    information: dict[str, Any] = field(default_factory=dict)

    def equal(self, name: str, found: Any, expected: Any) -> None:
        """Compare two values exactly; truth values equal only truth values."""
        self.compared += 1
        if found != expected or isinstance(found, bool) != isinstance(expected, bool):
            self.failures.append(f"{name}: expected {expected!r}, found {found!r}")

    def close(self, name: str, found: float, expected: Any, *, absolute: float = 0.0, relative: float = 0.0) -> None:
        """Compare two numbers; "not a number" and infinities equal themselves only."""
        self.compared += 1
        expected = float(expected)
        if found == expected or (found != found and expected != expected):
            return
        difference = abs(found - expected)
        self.largest_difference = max(self.largest_difference, difference)
        words = [word for word in name.split(".") if not word.isdigit()]
        self.by_figure[words[-1]] = max(self.by_figure.get(words[-1], 0.0), difference)
        if not difference <= absolute + relative * abs(expected):
            self.failures.append(f"{name}: expected {expected!r}, found {found!r}, off by {difference:g}")

    def same_names(self, name: str, found: Any, expected: Any) -> bool:
        """Whether two collections hold the same names; a failure where not."""
        self.compared += 1
        missing, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        if missing or more:
            self.failures.append(f"{name}: expected but absent {missing[:5]}, found but not expected {more[:5]}")
        return not (missing or more)


def find_files(folder: Path) -> list[Path]:
    """JSON and .npz files in and below a folder that some kind knows or that are damaged, or the file itself."""
    if folder.is_file():
        return [folder]
    return [path for path in _candidates(folder) if _kinds_of(path) != []]


def passed_over(folder: Path) -> list[Path]:
    """JSON and .npz files of a folder that are whole and that no kind knows: most are inputs of others."""
    return [] if folder.is_file() else [path for path in _candidates(folder) if _kinds_of(path) == []]


def _candidates(folder: Path) -> list[Path]:
    """All that may be a file of evaluation: none of the files of a case."""
    files = sorted([*folder.rglob("*.json"), *folder.rglob("*.npz")])
    cases = {path.parent for path in files if path.name == "case.json"}
    return [path for path in files if path.parent not in cases]


def replay_file(path: Path) -> dict[str, Any]:
    """Compare one file and say how it went; nothing that a file can contain raises."""
    figures = Figures()
    names = []
    try:
        for name, compare in _replays(path, _content(path)):
            names.append(name)
            compare(figures)
        if not names:
            figures.failures.append("no kind of evaluation file that is known")
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        figures.failures.append(f"the file does not fit together: {type(error).__name__}: {error}")
    return {
        "case": str(path),
        "kind": " + ".join(names) or None,
        "passed": not figures.failures,
        "failures": figures.failures,
        "numbers": {
            "compared": figures.compared,
            "largest_difference": figures.largest_difference,
            "by_figure": figures.by_figure,
        },
        "information": figures.information,
    }


def _kinds_of(path: Path) -> list[str] | None:
    """Who knows a file; None where it cannot be read."""
    try:
        return [name for name, _ in _replays(path, _content(path))]
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def _content(path: Path) -> Any:
    """The JSON of a file, or the arrays of an .npz file."""
    if path.suffix == ".npz":
        return np.load(path, allow_pickle=False)
    return json.loads(path.read_text(encoding="utf-8"))


def _replays(path: Path, data: Any) -> Iterator[tuple[str, Compare]]:
    for name, kind in kinds().items():
        compare = kind(path, data)
        if compare is not None:
            yield name, compare


def kinds() -> dict[str, Kind]:
    """Every kind by its name."""
    from tests.parity.scores import fid
    from tests.parity.scores.clip_score import clip_score_kind
    from tests.parity.scores.dpg import dpg_kind
    from tests.parity.scores.geneval import geneval_kind
    from tests.parity.scores.psnr_ssim import psnr_ssim_kind

    return {
        "geneval_scoring": geneval_kind,
        "dpg_scoring": dpg_kind,
        "inception_weights": fid.weights_kind,
        "inception_features": fid.features_kind,
        "feature_metrics": fid.metrics_kind,
        "end_to_end": fid.end_to_end_kind,
        "psnr_ssim": psnr_ssim_kind,
        "clip_score": clip_score_kind,
    }
