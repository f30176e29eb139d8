"""Measure the structure of the repository: sizes, parameters, docstrings, comments, folders, names.

``python -m benchmarks.structure [--root FOLDER] [--json FILE]`` prints one table. Run it on two checkouts to compare
them.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRODUCT = ("infinity", "flows", "infra", "benchmarks")
THIN_ROOMS = ("reporting", "cli", "evaluation")
SHORT_DOCSTRING_CHARS = 22
PRIVATE_WORDS = [
    "Asked",
    "Fates",
    "Feed",
    "Findings",
    "Gap",
    "Judged",
    "Keep",
    "Lesson",
    "Listeners",
    "Looks",
    "Material",
    "Measured",
    "Move",
    "Opponent",
    "Outcome",
    "Part",
    "Player",
    "PictureStream",
    "Subject",
    "Team",
    "Told",
    "Voice",
    "WorkerShare",
    "Visibility",
]
"""Class names that mean nothing outside this repository, or meant several things within it."""
PRIVATE_IDIOMS = re.compile(
    r"so many|so-manieth|of equals the|so and so|\bpoison\b|\bpassport\b|_forget\(|deal_with\(|\blikeness\b|\bbanned\b",
    re.IGNORECASE,
)
LEANING_ARGUMENT = re.compile(r"^\s+\w+: (Of|As|Its|That) ", re.MULTILINE)
"""A line of ``Args:`` that leans on a noun of another sentence."""


def main() -> None:
    """Print the table of measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    figures = measure(options.root)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(root: Path) -> dict[str, Any]:
    """Return the figures of a checkout by name."""
    product = [path for room in PRODUCT for path in _python(root / room)]
    tests = list(_python(root / "tests"))
    texts = {path: path.read_text() for path in product}
    return {
        **_lines(root, texts, tests),
        **_functions(texts),
        **_prose(root, texts),
        **_names(texts),
        **_folders(root, product),
    }


def _python(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _count(paths: list[Path]) -> int:
    return sum(path.read_text().count("\n") for path in paths)


def _lines(root: Path, texts: dict[Path, str], tests: list[Path]) -> dict[str, Any]:
    counts = {path: text.count("\n") for path, text in texts.items()}
    product, tested = sum(counts.values()), _count(tests)
    longest = max(counts, key=lambda path: counts[path])
    thin = {
        f"test lines per line of code, {room}": round(
            _count(list(_python(root / "tests/infinity" / room))) / _count(list(_python(root / "infinity" / room))), 2
        )
        for room in THIN_ROOMS
    }
    return {
        "lines of infinity, flows, infra, benchmarks": product,
        "lines of tests": tested,
        "test lines per line of code": round(tested / product, 2),
        **thin,
        "files": len(counts),
        "lines per file, median": statistics.median(counts.values()),
        "lines of the longest file": f"{counts[longest]} ({longest.relative_to(root)})",
    }


def _functions(texts: dict[Path, str]) -> dict[str, Any]:
    lengths, parameters = [], []
    for text in texts.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                arguments = node.args
                parameters.append(len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs))
    return {
        "functions": len(lengths),
        "lines per function, median": statistics.median(lengths),
        "functions over 60 lines": sum(length > 60 for length in lengths),
        "functions with more than 8 parameters": sum(count > 8 for count in parameters),
    }


def _prose(root: Path, texts: dict[Path, str]) -> dict[str, Any]:
    docstrings, comments, leaning, idioms = [], 0, 0, 0
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if docstring := ast.get_docstring(node):
                docstrings.append(docstring)
        with path.open("rb") as file:
            comments += sum(token.type == tokenize.COMMENT for token in tokenize.tokenize(file.readline))
        leaning += len(LEANING_ARGUMENT.findall(text))
        if path.name != "structure.py":
            idioms += len(PRIVATE_IDIOMS.findall(text))
    documents = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    longest = max(len(line) for path in documents for line in path.read_text().splitlines())
    lines = sum(text.count("\n") for text in texts.values())
    return {
        "docstrings": len(docstrings),
        f"docstrings under {SHORT_DOCSTRING_CHARS} characters": sum(
            len(each) < SHORT_DOCSTRING_CHARS for each in docstrings
        ),
        "comments, % of lines": round(100 * comments / lines, 1),
        "Args lines that begin with Of, As, Its, That": leaning,
        "private idioms": idioms,
        "longest line of a document, characters": longest,
    }


def _names(texts: dict[Path, str]) -> dict[str, Any]:
    homes: dict[str, set[Path]] = defaultdict(set)
    for path, text in texts.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(path)
    repeated = sorted(name for name, paths in homes.items() if len(paths) > 1)
    private = sorted(set(PRIVATE_WORDS) & homes.keys())
    return {
        "class names with two meanings": f"{len(repeated)} {' '.join(repeated)}".strip(),
        "private class names": f"{len(private)} {' '.join(private)}".strip(),
    }


def _folders(root: Path, product: list[Path]) -> dict[str, Any]:
    counts = Counter(path.parent for path in product if path.name != "__init__.py")
    folder, most = counts.most_common(1)[0]
    silent = [
        path.parent.relative_to(root)
        for path in product
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    return {
        "folders": len(counts),
        "files of the fullest folder": f"{most} ({folder.relative_to(root)})",
        "folders without a docstring": f"{len(silent)} {' '.join(map(str, silent))}".strip(),
    }


if __name__ == "__main__":
    main()
