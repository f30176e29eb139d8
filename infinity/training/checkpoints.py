"""Store and resume the state of a run; states are verified before use, and damage is reported (decision 26).

Layout: a checkpoint folder (`infinity.checkpoint`) for each stored step, ``step-00000000`` and so on. Its marker is
written last, and the sha256 of every file is checked before anything is loaded. The newest two are kept, and an older
one is deleted only after a newer one is committed.

Workers with sharded weights store together: each writes its shard, and the first commits when all have written
(decision 38).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from infinity import storage
from infinity.checkpoint import (
    Checkpoint,
    CheckpointError,
    OpenCheckpoint,
    Piece,
    commit_parts,
    is_committed,
    load_checkpoint,
    open_checkpoint,
    withdraw,
    write_part,
)
from infinity.config import Config
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import own_piece
from infinity.training.host_copies import host_copies
from infinity.training.learner import TrainingError
from infinity.training.state import TrainState

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

KIND = "training-state"
_NAME = re.compile(r"step-(\d{8,})")
_LOOKS = 5
"""Number of attempts to list the stored states while another worker adds and deletes some."""


class LostStateError(TrainingError):
    """A run has stored states, but none can be loaded; it does not restart from step 0 by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StateConfig(Config):
    """Configuration of a stored state: its number of updates."""

    step: int


class _Look(Protocol[T_co]):
    """Function that reads a folder and refuses a damaged one."""

    def __call__(self, uri: str, /, *, kind: str) -> T_co: ...


class StateStore:
    """The stored states of one run.

    Args:
        uri: Folder of the run's states.
        keep: Number of newest states to keep; at least 2, so that a damaged one costs one interval.
        background: Whether tensors are copied and then written by a thread while the training goes on.
        writers: Process group that stores sharded weights together; all its members must create the store and save at
            the same steps. A group of one stores everything.
    """

    def __init__(
        self,
        uri: str,
        *,
        keep: int = 2,
        background: bool = True,
        writers: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
    ) -> None:
        if keep < 2:
            raise ValueError(f"keep: expected at least 2 stored states, got {keep}")
        self.uri, self._keep, self._writers = uri, keep, writers.apart()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state") if background else None
        self._pending: Future[None] | None = None
        self._damaged: set[int] = set()
        self._stored: int | None = None

    def save(self, state: TrainState) -> None:
        """Store the state; in the background this returns once this worker's tensors are copied, or a GPU copies them.

        Before anything changes these tensors ``state.settle`` has to be called.

        Raises:
            StorageError: No space left, refused credentials and the like, of any writer; also of the save before this.
        """
        self.wait()
        facts, step = state.facts(), state.step
        pieces = {name: piece for name, value in state.held() if (piece := own_piece(value, self._writers))}
        if self._pool is None:
            self._write(step, pieces, facts)
            return
        copies = host_copies({name: piece.tensor for name, piece in pieces.items()})
        state.copies = copies
        if any(True for _ in state.module.buffers()):
            state.settle()  # a forward pass may change them

        def write() -> None:
            copies.wait()
            self._write(step, {name: replace(p, tensor=copies.tensors[name]) for name, p in pieces.items()}, facts)

        self._pending = self._pool.submit(write)

    @property
    def has_failed(self) -> bool:
        """Whether the save in the background has failed; ``wait``, or the next save, raises its error."""
        pending = self._pending
        return pending is not None and pending.done() and pending.exception() is not None

    def wait(self) -> None:
        """Wait until the last save is committed.

        Raises:
            StorageError: The state could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def newest(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """Load the newest undamaged state, and return it with notes about newer ones that are damaged.

        A worker whose driver died may still add and delete states during this call; then the new ones are tried.

        Raises:
            LostStateError: Updates were done, but no stored state can be loaded.
        """
        return self._newest(load_checkpoint)

    def newest_place(self) -> tuple[str | None, tuple[str, ...]]:
        """Return the URI of the state that ``newest`` would load; files are verified, but no tensor is kept.

        Raises:
            LostStateError: Updates were done, but no stored state can be loaded.
        """
        found, notes = self._newest(_verified)
        return None if found is None else found.uri, notes

    def _newest(self, look: _Look[T]) -> tuple[T | None, tuple[str, ...]]:
        self.wait()
        for _ in range(_LOOKS):
            steps = self.steps()
            found, notes = self._whole(steps, look)
            if found is not None or self.steps() == steps:
                break
        if found is None and any(step > 0 for step in steps):
            reasons = "; ".join(notes) or "none of them was finished"
            raise LostStateError(
                f"{self.uri}: this run has done {max(steps)} steps or more, but no stored state of it can be loaded: "
                f"{reasons}. Restore one of the folders from a copy; to begin again from step 0 on purpose, delete "
                "this folder"
            )
        return found, tuple(notes)

    def _whole(self, steps: list[int], look: _Look[T]) -> tuple[T | None, list[str]]:
        """Return the newest of these states that can be loaded, and notes on why newer ones cannot."""
        notes: list[str] = []
        for step in reversed(steps):
            folder = self.folder(step)
            if not is_committed(folder):
                notes.append(f"the stored state of step {step} was never finished, as when a save is cut off")
                continue
            try:
                found = look(folder, kind=KIND)
            except (CheckpointError, storage.FileMissingError) as error:
                self._damaged.add(step)
                notes.append(f"the stored state of step {step} is damaged and was not loaded ({error})")
                continue
            if notes:
                notes.append(f"went on from the stored state of step {step} instead")
            return found, notes
        return None, notes

    def newest_step(self) -> int:
        """Return the step of the newest finished state, -1 if there is none; nothing is verified."""
        return max((step for step in self.steps() if is_committed(self.folder(step))), default=-1)

    def restore(self, state: TrainState, uri: str) -> None:
        """Load the stored state of this folder; of sharded weights a worker reads its own rows.

        Raises:
            CheckpointError: The state is damaged.
            ValueError: The state belongs to another model.
        """
        found = open_checkpoint(uri, kind=KIND)
        if self._writers.size == 1:
            found.verify()  # nothing is changed by a state that is damaged
        state.load(found.tensors, found.extra, where=uri)
        self._stored = state.step

    def close(self) -> None:
        """Wait for the last save and end the thread."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def _write(self, step: int, pieces: dict[str, Piece], facts: dict[str, Any]) -> None:
        """Write a state; an error says which state is stored instead."""
        try:
            self._write_together(step, pieces, facts)
        except storage.StorageError as error:
            stored = "no state is stored yet" if self._stored is None else f"stored is step {self._stored}"
            raise type(error)(f"the state of step {step} could not be stored: {error}; {stored}") from error
        self._stored = step

    def _write_together(self, step: int, pieces: dict[str, Piece], facts: dict[str, Any]) -> None:
        """Write a state in three steps that all writers take together: begin, write, commit."""
        folder, writers = self.folder(step), self._writers
        begun = self._together(lambda: writers.leads and self._begin(step))[0]
        if not begun:
            return  # the same step of the same run; replacing it would leave a moment without it
        parts = self._together(lambda: write_part(folder, pieces, writer=writers.rank, num_writers=writers.size))

        def commit() -> None:
            if writers.leads:
                commit_parts(folder, parts, kind=KIND, config=StateConfig(step=step), extra=facts)
                self._drop_older(step)

        self._together(commit)

    def _begin(self, step: int) -> bool:
        """Prepare the folder of a state; return False if a good state is there already."""
        folder = self.folder(step)
        if is_committed(folder) and step not in self._damaged:
            return False
        withdraw(folder)
        return True

    def _drop_older(self, step: int) -> None:
        self._damaged.discard(step)
        committed = [each for each in self.steps() if each not in self._damaged and is_committed(self.folder(each))]
        for old in [each for each in self.steps() if each < min(committed[-self._keep :])]:
            storage.delete_tree(self.folder(old))

    def _together(self, act: Callable[[], T]) -> list[T]:
        """Run a function in every writer, and return all results; if one fails, all fail.

        Raises:
            StorageError: This writer, or another one, failed.
        """
        if self._writers.size == 1:
            return [act()]
        given: T | None = None
        failed: Exception | None = None
        try:
            given = act()
        except Exception as error:  # told to the others first
            failed = error
        answers = self._writers.gather((given, None if failed is None else f"{type(failed).__name__}: {failed}"))
        if failed is not None:
            raise failed
        for rank, (_, trouble) in enumerate(answers):
            if trouble is not None:
                raise storage.StorageError(f"worker {rank} could not store its part of the state: {trouble}")
        return [each for each, _ in answers]

    def folder(self, step: int) -> str:
        """Return the URI of the state of a step, whether it exists or not."""
        return storage.join(self.uri, f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Return the steps of all folders, finished or not, ascending."""
        prefix = storage.join(self.uri, "")
        names = {uri[len(prefix) :].lstrip("/").split("/")[0] for uri in storage.list_files(self.uri)}
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def _verified(uri: str, /, *, kind: str) -> OpenCheckpoint:
    found = open_checkpoint(uri, kind=kind)
    found.verify()
    return found
