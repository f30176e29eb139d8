"""One worker of a training: it resumes from the stored state, trains to the end, and writes metrics and samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from infinity import storage
from infinity.jobs.cluster.heap import expand_segments
from infinity.jobs.ownership import STORE_PATIENCE_S
from infinity.jobs.progress import Progress
from infinity.jobs.training.base import (
    MODEL_FOLDER,
    PREPARATION,
    SAMPLES_FOLDER,
    STATE_FOLDER,
    OnProgress,
    Samples,
    Session,
    TrainSpec,
)
from infinity.jobs.training.elastic import workforce
from infinity.reporting.plots.bands import judge
from infinity.reporting.plots.reference import ReferenceCurves, curves_for, departures
from infinity.storage import LeaseLostError
from infinity.storage.fences import fenced
from infinity.training.checkpoints import LostStateError, StateStore
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import (
    InterruptedTraining,
    LoopConfig,
    NonFiniteLossError,
    TrainingError,
)
from infinity.training.loop import Callbacks, train
from infinity.training.metrics import MetricsWriter
from infinity.training.state import MetricRow, TrainState
from infinity.training.tokenizer.collapse import CollapseError
from infinity.transformer.number_formats.quantized import weight_count

logger = logging.getLogger(__name__)

STOPS: dict[str, type[Exception]] = {
    c.__name__: c
    for c in (NonFiniteLossError, CollapseError, InterruptedTraining, LostStateError, LeaseLostError, TrainingError)
}
"""Errors by name that a restart would raise again."""

_SHARED = (NonFiniteLossError, InterruptedTraining, LostStateError)
"""Errors that follow from numbers that the workers exchanged, so that all workers raise them."""

PATIENCE_S = 60.0
"""Longest wait in seconds for the others to raise the same error, if each worker finds it by itself."""


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one worker of Ray Train; the return value of the first worker is the outcome of the training."""
    import ray.train.torch

    return work_on(task, ProcessGroup.current(), ray.train.torch.get_device())


def work_on(task: dict[str, Any], group: ProcessGroup, device: torch.device) -> dict[str, Any]:
    """Run one worker of a process group on its device, with the threads that the spec gives it."""
    spec, sink = task["spec"], task["sink"]
    ends = group.apart()
    torch.set_num_threads(spec.workers.threads)
    expand_segments(device)

    def tell(share: float, message: str) -> None:
        if group.leads:
            sink(Progress(min(1.0, share), message))

    try:
        with fenced(task["fence"]), storage.patient(STORE_PATIENCE_S, lambda text: tell(0.0, text)):
            task["fence"].check()
            session: Session[Any] = task["build"](spec, group, device, lambda s, m: tell(PREPARATION * s, m))
            return train_session(spec, session, group, tell, task["stop"])
    except (TrainingError, LeaseLostError, storage.PlaceRefusedError) as error:
        # An outcome is for what all workers found. If this one alone did, the others wait for it in the next sum of
        # gradients; an error makes Ray Train end them all, and it is what people are told.
        if not isinstance(error, _SHARED) and not ends.all_come(PATIENCE_S):
            raise
        kind = type(error).__name__
        found = f"training stopped: {error}" if isinstance(error, storage.PlaceRefusedError) else str(error)
        return {"stopped": kind if kind in STOPS else TrainingError.__name__, "message": found}


def train_session(
    spec: TrainSpec, session: Session[Any], group: ProcessGroup, tell: OnProgress, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Resume from the newest stored state, train to the end and export; return the outcome in the first worker."""
    state, folder, config = session.state, spec.folder, spec.loop

    def note(text: str) -> None:
        state.notes.append(text)
        logger.warning("%s", text)
        tell(_share(state, config), text)

    with storage.patient(STORE_PATIENCE_S, note), _states(spec, group if session.joint else ProcessGroup()) as store:
        resume(state, store, group, note)
        session.ready(note)
        if (force := workforce(spec.workers, group.size)) and (state.step or group.size < spec.workers.num_workers):
            note(f"went on after step {state.step} with {force}" if state.step else f"began with {force}")
        samples = _advance(spec, session, group, store, WorkerMessages(tell, note, stop))
    state.settle()  # the last save may not have copied its tensors yet, in whose place averaged ones are put
    if group.leads or session.joint:
        session.export(storage.join(folder, MODEL_FOLDER))
        samples = samples or session.draw()
    if not group.leads:
        return {}
    return {
        "metrics": storage.join(folder, "metrics.jsonl"),
        "final": {name: value for name, value in state.history[-1].items() if name != "step"},
        "captions": samples.captions if samples else (),
        "rows": samples.rows if samples else (),
        "num_parameters": weight_count(session.task.module),
        "notes": state.notes,
    }


@dataclass(frozen=True, slots=True)
class WorkerMessages:
    """Messages between a worker and the driver.

    Attributes:
        tell: Reports progress, from the first worker.
        note: Records a sentence about what should not happen.
        stop: Returns whether the driver asked to stop.
    """

    tell: OnProgress
    note: Callable[[str], None]
    stop: Callable[[], bool]


def _share(state: TrainState, config: LoopConfig) -> float:
    return PREPARATION + (1.0 - PREPARATION) * state.step / config.num_steps


def _advance(
    spec: TrainSpec, session: Session[Any], group: ProcessGroup, store: StateStore, messages: WorkerMessages
) -> Samples | None:
    """Train to the end, and return the last sheet of samples, if one was drawn."""
    state, folder, config = session.state, spec.folder, spec.loop
    drawn: Samples | None = None
    with _metrics_writer(group, folder, state) as write:
        reference, force = curves_for(spec.kind, spec.to_json()), workforce(spec.workers, group.size)

        def log(now: TrainState) -> None:
            write(now)
            words = ", ".join(filter(None, (sentence(now.history[-1], config.num_steps), force)))
            messages.tell(_share(now, config), f"{words}{judgement(now.history, reference)}")

        def sample(now: TrainState) -> None:
            nonlocal drawn
            samples = session.draw() if group.leads or session.joint else None
            drawn = samples  # also where it is not written: all that draw together must agree on whether it was done
            if samples is not None and group.leads:
                storage.write_bytes(storage.join(folder, SAMPLES_FOLDER, f"step-{now.step:08d}.png"), samples.png)

        def save(now: TrainState) -> None:
            if group.leads or session.joint:
                store.save(now)

        train(
            state,
            session.task,
            session.loader,
            config,
            spec.optimizer,
            Callbacks(
                log=log,
                sample=sample,
                save=save,
                rewind=lambda now: resume(now, store, group, messages.note),
                note=messages.note,
                # A worker whose last save failed asks all to store again, where all learn why.
                stop=lambda: store.has_failed or (group.leads and messages.stop()),
            ),
            seed=spec.seed,
            group=group,
        )
    return drawn


def sentence(row: MetricRow, num_steps: int) -> str:
    """Describe a logged step in words; after a quarter of the steps with a remark on metrics out of their usual band.

    Before that every training looks broken.
    """
    words = [f"step {row['step']} of {num_steps}", f"loss {row['loss']:.4f}"]
    if "bit_accuracy" in row:
        words.append(f"bit accuracy {row['bit_accuracy']:.3f}")
    if "psnr_db" in row:
        words.append(f"PSNR {row['psnr_db']:.1f} dB")
    if row["step"] >= num_steps / 4:
        for name, value in row.items():
            band = judge(name, value)
            if band is not None and band.verdict == "broken":
                words.append(f"{name.replace('_', ' ')} {value:.2g}: {band.text}")
    words += [f"{row['pictures_per_s']:.0f} pictures/s", f"about {row['rest_s'] / 60:.0f} min to go"]
    return ", ".join(words)


def judgement(history: Sequence[MetricRow], reference: ReferenceCurves | None) -> str:
    """Say where a running training is outside its recipe's band, or return an empty text."""
    if reference is None:
        return ""
    curves = {name: tuple((row["step"], row[name]) for row in history if name in row) for name in reference.bands}
    outside = departures({name: points for name, points in curves.items() if points}, reference)
    if not outside:
        return ""
    return f"; {outside[0].sentence} (recipe {reference.recipe}); `infinity diagnose` names the likeliest cause"


@contextmanager
def _states(spec: TrainSpec, writers: ProcessGroup) -> Iterator[StateStore]:
    store = StateStore(storage.join(spec.folder, STATE_FOLDER), writers=writers)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _metrics_writer(group: ProcessGroup, folder: str, state: TrainState) -> Iterator[Callable[[TrainState], None]]:
    if not group.leads:
        yield lambda _state: None
        return
    with MetricsWriter(folder, first_step=state.step) as writer:
        yield lambda now: writer.write(now.history)


def resume(state: TrainState, store: StateStore, group: ProcessGroup, note: Callable[[str], None]) -> None:
    """Resume from the newest undamaged state, if there is one; all workers load the same.

    Raises:
        LostStateError: There are states, but none can be loaded.
    """
    found: tuple[str | None, str | None] = (None, None)
    notes: tuple[str, ...] = ()
    if group.leads:
        try:
            newest, notes = store.newest_place()
            found = (newest, None)
        except LostStateError as error:
            found = (None, str(error))
    uri, lost = group.gather(found)[0]
    if lost is not None:
        raise LostStateError(lost)
    if uri is not None:
        said = state.notes
        store.restore(state, uri)
        state.notes = [*state.notes, *(text for text in said if text not in state.notes)]
        logger.info("resumed at step %d", state.step)
    for text in notes:
        note(text)
