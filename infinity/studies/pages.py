"""Find the page of a study: by name in ``examples/studies`` of a checkout, or by the path of a Python file."""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path

from infinity.studies.study import Study

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "studies"


def names() -> list[str]:
    """Return the names of all studies of this checkout, by the number of their claim."""
    return [study.name for study in sorted(map(_read, FOLDER.glob("[a-z]*.py")), key=lambda study: study.number)]


def load_study(name: str) -> Study:
    """Return the study of a page.

    Args:
        name: Name of a page in ``examples/studies``, or the path of a Python file that sets ``STUDY``.

    Raises:
        ValueError: There is no such page, it cannot be run, or it sets no study.
    """
    path = Path(name) if name.endswith(".py") else FOLDER / f"{name}.py"
    if not path.is_file():
        known = ", ".join(names()) if FOLDER.is_dir() else f"none, since there is no {FOLDER}"
        raise ValueError(f"study {name!r}: expected the path of a Python file, or one of {known}")
    return _read(path)


def _read(path: Path) -> Study:
    try:
        study = runpy.run_path(str(path)).get("STUDY")
    except (Exception, SystemExit) as error:  # a page is a program of its user, which may raise anything
        raise ValueError(f"{path}: {told(error, path)}") from error
    if not isinstance(study, Study):
        raise ValueError(f"{path}: expected a page that sets STUDY to a Study, found {type(study).__name__}")
    return study


def told(error: BaseException, path: Path) -> str:
    """Return what a page raised and the last of its lines that led there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    line = error.lineno if isinstance(error, SyntaxError) else next(reversed(lines), None)
    where = "" if line is None else f"line {line} raised "
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{where}{type(error).__name__}: {message}"
