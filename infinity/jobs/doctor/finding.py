"""What is examined, and what a check finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infinity.config import Config

Verdict = Literal["good", "note", "fault"]
"""Whether all is well, something optional is missing, or something must be mended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding(Config):
    """Result of one check.

    Attributes:
        verdict: "good"; "note" where something optional is missing; "fault" where something must be mended.
        found: Sentence that says what was found, and what was expected where that is something else.
        fix: What to do; empty where all is well.
    """

    check: str
    verdict: Verdict
    found: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """A set-up as its environment describes it.

    Attributes:
        runs: Root of all outputs.
        state: Folder of the local stack.
        ray_address: Address of a Ray cluster; None for a local one.
        prefect_url: API of a Prefect server elsewhere; None for the local one.
        prefect_port: Port that the local server asks for; None for any.
        database: Address of the database behind the Prefect server; None for SQLite.
        num_workers: Workers that serve the Prefect server.
        free_gigabytes: Least free space of runs, in 10^9 bytes.
    """

    environment: Mapping[str, str]
    runs: str = "runs"
    state: Path = Path(".local")
    ray_address: str | None = None
    prefect_url: str | None = None
    prefect_port: int | None = None
    database: str | None = None
    num_workers: int = 1
    free_gigabytes: float = 5.0


Check = Callable[[Setup], Iterator[Finding]]


def good(check: str, found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, verdict="good", found=found)


def note(check: str, found: str, fix: str) -> Finding:
    """Return a finding that something optional is missing."""
    return Finding(check=check, verdict="note", found=found, fix=fix)


def fault(check: str, found: str, fix: str) -> Finding:
    """Return a finding that something must be mended."""
    return Finding(check=check, verdict="fault", found=found, fix=fix)
