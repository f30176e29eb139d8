"""One owner of a folder: a lease that is kept alive by heart-beats, and a token that every write in the folder checks.

The lease is the file ``.lease`` in the folder. Its token rises by one with every owner. Another process takes over:

- at once where the owner gave the folder back, or is certainly dead: a process of this machine that is gone;
- else when no heart-beat came for ``silence_s`` seconds, as the one who waits has seen itself, by its own clock that
  never jumps. The clocks of two machines are never compared, and time in which the one who waits was itself stopped,
  or could not read the file, does not count.

An owner that was only stopped finds the other's token before its next write, and raises instead of writing. On a disk a
lock keeps the lease as it is from the look at the token until the file has its name, so that nothing can come between.
A bucket has no locks: the look comes right before the request, and what is already on its way arrives.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from infinity.config import Config, ConfigError
from infinity.storage.errors import FileChangedError, LeaseHeldError, LeaseLostError, StorageError
from infinity.storage.leases.lease_file import Found, LeaseFile, lease_file
from infinity.storage.leases.owner import Owner, this_process
from infinity.storage.places import local_path

logger = logging.getLogger(__name__)

_BEATS_PER_SILENCE = 6
_LOOKS_PER_SILENCE = 30
_NOTE_LENGTH = 300

_active: set[str] = set()
"""Nonces of the leases that this process keeps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRecord(Config):
    """Content of the lease file.

    Attributes:
        token: Number of this owner; every owner has a higher one than those before.
        nonce: Random text of this owner alone.
        owner: Process of the owner; None where it gave the folder back.
        since: Time since when, for people.
        beat: Number of the heart-beat.
        silence_s: Longest silence of the owner in seconds: it promises a heart-beat several times within.
        note: Progress of the work, for people.
    """

    token: int
    nonce: str
    owner: Owner | None
    since: str
    beat: int
    silence_s: float
    note: str = ""

    @property
    def sentence(self) -> str:
        """Sentence that says who owns the folder, since when, and at which step."""
        who = "nobody" if self.owner is None else self.owner.who
        return f"{who}, since {self.since}" + (f" ({self.note})" if self.note else "")

    def data(self) -> bytes:
        """Return the lease as bytes of its file."""
        return self.dump().encode()


UNREADABLE = LeaseRecord(token=0, nonce="", owner=None, since="an unknown time", beat=0, silence_s=60.0)
"""Record for a damaged file, which is taken over only when it does not change."""


@dataclass(frozen=True, slots=True)
class LeaseFence:
    """The owner's pass, which may travel to its workers: every write of theirs checks it.

    Attributes:
        folder: Path or S3 URI of the folder.
    """

    folder: str
    file: str
    token: int
    nonce: str

    def check(self) -> None:
        """Require that the owner is still the owner.

        Raises:
            LeaseLostError: Another process is the owner; the message says which.
            StorageError: The lease cannot be read.
        """
        self._check(self._lease_file().read())

    def passing(self) -> Iterator[None]:
        """Check the owner, and on a disk keep it the owner during the step of this generator.

        Raises:
            LeaseLostError: Another process is the owner; the message says which.
        """
        yield from self._lease_file().holding(self._check)

    def _lease_file(self) -> LeaseFile:
        return lease_file(self.folder, local_path(self.folder))

    def _check(self, found: Found | None) -> None:
        record = None if found is None else parsed(found)
        if record is not None and (record.token, record.nonce) == (self.token, self.nonce):
            return
        now = "it was finished or given back" if record is None or not record.nonce else f"now it has {record.sentence}"
        raise LeaseLostError(
            f"{self.folder}: this process had this folder (token {self.token}), but gave no sign of life for too long, "
            f"so that another one took over: {now}. Nothing was written after that; start again to wait for the result"
        )


def parsed(found: Found) -> LeaseRecord:
    """Return what a lease file holds; ``UNREADABLE`` where it is damaged."""
    try:
        return LeaseRecord.parse(found[0])
    except (ConfigError, UnicodeDecodeError):
        return UNREADABLE


class Lease:
    """A folder that this process owns until ``release``; a thread keeps it alive.

    Attributes:
        fence: The pass of those who write.
        lost: Event that is set when another process has taken over.
    """

    def __init__(self, file: LeaseFile, record: LeaseRecord, version: str) -> None:
        self.fence = LeaseFence(file.folder, file.uri, record.token, record.nonce)
        self.lost = threading.Event()
        self._file, self._record, self._version = file, record, version
        self._note, self._ended = record.note, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def note(self, text: str) -> None:
        """Tell the progress of the work, which the next heart-beat writes into the lease."""
        self._note = text[:_NOTE_LENGTH]

    def stop(self) -> None:
        """End the heart-beats: others may take over in their time, this process at once."""
        self._ended.set()
        _active.discard(self.fence.nonce)
        self._thread.join()

    def release(self, *, finished: bool, empty: bool = False) -> None:
        """Give the folder back.

        Args:
            finished: Whether nobody will work in it again: the lease goes, too. Else it stays with its token.
            empty: Whether nothing else is in the folder, which then goes, too.

        Raises:
            StorageError: The lease cannot be written; others find out in their time.
        """
        self.stop()
        for _ in range(2):
            try:
                if finished or empty:
                    self._file.remove(self._version, folder_too=empty)
                else:
                    last = self._record.replace(owner=None, beat=self._record.beat + 1)
                    self._file.swap(self._version, last.data())
                return
            except FileChangedError:
                if self._is_lost():
                    return  # else the answer to the last heart-beat was lost

    def _beat(self) -> None:
        pause = self._record.silence_s / _BEATS_PER_SILENCE
        while not self._ended.wait(pause):
            record = self._record.replace(beat=self._record.beat + 1, note=self._note)
            try:
                self._version, self._record = self._file.beat(self._version, record.data()), record
            except FileChangedError:
                if self._is_lost():
                    return
            except StorageError as error:
                logger.warning("no heart-beat: %s", error)

    def _is_lost(self) -> bool:
        """Return whether another process is the owner by now; else only the answer to a heart-beat was lost."""
        try:
            found = self._file.read()
        except StorageError:
            return False  # the next heart-beat will tell
        if found is not None and (record := parsed(found)).nonce == self.fence.nonce:
            self._version, self._record = found[1], record
            return False
        self.lost.set()
        return True


class Waiting:
    """Signs of life of a folder's owner, as a waiting process sees them."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._looked_at = self._silent_s = 0.0

    def is_over(self, found: Found, began: float) -> bool:
        """Return whether the folder may be taken over.

        Args:
            found: Content of the file.
            began: Time when the look at the file began, by a clock that never jumps.
        """
        record = parsed(found)
        if record.nonce and (record.owner is None or record.owner.is_dead or _is_forgotten(record)):
            return True
        if found[1] == self._version:
            # Between two looks there may have been a time when nobody could look, or everybody was stopped.
            self._silent_s += min(began - self._looked_at, 2 * poll_s(record.silence_s))
        else:
            self._version, self._silent_s = found[1], 0.0
        self._looked_at = time.monotonic()
        return self._silent_s >= record.silence_s


def poll_s(silence_s: float) -> float:
    """Return the pause between two looks of a waiting process, in seconds."""
    return silence_s / _LOOKS_PER_SILENCE


def _is_forgotten(record: LeaseRecord) -> bool:
    """Return whether this process owned the folder and could not give it back."""
    return record.nonce not in _active and record.owner is not None and record.owner.is_this_process


def acquire(
    folder: str, *, silence_s: float, wait: bool = True, told: Callable[[LeaseRecord], None] = lambda record: None
) -> Lease:
    """Become the owner of a folder; where another process is, wait until it has ended.

    Args:
        folder: URI.
        silence_s: Longest silence of this owner before others take over, in seconds.
        wait: Wait for another owner, instead of an error.
        told: Callback with what the other owner says of itself, at every look.

    Raises:
        LeaseHeldError: Another process owns the folder, and ``wait`` is off.
        StorageError: The lease cannot be read or written.
    """
    file, waiting = lease_file(folder, local_path(folder)), Waiting()
    while True:
        began = time.monotonic()
        found = file.read()
        if found is None or waiting.is_over(found, began):
            if (lease := _take(file, found, silence_s)) is not None:
                return lease
            time.sleep(poll_s(silence_s))  # somebody was faster, or the owner writes at this moment
            continue
        record = parsed(found)
        if not wait:
            raise LeaseHeldError(
                f"{folder}: is being worked on by {record.sentence}; wait for its end, or end it and start again, "
                "which goes on from what it stored"
            )
        told(record)
        time.sleep(poll_s(record.silence_s))


def _take(file: LeaseFile, found: Found | None, silence_s: float) -> Lease | None:
    """Write the next token; None where somebody was faster, or the owner has woken up."""
    record = LeaseRecord(
        token=(0 if found is None else parsed(found).token) + 1,
        nonce=uuid.uuid4().hex,
        owner=this_process(),
        since=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        beat=0,
        silence_s=silence_s,
    )
    _active.add(record.nonce)  # before another thread can read it
    try:
        return Lease(file, record, file.swap(None if found is None else found[1], record.data()))
    except BaseException as error:
        _active.discard(record.nonce)
        if isinstance(error, FileChangedError):
            return None
        raise
