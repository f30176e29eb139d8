"""Names of files that are no content: no listing shows them, and no copy of a folder takes them along."""

from __future__ import annotations

LEASE_FILE = ".lease"
"""Name of the file that says who owns a folder."""

PART_SUFFIX = ".part"


def is_content(file: str) -> bool:
    """Return whether a file of this name is content, not a lease or what a killed writer left behind."""
    return file != LEASE_FILE and not is_part(file)


def is_part(file: str) -> bool:
    """Return whether a file of this name is one that a writer has not finished."""
    return file.startswith(".") and file.endswith(PART_SUFFIX)
