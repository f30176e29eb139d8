"""The file of records: one JSON object per line, as ``benchmarks.run`` prints them, and lines that accept a change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.ledger.judging import Entry, median_interval

DEFAULT = Path(".local/benchmarks.jsonl")

MEASURED = frozenset(
    {"at", "commit", "torch", "load", "repeats", "maxrss_mb", "median_s", "spread_s", "min_s", "max_s"}
    | {"median_cpu_s", "all_cpu_s"}
)
"""Fields that may change from one run to the next; all others say what was measured where, and never compare."""


def stamp() -> dict[str, str]:
    """Return the date and the commit of this run; a commit with local changes ends in "+"."""
    commit = "unknown"
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=9", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    if done.returncode == 0:
        commit = done.stdout.strip()
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit}


def add(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record; the file and its folder are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def accept(path: Path, item: str, reason: str) -> None:
    """Say that the newest figures of an item are meant: later ones are compared with these and what follows.

    Raises:
        ValueError: The file has no record of this item.
    """
    names = {name for name, _ in read(path)} if path.exists() else set()
    if item not in names:
        raise ValueError(f"{path}: expected an item of the ledger ({', '.join(sorted(names)) or 'none'}), got {item!r}")
    add(path, {**stamp(), "accepted": item, "reason": reason})


def read(path: Path) -> dict[tuple[str, str], list[Entry]]:
    """Return the entries by item and by what was measured where, oldest first.

    Raises:
        ValueError: A line is no record; the message names it.
    """
    found: dict[tuple[str, str], list[Entry]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = dict(json.loads(line))
            if "accepted" in record:
                _accept(found, record["accepted"], str(record["reason"]))
            else:
                about = {name: value for name, value in record.items() if name not in MEASURED | {"item", "group"}}
                key = str(record["item"]), ", ".join(f"{name} {value}" for name, value in sorted(about.items()))
                found.setdefault(key, []).append(_entry(record))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}:{number}: expected a record of benchmarks.run as JSON, got {line!r:.80} ({error!r:.80}); "
                "remove this line"
            ) from None
    return found


def _entry(record: Mapping[str, Any]) -> Entry:
    values = [float(value) for value in record["all_cpu_s"]]
    if not values or min(values) <= 0:
        raise ValueError("all_cpu_s: expected positive seconds")
    low, high = median_interval(values)
    return Entry(
        at=str(record["at"]),
        commit=str(record["commit"]),
        seconds=float(record["median_cpu_s"]),
        low=low,
        high=high,
        load=float(record["load"]),
    )


def _accept(found: dict[tuple[str, str], list[Entry]], item: str, reason: str) -> None:
    for (name, _), entries in found.items():
        if name == item:
            entries[-1] = entries[-1].accepted(reason)
