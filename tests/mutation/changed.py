"""Lines of the library that are younger than a commit: a sample of what no earlier sample has seen."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

_HUNK = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")


def changed_lines(since: str, root: Path) -> dict[str, set[int]]:
    """Return the numbers of lines that were added or changed since a commit, by path below the repository.

    Args:
        since: Commit, as git names it.
        root: The repository.

    Raises:
        SystemExit: Git does not know the commit.
    """
    asked = ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", "-M", since, "--", "infinity"]
    answer = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"--since: expected a commit, found {since!r} ({answer.stderr.strip().splitlines()[0]})")
    return parsed_diff(answer.stdout.splitlines())


def parsed_diff(lines: Iterable[str]) -> dict[str, set[int]]:
    """Return the numbers of new lines by path, from a diff without context.

    Example:
        >>> parsed_diff(["+++ b/infinity/a.py", "@@ -3 +3,2 @@", "+x", "+y", "@@ -9 +9,0 @@"])
        {'infinity/a.py': {3, 4}}
    """
    found: dict[str, set[int]] = {}
    path = ""
    for line in lines:
        if line.startswith("+++ "):
            path = line[4:].partition("/")[2]
        elif match := _HUNK.match(line):
            first, number = int(match[1]), int(match[2] or 1)
            found.setdefault(path, set()).update(range(first, first + number))
    return found
