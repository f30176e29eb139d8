"""Announces that the disk of the runs or of the local stack is nearly full, before a run ends for want of room."""

import hashlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from prefect.events import emit_event

from infinity import storage
from infinity.jobs.upkeep.fleet import fleet
from infinity.jobs.upkeep.inventory import take_inventory
from infra.settings import settings

DISK_NEARLY_FULL = "infinity.disk.nearly-full"
"""Name of the event; infra/automations/tell-of-full-disks.yaml waits for it."""
AGAIN_S = 86_400.0
"""Seconds until people are told once more of a disk that is still nearly full."""
SHOWN_RUNS = 5
TOLD = "disks-told"
"""Folder within the state of the stack with an empty file for each disk that people were told of."""


def tell_of_full_disks() -> list[str]:
    """Emit an event for every disk with too little room, at most once a day each, and return what it says.

    Disks are those of the root of runs, where that is a folder, and of the state of the local stack. What is too little
    is INFINITY_DISK_WARNING_SHARE of the disk.
    """
    said = []
    for place in _places():
        usage = shutil.disk_usage(place)
        marker = settings().state / TOLD / hashlib.sha256(str(place).encode()).hexdigest()[:16]
        if usage.free >= settings().disk_warning_share * usage.total:
            marker.unlink(missing_ok=True)  # the next time is news again
            continue
        if marker.exists() and time.time() - marker.stat().st_mtime < AGAIN_S:
            continue
        summary = f"{_gigabytes(usage.free)} of {_gigabytes(usage.total)} are free at {place}; {_fullest(place)}"
        host = socket.gethostname()
        resource = {"prefect.resource.id": f"infinity.disk.{host}.{marker.name}", "prefect.resource.name": str(place)}
        emit_event(event=DISK_NEARLY_FULL, resource=resource, payload={"host": host, "summary": summary})
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        said.append(summary)
    return said


def _places() -> Iterator[Path]:
    """Yield a folder of every disk that is looked at, each disk once."""
    seen = set[int]()
    for place in (storage.local_path(settings().runs), settings().state):
        if place is not None and place.exists() and (disk := place.stat().st_dev) not in seen:
            seen.add(disk)
            yield place.resolve()


def _fullest(place: Path) -> str:
    """Return which runs fill a disk, the largest first, and what to do."""
    runs = storage.local_path(settings().runs)
    if runs is None or not runs.exists() or runs.stat().st_dev != place.stat().st_dev:
        return "no run lies there; see what other programs left"
    try:
        sizes = sorted(((run.num_bytes, run.name) for run in fleet(take_inventory(settings().runs))), reverse=True)
    except (ValueError, storage.StorageError) as error:  # the disk is told of all the same
        return f"its runs cannot be listed ({error})"
    named = ", ".join(f"{name} {_gigabytes(size)}" for size, name in sizes[:SHOWN_RUNS])
    return f"the largest runs are {named or 'none'}; `infinity gc {settings().runs}` lists what may go"


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:,.1f} GB"
