"""Job: train a tokenizer on the pictures of a data set, optionally against a discriminator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint import is_committed, load_checkpoint, load_weights, save_checkpoint
from infinity.convert import tokenizer_from_published
from infinity.convert.files import PICKLES, read_tokenizer_file
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import compose_sheet
from infinity.data.loading.batches import BatchIds, BatchPlan, load_images
from infinity.data.loading.draws import key_of
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import is_done, load_report
from infinity.jobs.training.base import OnProgress, Samples, Session, TrainReport, TrainSpec, weightings
from infinity.jobs.training.driver import run_training
from infinity.perception.lpips import Lpips, load_lpips
from infinity.scales import Resolution
from infinity.storage.pinned import NoDownloadError
from infinity.tokenizer.pixels import to_images, to_pixels
from infinity.tokenizer.saved import KIND, save_tokenizer
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.adversary import Adversary
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.ema import Ema, averaged
from infinity.training.learner import BatchLoader, TrainingError
from infinity.training.loaders.mixing import MixedLoader, MixedResolution
from infinity.training.loaders.pictures import LoaderConfig, PictureBatch, PictureLoader
from infinity.training.optimizers.optimizer import make_optimizer
from infinity.training.state import TrainState, generator_for
from infinity.training.tokenizer.collapse import CollapseConfig
from infinity.training.tokenizer.discriminator import AdversarialConfig, PatchDiscriminator, adversary_of
from infinity.training.tokenizer.objective import PerceptualConfig, TokenizerLosses, TokenizerTask

SHEET_SIDE_PX = 128
"""Side to which small pictures are enlarged on a sheet."""
DISCRIMINATOR_FOLDER, DISCRIMINATOR_KIND = "discriminator", "discriminator"
LPIPS = "lpips"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTokenizerSpec(TrainSpec):
    """Spec of a tokenizer's training.

    Attributes:
        losses: Weights of the loss terms.
        collapse: Thresholds of a collapse of the bits.
        perceptual: Perceptual loss (LPIPS), or None. Where its weights cannot be had at the start, the whole run has
            no perceptual loss, and its report says so (decision 30).
        adversarial: Discriminator, or None. The trained one is stored in the model folder's ``discriminator``.
        mixed: Resolutions to alternate between, each with a batch size instead of the loop's. Empty for ``resolution``
            alone. Sheets are always drawn with ``resolution``, without its dense grids.
        start_from: URI of a tokenizer of the same shape to start from, our folder or a published file (.pth), together
            with the discriminator beside it; None for random weights.
        num_samples: Pictures per sheet of reconstructions.
    """

    kind: ClassVar[str] = "tokenizer"
    later: ClassVar[frozenset[str]] = TrainSpec.later | {"perceptual", "adversarial", "mixed"}

    model: TokenizerConfig
    losses: TokenizerLosses = field(default_factory=TokenizerLosses)
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    perceptual: PerceptualConfig | None = None
    adversarial: AdversarialConfig | None = None
    mixed: tuple[MixedResolution, ...] = ()
    start_from: str | None = None
    num_samples: int = 8
    stage: str = "tokenizer"

    @property
    def resolutions(self) -> tuple[MixedResolution, ...]:
        """Resolutions with their batch sizes, at least one."""
        return self.mixed or (MixedResolution(resolution=self.resolution, batch_size=self.loop.batch_size),)


def run(spec: TrainTokenizerSpec, *, progress: ProgressSink = silent) -> TrainReport:
    """Train a tokenizer. A finished job is not run again; an interrupted one resumes from its last checkpoint.

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
    """Refuse, before any worker starts, a spec that cannot work."""
    manifest = spec.data()
    for each in spec.resolutions:
        BatchPlan(manifest, "train", each.batch_size)
        if each.batch_size < spec.loop.num_parts:
            raise ValueError(
                f"mixed: a batch of {each.batch_size} pictures cannot be split into {spec.loop.num_parts} "
                "micro-batches (loop.num_parts)"
            )
        for ratio in {float(value) for value in manifest.aspect_ratios}:
            _check_size(spec, each.resolution.schedule(ratio).image_size_px(spec.model.stride_px))
    if spec.start_from is not None:
        _start(Tokenizer(spec.model), spec.start_from)
        if spec.adversarial is not None:
            _start_discriminator(PatchDiscriminator(spec.adversarial), spec.start_from)


def _check_size(spec: TrainTokenizerSpec, size_px: tuple[int, int]) -> None:
    """Refuse pictures that are too small for a network of the losses."""
    needs = {}
    if spec.adversarial is not None:
        needs["adversarial.num_layers"] = PatchDiscriminator(spec.adversarial).least_px
    if spec.perceptual is not None:
        needs["perceptual.network.trunk"] = Lpips(spec.perceptual.network.trunk).least_px
    for name, least_px in needs.items():
        if min(size_px) < least_px:
            raise ValueError(
                f"{name}: needs pictures of at least {least_px} px a side as it is set, the training has pictures of "
                f"{size_px[0]} x {size_px[1]} px"
            )


def build(
    spec: TrainTokenizerSpec, group: ProcessGroup, device: torch.device, on_progress: OnProgress
) -> Session[PictureBatch]:
    """Build the session of one worker."""
    on_progress(0.0, "reading the data set")
    manifest = spec.data()
    tokenizer = Tokenizer(spec.model)
    tokenizer.init_weights(generator_for(spec.seed, "weights"))
    if spec.start_from is not None:
        _start(tokenizer, spec.start_from)
    tokenizer.to(device)
    adversary = _adversary(spec, device)
    network, missing = _perceptual(spec, group, device)
    state, task = make_state_and_task(spec, tokenizer, adversary, network, group)
    ids = sample_rows(manifest, spec.num_samples)
    extra = {"spec": spec.digest(), "stage": spec.stage, "num_steps": spec.loop.num_steps}

    def export(uri: str) -> None:
        with averaged(tokenizer, state.ema):
            save_tokenizer(uri, tokenizer, extra=extra)
        if adversary is not None and spec.adversarial is not None:
            beside = storage.join(uri, DISCRIMINATOR_FOLDER)
            tensors = adversary.module.state_dict()
            save_checkpoint(beside, kind=DISCRIMINATOR_KIND, config=spec.adversarial, tensors=tensors)

    return Session(
        state=state,
        task=task,
        loader=_loader(spec, manifest, group),
        draw=lambda: _draw(tokenizer, state, manifest, ids, spec.resolution.replace(dense=False)),
        export=export,
        ready=lambda note: _agree_on_perceptual(state, task, missing, note),
    )


def make_state_and_task(
    spec: TrainTokenizerSpec,
    tokenizer: Tokenizer,
    adversary: Adversary | None,
    network: Lpips | None,
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
) -> tuple[TrainState, TokenizerTask]:
    """Return the state of step 0 and the task, for networks with their initial weights."""
    state = TrainState(
        module=tokenizer,
        optimizer=make_optimizer(tokenizer, spec.optimizer, group),
        ema=None if spec.loop.ema_decay is None else Ema(tokenizer, spec.loop.ema_decay, on_cpu=spec.loop.ema_on_cpu),
        adversary=adversary,
    )
    task = TokenizerTask(
        tokenizer,
        spec.losses,
        spec.collapse,
        perceptual=None if network is None or spec.perceptual is None else (spec.perceptual.weight, network),
        adversary=adversary,
    )
    return state, task


def _loader(spec: TrainTokenizerSpec, manifest: Manifest, group: ProcessGroup) -> BatchLoader[PictureBatch]:
    """Return the data loader of the resolution, or of several, each with its own order of pictures."""
    loaders = [
        PictureLoader(
            LoaderConfig(
                manifest=manifest,
                plan=BatchPlan(
                    manifest,
                    "train",
                    each.batch_size,
                    key_of("resolution", spec.seed, number) if number else spec.seed,
                    spec.order,
                ),
                resolution=each.resolution,
                group=group,
                num_parts=spec.loop.num_parts,
                num_steps=-(-spec.loop.num_steps // len(spec.resolutions)),
                reading=spec.reading,
                augment=spec.augment,
            ),
            spec.model.stride_px,
        )
        for number, each in enumerate(spec.resolutions)
    ]
    return loaders[0] if len(loaders) == 1 else MixedLoader(loaders, spec.seed)


def _adversary(spec: TrainTokenizerSpec, device: torch.device) -> Adversary | None:
    config = spec.adversarial
    if config is None:
        return None
    discriminator = PatchDiscriminator(config)
    discriminator.init_weights(generator_for(spec.seed, "discriminator"))
    if spec.start_from is not None:
        _start_discriminator(discriminator, spec.start_from)
    discriminator.to(device)
    return adversary_of(discriminator)


def _perceptual(spec: TrainTokenizerSpec, group: ProcessGroup, device: torch.device) -> tuple[Lpips | None, str | None]:
    """Return the LPIPS network, or the reason why some worker cannot load it; all workers return alike.

    Raises:
        ValueError: The weights are there, but damaged or not the expected ones.
    """
    if spec.perceptual is None:
        return None, None
    network, missing = None, None
    try:
        network = load_lpips(spec.perceptual.network, str(device))
    except (storage.FileMissingError, NoDownloadError) as error:
        missing = str(error)
    missing = next((each for each in group.gather(missing) if each is not None), None)
    return (network if missing is None else None), missing


def _agree_on_perceptual(
    state: TrainState, task: TokenizerTask, missing: str | None, note: Callable[[str], None]
) -> None:
    """Keep the loss that the run began with, with or without LPIPS (decision 30).

    Raises:
        TrainingError: The run began with weights that are missing now.
    """
    if missing is not None and LPIPS not in state.without:
        if state.position > 0:
            raise TrainingError(
                f"this run began with the weights of LPIPS, which are missing now ({missing}); bring them back to go on"
            )
        state.without.append(LPIPS)
        note(
            f"the weights of LPIPS are missing, so the perceptual loss has weight 0 in the whole run ({missing}); name "
            "them in perceptual.network.trunk_weights and perceptual.network.linear_weights"
        )
    elif missing is None and LPIPS in state.without:
        task.perceptual = None
        said = "the weights of LPIPS are there now, but this run began without them and goes on without them"
        if said not in state.notes:
            note(said)


def sample_rows(manifest: Manifest, number: int) -> BatchIds:
    """Return the first pictures of the commonest aspect ratio, of the validation split if it has any."""
    rows = manifest.rows("validation")
    rows = rows if len(rows) else manifest.rows("train")
    ratios = Counter(float(manifest.aspect_ratios[row]) for row in rows)
    ratio = max(ratios, key=lambda value: (ratios[value], -abs(value - 1.0)))
    return BatchIds(ratio, tuple(int(row) for row in rows if manifest.aspect_ratios[row] == ratio)[:number])


def _draw(
    tokenizer: Tokenizer, state: TrainState, manifest: Manifest, ids: BatchIds, resolution: Resolution
) -> Samples:
    """Draw originals above their reconstructions, with averaged weights if there are any, and with the last ones."""
    schedule = resolution.schedule(ids.aspect_ratio)
    size_px = schedule.image_size_px(tokenizer.config.stride_px)
    originals = torch.from_numpy(load_images(manifest, ids.rows, size_px))
    device = next(tokenizer.parameters()).device
    pictures, rows = [*originals.numpy()], ["originals"]
    for ema, name in weightings(state.ema):
        with averaged(tokenizer, ema):
            rebuilt = to_images(tokenizer.reconstruct(to_pixels(originals, device), schedule))
        pictures += [*rebuilt.numpy()]
        rows.append(f"reconstructions with {name}")
    sheet = compose_sheet(pictures, columns=len(ids.rows), enlarge=max(1, SHEET_SIDE_PX // size_px[0]))
    return Samples(sheet, rows=tuple(rows))


def _start(tokenizer: Tokenizer, uri: str) -> None:
    """Load a tokenizer from a checkpoint of the same shape, or from a published file.

    Raises:
        ValueError: The checkpoint has another shape; the message names the fields that differ.
    """
    config, tensors = _read_tokenizer(uri, fold=tokenizer.config.fold)
    ours, theirs = tokenizer.config.to_json(), config.to_json()
    free = {"inverse_temperature"}  # a setting of the loss, not of the weights
    if differing := [name for name in ours if ours[name] != theirs[name] and name not in free]:
        facts = ", ".join(f"{name} is {theirs[name]} there and {ours[name]} here" for name in differing)
        raise ValueError(f"{storage.absolute(uri)}: cannot start from a tokenizer of another shape: {facts}")
    load_weights(tokenizer, tensors, where=uri)


def _read_tokenizer(uri: str, *, fold: bool) -> tuple[TokenizerConfig, dict[str, Tensor]]:
    if uri.endswith(PICKLES):
        published = tokenizer_from_published(read_tokenizer_file(uri), where=uri, fold=fold)
        return published.config, published.tensors
    checkpoint = load_checkpoint(uri, kind=KIND)
    return TokenizerConfig.from_json(checkpoint.config, where=uri), checkpoint.tensors


def _start_discriminator(discriminator: PatchDiscriminator, start_from: str) -> None:
    """Load the discriminator beside the start tokenizer, if there is one.

    Raises:
        CheckpointError: The discriminator's checkpoint is damaged or has another shape.
    """
    uri = storage.join(start_from, DISCRIMINATOR_FOLDER)
    if start_from.endswith(PICKLES) or not is_committed(uri):
        return
    load_weights(discriminator, load_checkpoint(uri, kind=DISCRIMINATOR_KIND).tensors, where=uri)
