"""The stored states of a run: written whole, verified before they are believed, never silently given up.

Layout: a checkpoint folder (`infinity.checkpoint`) for each stored step, ``step-00000000`` and so on. Its marker is
written last, and the sha256 of every file is checked before anything is loaded. The newest two are kept, and an older
one goes only after a newer one is committed.
"""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from infinity import storage
from infinity.checkpoint import Checkpoint, CheckpointError, is_committed, load_checkpoint, save_checkpoint
from infinity.config import Config
from infinity.training.loop import TrainingError
from infinity.training.state import TrainState

KIND = "training-state"
_NAME = re.compile(r"step-(\d{8,})")
_LOOKS = 5
"""How often stored states are listed while another worker adds and drops some."""


class LostStateError(TrainingError):
    """A run has stored states, but none that can be loaded; it does not begin again by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StateConfig(Config):
    """What a stored state says of itself: how many updates it has seen."""

    step: int


class StateStore:
    """The stored states of one run.

    Args:
        uri: Folder of the run's states.
        keep: How many of the newest are kept; at least 2, so that a damaged one costs one interval.
        background: Whether tensors are copied and then written by a thread while the training goes on.
    """

    def __init__(self, uri: str, *, keep: int = 2, background: bool = True) -> None:
        if keep < 2:
            raise ValueError(f"keep: expected at least 2 stored states, got {keep}")
        self.uri, self._keep = uri, keep
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state") if background else None
        self._pending: Future[None] | None = None
        self._damaged: set[int] = set()

    def save(self, state: TrainState) -> None:
        """Store the state; in the background this returns when the tensors are copied.

        Raises:
            StorageError: No space left, refused credentials and the like; also of the save before this one.
        """
        self.wait()
        facts, step = state.facts(), state.step
        if self._pool is None:
            self._write(step, dict(state.tensors()), facts)
            return
        copies = {name: value.to("cpu", copy=True) for name, value in state.tensors()}
        self._pending = self._pool.submit(self._write, step, copies, facts)

    def wait(self) -> None:
        """Until what was saved is committed.

        Raises:
            StorageError: It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def newest(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """The newest stored state that is whole, and what is to be said about newer ones that are not.

        A worker whose driver died may still store states, and drop older ones while they are looked at here; then there
        are others, which are looked at in their turn.

        Raises:
            LostStateError: Updates were done, but no stored state can be loaded.
        """
        self.wait()
        for _ in range(_LOOKS):
            steps = self.steps()
            found, notes = self._whole(steps)
            if found is not None or self.steps() == steps:
                break
        if found is None and any(step > 0 for step in steps):
            told = "; ".join(notes) or "none of them was finished"
            raise LostStateError(
                f"{self.uri}: this run has done {max(steps)} steps or more, but no stored state of it can be loaded: "
                f"{told}. Restore one of the folders from a copy; to begin again from step 0 on purpose, delete this "
                "folder"
            )
        return found, tuple(notes)

    def _whole(self, steps: list[int]) -> tuple[Checkpoint | None, list[str]]:
        """The newest of these states that can be loaded, and why newer ones cannot."""
        notes: list[str] = []
        for step in reversed(steps):
            folder = self.folder(step)
            if not is_committed(folder):
                notes.append(f"the stored state of step {step} was never finished, as when a save is cut off")
                continue
            try:
                found = load_checkpoint(folder, kind=KIND)
            except (CheckpointError, storage.FileMissingError) as error:
                self._damaged.add(step)
                notes.append(f"the stored state of step {step} is damaged and was not loaded ({error})")
                continue
            if notes:
                notes.append(f"went on from the stored state of step {step} instead")
            return found, notes
        return None, notes

    def newest_step(self) -> int:
        """Step of the newest finished state, -1 where there is none; nothing is verified."""
        return max((step for step in self.steps() if is_committed(self.folder(step))), default=-1)

    def restore(self, state: TrainState, uri: str) -> None:
        """Take over the stored state in this folder.

        Raises:
            CheckpointError: It is damaged.
            ValueError: It belongs to another model.
        """
        found = load_checkpoint(uri, kind=KIND)
        state.load(found.tensors, found.extra, where=uri)

    def close(self) -> None:
        """Wait for the last save and end the thread."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def _write(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        folder = self.folder(step)
        if is_committed(folder) and step not in self._damaged:
            return  # the same step of the same run; replacing it would leave a moment without it
        save_checkpoint(folder, kind=KIND, config=StateConfig(step=step), tensors=tensors, extra=facts)
        self._damaged.discard(step)
        committed = [each for each in self.steps() if each not in self._damaged and is_committed(self.folder(each))]
        for old in [each for each in self.steps() if each < min(committed[-self._keep :])]:
            storage.delete_tree(self.folder(old))

    def folder(self, step: int) -> str:
        """URI of the stored state of a step, whether it is there or not."""
        return storage.join(self.uri, f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Steps of all folders, finished or not, ascending."""
        prefix = storage.join(self.uri, "")
        names = {uri[len(prefix) :].lstrip("/").split("/")[0] for uri in storage.list_files(self.uri)}
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
