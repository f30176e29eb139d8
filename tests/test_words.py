"""One name per idea, and no words that mean something in this repository alone."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from benchmarks.structure import PRIVATE_IDIOMS, PRIVATE_WORDS, PRODUCT

ROOT = Path(__file__).resolve().parents[1]

SHARED_NAMES = {
    "Drawing": "what is drawn (evaluation.pictures.store), and what a PNG file says of it (generation.picture_files)"
}
"""Public class names that two modules may have, each with the reason."""

MOST_IDIOMS = 137
"""Private idioms in the sources today; the number may only fall."""


def sources(*rooms: str) -> dict[Path, str]:
    """Text of every module by its path in the repository."""
    files = (path for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    return {path.relative_to(ROOT): path.read_text() for path in files if path.name != "structure.py"}


def classes() -> dict[str, list[Path]]:
    """Modules by the name of the public classes at their top level."""
    homes: dict[str, list[Path]] = defaultdict(list)
    for path, text in sources("infinity", "flows", "infra").items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    return homes


def test_no_two_public_classes_share_a_name() -> None:
    repeated = {name for name, paths in classes().items() if len(paths) > 1}
    assert repeated <= SHARED_NAMES.keys()


def test_no_class_has_a_name_that_means_nothing_outside_this_repository() -> None:
    assert not set(PRIVATE_WORDS) & classes().keys()


def test_private_idioms_become_fewer() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in sources(*PRODUCT).items()
        for number, line in enumerate(text.splitlines(), start=1)
        for _ in PRIVATE_IDIOMS.findall(line)
    ]
    assert len(found) <= MOST_IDIOMS, "\n".join([f"expected at most {MOST_IDIOMS}, found {len(found)}:", *found])
