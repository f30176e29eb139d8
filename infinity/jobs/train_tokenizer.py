"""Train a tokenizer on the pictures of a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from infinity import storage
from infinity.checkpoint import load_checkpoint, load_weights
from infinity.data.batches import BatchIds, BatchPlan, load_images
from infinity.data.manifest import Manifest
from infinity.data.pictures import compose_sheet
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import is_done, load_report
from infinity.jobs.training import Samples, Session, Told, TrainReport, TrainSpec, run_training
from infinity.scales import Resolution
from infinity.tokenizer.pixels import to_images, to_pixels
from infinity.tokenizer.saved import KIND, save_tokenizer
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.collapse import CollapseConfig
from infinity.training.ema import Ema, averaged
from infinity.training.optimizer import make_optimizer
from infinity.training.parallel import Team
from infinity.training.pictures import PictureBatch, PictureFeed
from infinity.training.state import TrainState, generator_for
from infinity.training.tokenizer_step import TokenizerLearner, TokenizerLosses

SHEET_SIDE_PX = 128
"""Small pictures are magnified to about this side on a sheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTokenizerSpec(TrainSpec):
    """What a tokenizer is trained on, and how.

    Attributes:
        model: Shape of the tokenizer.
        losses: Weights of the loss.
        collapse: When the bits count as collapsed.
        start_from: URI of a tokenizer of the same shape to start from, or None for random weights.
        num_samples: Pictures on a sheet of reconstructions.
    """

    kind: ClassVar[str] = "tokenizer"

    model: TokenizerConfig
    losses: TokenizerLosses = field(default_factory=TokenizerLosses)
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    start_from: str | None = None
    num_samples: int = 8
    stage: str = "tokenizer"


def run(spec: TrainTokenizerSpec, *, progress: ProgressSink = silent) -> TrainReport:
    """Train; a finished spec is not trained again, an interrupted one goes on from its last checkpoint.

    Raises:
        ValueError: The data set or the start checkpoint does not fit the spec.
        StorageError: A file cannot be read or written.
        TrainingError: The training had to stop.
    """
    if is_done(spec):
        return load_report(spec, TrainReport)
    check(spec)
    return run_training(spec, build, "Tokenizer", progress)


def check(spec: TrainTokenizerSpec) -> None:
    """Find before any worker starts what can never work."""
    manifest = Manifest.load(spec.manifest)
    BatchPlan(manifest, "train", spec.loop.batch_size)
    for ratio in {float(value) for value in manifest.aspect_ratios}:
        spec.resolution.schedule(ratio)
    if spec.start_from is not None:
        _start(Tokenizer(spec.model), spec.start_from)


def build(spec: TrainTokenizerSpec, team: Team, device: torch.device, told: Told) -> Session[PictureBatch]:
    """Make the training ready in one worker."""
    told(0.0, "reading the data set")
    manifest = Manifest.load(spec.manifest)
    tokenizer = Tokenizer(spec.model)
    tokenizer.init_weights(generator_for(spec.seed, "weights"))
    if spec.start_from is not None:
        _start(tokenizer, spec.start_from)
    tokenizer.to(device)
    state = TrainState(
        module=tokenizer,
        optimizer=make_optimizer(tokenizer, spec.optimizer),
        ema=None if spec.loop.ema_decay is None else Ema(tokenizer, spec.loop.ema_decay),
    )
    plan = BatchPlan(manifest, "train", spec.loop.batch_size, spec.seed, spec.order)
    feed = PictureFeed(
        manifest,
        plan,
        spec.resolution,
        spec.model.stride_px,
        team=team,
        num_parts=spec.loop.num_parts,
        num_steps=spec.loop.num_steps,
        reading=spec.reading,
        augment=spec.augment,
    )
    ids = sample_rows(manifest, spec.num_samples)
    extra = {"spec": spec.digest(), "stage": spec.stage, "num_steps": spec.loop.num_steps}

    def export(uri: str) -> None:
        with averaged(tokenizer, state.ema):
            save_tokenizer(uri, tokenizer, extra=extra)

    return Session(
        state=state,
        learner=TokenizerLearner(tokenizer, spec.losses, spec.collapse),
        feed=feed,
        draw=lambda: _draw(tokenizer, state, manifest, ids, spec.resolution),
        export=export,
    )


def sample_rows(manifest: Manifest, number: int) -> BatchIds:
    """The first pictures of the commonest aspect ratio, of the validation split where it has any."""
    rows = manifest.rows("validation")
    rows = rows if len(rows) else manifest.rows("train")
    ratios = Counter(float(manifest.aspect_ratios[row]) for row in rows)
    ratio = max(ratios, key=lambda value: (ratios[value], -abs(value - 1.0)))
    return BatchIds(ratio, tuple(int(row) for row in rows if manifest.aspect_ratios[row] == ratio)[:number])


def _draw(
    tokenizer: Tokenizer, state: TrainState, manifest: Manifest, ids: BatchIds, resolution: Resolution
) -> Samples:
    """Originals above their reconstructions."""
    schedule = resolution.schedule(ids.aspect_ratio)
    size_px = schedule.image_size_px(tokenizer.config.stride_px)
    originals = torch.from_numpy(load_images(manifest, ids.rows, size_px))
    device = next(tokenizer.parameters()).device
    with averaged(tokenizer, state.ema):
        rebuilt = to_images(tokenizer.reconstruct(to_pixels(originals, device), schedule))
    pictures = [*originals.numpy(), *rebuilt.numpy()]
    return Samples(compose_sheet(pictures, columns=len(ids.rows), enlarge=max(1, SHEET_SIDE_PX // size_px[0])))


def _start(tokenizer: Tokenizer, uri: str) -> None:
    """Fill a tokenizer from a checkpoint of the same shape.

    Raises:
        ValueError: A checkpoint of another shape; the fields that differ are named.
    """
    checkpoint = load_checkpoint(uri, kind=KIND)
    ours, theirs = tokenizer.config.to_json(), TokenizerConfig.from_json(checkpoint.config, where=uri).to_json()
    free = {"inverse_temperature"}  # a setting of the loss, not of the weights
    if differing := [name for name in ours if ours[name] != theirs[name] and name not in free]:
        facts = ", ".join(f"{name} is {theirs[name]} there and {ours[name]} here" for name in differing)
        raise ValueError(f"{storage.absolute(uri)}: cannot start from a tokenizer of another shape: {facts}")
    load_weights(tokenizer, checkpoint.tensors, where=uri)
