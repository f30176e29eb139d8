"""Redraw sample pictures, curves, TensorBoard files and the report page of a training from a stored state."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infinity import storage
from infinity.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import SPEC_FILE
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.base import STATE_FOLDER, Session
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.render import render_training
from infinity.reporting.summary import Sheet, TrainingSummary
from infinity.training.checkpoints import KIND, StateStore
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.loaders.latents import LatentBatch
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.metrics import METRICS_FILE, TENSORBOARD_FOLDER, MetricsWriter

SHEET_FILE, PAGE_FILE = "samples.png", "training.html"


@dataclass(frozen=True, slots=True)
class Redrawn:
    """Files that were written.

    Attributes:
        page: URI of the self-contained page.
        sheet: URI of the sample pictures.
        metrics: URI of the logged rows up to that step.
    """

    step: int
    page: str
    sheet: str
    metrics: str


def redraw(
    folder: str, output: str, *, step: int | None = None, prompts: tuple[str, ...] = (), device: str = "cpu"
) -> Redrawn:
    """Draw the samples of a stored state again, and write the metrics up to its step; the run itself is not changed.

    Args:
        folder: Folder of the training with its ``spec.json`` and states; the training may be running.
        output: URI of the folder to write to.
        step: Step of the state; None for the newest one that is undamaged.
        prompts: Prompts for a transformer; empty for those of the run.

    Raises:
        CheckpointError: There is no state of this step, or it is damaged.
        LostStateError: States are there, but none can be loaded.
        ValueError: The folder is not that of a training.
    """
    spec = load_spec(storage.join(folder, SPEC_FILE))
    if not isinstance(spec, TrainTokenizerSpec | TrainTransformerSpec):
        raise ValueError(f"{folder}: expected the folder of a training, found a job of kind {spec.kind!r}")
    states = StateStore(storage.join(folder, STATE_FOLDER), background=False)
    stored = _read(states, step)  # into memory at once, since a running training soon deletes the state
    session = _session(spec, prompts, torch.device(device))
    state = session.state
    state.load(stored.tensors, stored.extra, where=stored.uri)
    session.ready(lambda _: None)
    samples = session.draw()
    sheet = storage.join(output, SHEET_FILE)
    storage.write_bytes(sheet, samples.png)
    metrics = storage.join(output, METRICS_FILE)
    storage.write_text(metrics, "")
    storage.delete_tree(storage.join(output, TENSORBOARD_FOLDER))
    with MetricsWriter(output, period_s=float("inf")) as writer:
        for number in range(1, len(state.history) + 1):
            writer.write(state.history[:number])
    summary = TrainingSummary(
        stage=spec.stage,
        title=spec.stage.capitalize(),
        metrics=metrics,
        final={name: value for name, value in state.history[-1].items() if name != "step"} if state.history else {},
        samples=(Sheet(image=sheet, title=f"step {state.step}", captions=samples.captions),),
        num_parameters=sum(weight.numel() for weight in session.task.module.parameters()),
        num_steps=state.step,
        rows=samples.rows,
    )
    page = storage.join(output, PAGE_FILE)
    about = f"State of step {state.step} of {spec.loop.num_steps}, {stored.uri}."
    storage.write_text(page, render_training(summary, about, state.notes))
    return Redrawn(state.step, page, sheet, metrics)


def _read(states: StateStore, step: int | None) -> Checkpoint:
    if step is not None:
        if step not in (steps := states.steps()):
            there = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"{states.uri}: no stored state of step {step}; there are: {there}")
        return load_checkpoint(states.folder(step), kind=KIND)
    newest, _ = states.newest()
    if newest is None:
        raise CheckpointError(f"{states.uri}: no stored state; has the training begun?")
    return newest


def _session(
    spec: TrainTokenizerSpec | TrainTransformerSpec, prompts: tuple[str, ...], device: torch.device
) -> Session[PictureBatch] | Session[LatentBatch]:
    """Build the session in this process alone, whatever number of workers the training has."""
    workers = spec.workers.unsharded().replace(num_workers=1, min_workers=None)
    if isinstance(spec, TrainTokenizerSpec):
        if prompts:
            raise ValueError("prompts: a tokenizer draws reconstructions of pictures, not prompts")
        return train_tokenizer.build(spec.replace(workers=workers), ProcessGroup(), device, _silent)
    wanted = spec.replace(workers=workers, prompts=prompts or spec.prompts)
    return train_transformer.build(wanted, ProcessGroup(), device, _silent)


def _silent(_share: float, _message: str) -> None:
    """Ignore the progress of the preparation."""
