"""Look at who owns a folder, without becoming the owner or waiting for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from infinity.storage.backends import s3
from infinity.storage.errors import FileMissingError
from infinity.storage.leases.lease import parsed
from infinity.storage.leases.lease_file import lease_file
from infinity.storage.names import LEASE_FILE
from infinity.storage.places import local_path


@dataclass(frozen=True, slots=True)
class Holder:
    """The owner of a folder as its lease tells.

    Attributes:
        who: User, machine and process.
        since: Time since when, UTC, ISO 8601.
        note: What the owner says of its work.
        silent_s: Seconds since its last sign of life, by the clocks of the store and of this machine.
        is_gone: Whether it has certainly ended, or was silent for more than twice the time that it promised.
    """

    who: str
    since: str
    note: str
    silent_s: float
    is_gone: bool


def holder(folder: str) -> Holder | None:
    """Return who owns a folder; None where nobody does.

    Raises:
        StorageError: The lease cannot be read.
    """
    file = lease_file(folder, path := local_path(folder))
    found = file.read()
    if found is None or (record := parsed(found)).owner is None:
        return None
    try:
        changed = s3.changed(file.uri) if path is None else (path.absolute() / LEASE_FILE).stat().st_mtime
    except (FileMissingError, FileNotFoundError):  # given back at this moment
        return None
    silent_s = max(0.0, time.time() - changed)
    is_gone = record.owner.is_dead or silent_s > 2 * record.silence_s
    return Holder(record.owner.who, record.since, record.note, silent_s, is_gone)
