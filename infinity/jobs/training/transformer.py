"""Train a transformer on the bits of a frozen tokenizer: pretraining and finetuning are this one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
import torch

from infinity import storage
from infinity.checkpoint import load_checkpoint, read_kind_and_config
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import compose_sheet
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.batches import BatchPlan
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.generation.generate import generate
from infinity.generation.pipeline import KIND as TRANSFORMER_KIND
from infinity.generation.pipeline import ModelConfig, load_transformer, save_model
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import JobSpec, is_done, load_report
from infinity.jobs.training.base import Samples, Session, Told, TrainReport, TrainSpec, weightings
from infinity.jobs.training.driver import run_training
from infinity.jobs.training.tokenizer import SHEET_SIDE_PX, sample_rows
from infinity.scales import ScaleSchedule
from infinity.text import BuiltinTextConfig, TextConfig, TextEncoder, build_text_encoder, difference
from infinity.tokenizer.saved import KIND as TOKENIZER_KIND
from infinity.tokenizer.saved import load_tokenizer
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import is_sharded, shard, whole
from infinity.training.ema import Ema, averaged
from infinity.training.learner import TrainingError
from infinity.training.loaders.encoded import EncodedCaptions, EncodedFiles, EncodedIndex, EncodedLatents
from infinity.training.loaders.latents import CaptionEncoder, CaptionFeatures, LatentBatch, LatentLoader
from infinity.training.loaders.pictures import LoaderConfig
from infinity.training.optimizer import make_optimizer
from infinity.training.state import TrainState, generator_for
from infinity.training.tokenizer.collapse import CollapseConfig, check_labels
from infinity.training.transformer.adapters import AdapterConfig, add_adapters, has_adapters, merged
from infinity.training.transformer.engine import EngineConfig, return_freed_memory, set_up
from infinity.training.transformer.objective import TransformerObjective, TransformerTask, Weighting
from infinity.transformer.config import TransformerConfig
from infinity.transformer.model import Transformer

_MAY_DIFFER = {"drop_path", "condition_drop"}
"""Fields of a transformer that change how it is trained, not what its weights mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTransformerSpec(TrainSpec):
    """What a transformer is trained on, and how.

    Attributes:
        tokenizer: URI of the frozen tokenizer's checkpoint.
        model: Shape of the transformer.
        text: Which encoder turns captions into features.
        start_from: URI of a model folder to start from, trained with the same tokenizer, text encoder and shape; its
            resolution and data may be others. None for random weights.
        self_correction: Highest rate of wrong bits in the history, 0 to 1; 0.3 is the paper's best.
        weighting: Whether a token counts by its scale (published) or all count the same.
        z_loss: Weight of the squared logarithm of the partition function; 0 is none, 1e-4 is usual.
        num_scales: Train only on the first so many scales, which saves the memory of the finer ones; None for all.
        recompute: Save memory by computing every block twice.
        engine: Which attention kernel, and whether blocks are compiled.
        adapters: Train low-rank adapters of a start model instead of all weights; the exported model is plain.
        captions: Which caption of a picture is taken at each visit.
        encoded: URI of the index of a store that ``infinity.jobs.training.encode`` made of this data set, tokenizer and
            text encoder; what it holds is read instead of computed. None to compute everything.
        prompts: Of the sample pictures; captions of the data set where empty.
        sampling: How the sample pictures are drawn.
    """

    kind: ClassVar[str] = "transformer"
    later: ClassVar[frozenset[str]] = TrainSpec.later | {"z_loss", "num_scales", "engine"}

    tokenizer: str
    model: TransformerConfig
    text: TextConfig
    start_from: str | None = None
    self_correction: float = 0.3
    weighting: Weighting = "by_scale"
    z_loss: float = 0.0
    num_scales: int | None = None
    recompute: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)
    adapters: AdapterConfig | None = None
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    encoded: str | None = None
    prompts: tuple[str, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    stage: str = "pretrain"

    def __post_init__(self) -> None:
        TrainSpec.__post_init__(self)  # super() does not work in a dataclass with slots
        self.engine.check(on_gpu=self.workers.use_gpu)
        _ = self.lesson  # checked where it is made
        if self.optimizer.states == "8bit" and self.workers.shard:
            raise ValueError(
                "optimizer.states '8bit' with workers.shard: which means have 8 bits, and which numbers share a scale, "
                "would depend on the number of workers, so that a stored state could not go on with another one; "
                "expected 'float32' with workers.shard (workers.offload keeps them off a GPU), or no workers.shard"
            )
        if self.adapters is not None and (self.start_from is None or self.workers.shard):
            raise ValueError(
                "adapters: expected a start_from, whose weights they adapt, and workers that do not share out weights, "
                f"got {self.start_from} and workers.shard {self.workers.shard}"
            )
        if self.text.max_tokens > self.model.max_text_tokens:
            raise ValueError(
                f"text.max_tokens: the transformer holds captions of at most {self.model.max_text_tokens} tokens, the "
                f"text encoder gives up to {self.text.max_tokens}"
            )
        if isinstance(self.text, BuiltinTextConfig) and self.text.channels != self.model.text_channels:
            raise ValueError(
                f"text.channels: the transformer reads {self.model.text_channels} channels, the text encoder gives "
                f"{self.text.channels}"
            )

    def digest(self) -> str:
        """As of every job; whether frozen models run or their numbers are read from a store changes no weight."""
        return JobSpec.digest(self if self.encoded is None else self.replace(encoded=None))

    @property
    def lesson(self) -> TransformerObjective:
        """What is taught from a batch."""
        return TransformerObjective(
            self_correction=self.self_correction,
            weighting=self.weighting,
            z_loss=self.z_loss,
            num_scales=self.num_scales,
        )


def run(spec: TrainTransformerSpec, *, progress: ProgressSink = silent) -> TrainReport:
    """Train; a finished spec is not trained again, an interrupted one goes on from its last checkpoint.

    Raises:
        ValueError: Data set, tokenizer or start checkpoint do not fit the spec.
        StorageError: A file cannot be read or written.
        TrainingError: The training had to stop.
    """
    if is_done(spec):
        return load_report(spec, TrainReport)
    check(spec)
    return run_training(spec, build, spec.stage.capitalize(), progress)


def check(spec: TrainTransformerSpec) -> None:
    """Find before any worker starts what can never work."""
    manifest = Manifest.load(spec.manifest)
    BatchPlan(manifest, "train", spec.loop.batch_size)
    tokenizer = load_checkpoint(spec.tokenizer, kind=TOKENIZER_KIND)
    token_bits = TokenizerConfig.from_json(tokenizer.config, where=spec.tokenizer).token_bits
    if token_bits != spec.model.num_bits:
        raise ValueError(
            f"model.num_bits: the tokenizer {spec.tokenizer} has {token_bits} bits a token, the transformer would "
            f"predict {spec.model.num_bits}"
        )
    for ratio in {float(value) for value in manifest.aspect_ratios}:
        num_scales = spec.resolution.schedule(ratio).num_scales
        if num_scales > spec.model.max_scales:
            raise ValueError(f"model.max_scales: {num_scales} scales are needed, got {spec.model.max_scales}")
    if spec.encoded is not None:
        _check_encoded(spec, manifest, tokenizer.digest, spec.encoded)
    if spec.start_from is not None:
        _check_start(spec, tokenizer.digest, spec.start_from)


def build(spec: TrainTransformerSpec, team: ProcessGroup, device: torch.device, told: Told) -> Session[LatentBatch]:
    """Make the training ready in one worker: everything frozen is computed now where there is room."""
    told(0.0, "reading data set and tokenizer")
    manifest = Manifest.load(spec.manifest)
    tokenizer = load_tokenizer(spec.tokenizer).to(device)
    encoder = _text_encoder(spec, device)
    plan = BatchPlan(manifest, "train", spec.loop.batch_size, spec.seed, spec.order)
    latents, captions = _stored(spec, manifest, tokenizer.config, encoder, plan.key)
    share = LoaderConfig(
        manifest=manifest,
        plan=plan,
        resolution=spec.resolution,
        team=team,
        num_parts=spec.loop.num_parts,
        num_steps=spec.loop.num_steps,
        reading=spec.reading,
        augment=spec.augment,
    )
    feed = LatentLoader(share, tokenizer, captions, encoded=latents, told=told)
    check_labels(feed.usage(), CollapseConfig(), spec.tokenizer)
    if spec.recompute and device.type == "cpu":
        return_freed_memory()
    state, learner = learning(spec, _transformer(spec), tokenizer.config, team, device)
    transformer = learner.module
    return Session(
        state=state,
        learner=learner,
        feed=feed,
        draw=_drawing(spec, manifest, state, team, (tokenizer, encoder)),
        export=_exporting(spec, state, transformer, team),
        joint=spec.workers.shard,
    )


def learning(
    spec: TrainTransformerSpec,
    transformer: Transformer,
    tokenizer: TokenizerConfig,
    team: ProcessGroup,
    device: torch.device,
) -> tuple[TrainState, TransformerTask]:
    """State of step 0 and learner of a transformer with its first weights; it changes into what is trained."""
    if spec.adapters is not None:
        add_adapters(transformer, spec.adapters)
    if transformer.start.device != device and not spec.workers.offload:
        transformer.to(device)
    set_up(transformer, spec.engine, device, sharded=spec.workers.shard)
    if spec.workers.shard:
        shard(transformer, team, device, offload=spec.workers.offload)
    state = TrainState(
        module=transformer,
        optimizer=make_optimizer(transformer, spec.optimizer),
        ema=None if spec.loop.ema_decay is None else Ema(transformer, spec.loop.ema_decay),
    )
    return state, TransformerTask(transformer, tokenizer, spec.lesson, recompute=spec.recompute, device=device)


def _drawing(
    spec: TrainTransformerSpec,
    manifest: Manifest,
    state: TrainState,
    team: ProcessGroup,
    frozen: tuple[Tokenizer, TextEncoder],
) -> Callable[[], Samples]:
    """Sample pictures of the present state, computed where the frozen tokenizer is."""
    transformer, device = cast("Transformer", state.module), next(frozen[0].parameters()).device
    ids = sample_rows(manifest, 8)
    prompts = spec.prompts or tuple(manifest.captions(ids.rows))
    schedule = spec.resolution.schedule(ids.aspect_ratio)

    def draw() -> Samples:
        rows: dict[str, list[np.ndarray]] = {}
        for ema, name in weightings(state.ema):
            with drawable(transformer, ema, team, device) as model:
                if model is not None:
                    rows[name] = _draw(model, *frozen, prompts, schedule, spec.sampling)
        return _sheet(rows, prompts)

    return draw


def _exporting(
    spec: TrainTransformerSpec, state: TrainState, transformer: Transformer, team: ProcessGroup
) -> Callable[[str], None]:
    """Writes the model folder of the present state."""
    extra = {"spec": spec.digest(), "stage": spec.stage, "num_steps": spec.loop.num_steps}

    def export(uri: str) -> None:
        with drawable(transformer, state.ema, team) as model:
            if model is not None:
                save_model(
                    uri,
                    model,
                    text=spec.text,
                    resolution=spec.resolution,
                    tokenizer_uri=spec.tokenizer,
                    extra=extra,
                )

    return export


@contextmanager
def drawable(
    transformer: Transformer, ema: Ema | None, team: ProcessGroup, device: torch.device | None = None
) -> Iterator[Transformer | None]:
    """The model with its averaged weights; of a sharded one a whole copy, in the first worker only.

    All workers of a sharded training must come here together.

    Args:
        transformer: What is trained.
        ema: Its average, or None for the weights themselves.
        team: Who shares the weights.
        device: Where the copy shall be; None for where the weights wait between two steps.
    """
    if not is_sharded(transformer):
        with averaged(transformer, ema):
            yield merged(transformer) if has_adapters(transformer) else transformer
        return
    weights = transformer.state_dict() if ema is None else ema.weights()
    copy = Transformer(transformer.config).to(device or transformer.start.device).eval() if team.leads else None
    held = {} if copy is None else copy.state_dict()
    for name, value in weights.items():
        gathered = whole(value.detach())
        if copy is not None:
            held[name].copy_(gathered)
    yield copy


def _transformer(spec: TrainTransformerSpec) -> Transformer:
    transformer = Transformer(spec.model)
    if spec.start_from is None:
        transformer.init_weights(generator_for(spec.seed, "weights"))
    else:
        transformer.load_state_dict(load_transformer(spec.start_from)[1].state_dict())
    return transformer


def _stored(
    spec: TrainTransformerSpec, manifest: Manifest, config: TokenizerConfig, encoder: TextEncoder, key: int
) -> tuple[EncodedLatents | None, CaptionEncoder]:
    """Where latents and features of captions come from."""
    draw = CaptionDraw(manifest, spec.captions, key, encoder.num_tokens, encoder.max_tokens)
    captions = CaptionFeatures(draw, encoder)
    if spec.encoded is None:
        return None, captions
    index = EncodedIndex.parse(storage.read_text(spec.encoded), where=spec.encoded)
    files = EncodedFiles(storage.parent(spec.encoded), spec.reading)
    latents = None if index.tokenizer is None else EncodedLatents(manifest, index, files, config)
    return latents, captions if index.text_encoder is None else EncodedCaptions(manifest, index, files, draw)


def _check_encoded(spec: TrainTransformerSpec, manifest: Manifest, tokenizer_digest: str, uri: str) -> None:
    """Refuse a store of other numbers than the training would compute.

    Raises:
        ValueError: What differs; the message tells what is there and what is needed.
    """
    index = EncodedIndex.parse(storage.read_text(uri), where=uri)
    pairs: list[tuple[str, Any, Any]] = [("manifest", index.manifest, manifest.digest)]
    if index.tokenizer is not None:
        pairs += [
            ("tokenizer", index.tokenizer, tokenizer_digest),
            ("resolution", index.resolution, spec.resolution),
            ("augment", AugmentConfig(), spec.augment),
        ]
        if index.latents == "bits" and spec.self_correction > 0:
            raise ValueError(
                f"{uri}: holds bits, but self_correction {spec.self_correction} needs the encoder's features to find "
                "other bits after wrong ones; encode with latents 'features', or train with self_correction 0"
            )
    if index.text_encoder is not None:
        pairs += [("text", index.text_encoder, spec.text), ("captions", index.captions, spec.captions)]
    for name, found, needed in pairs:
        if found != needed:
            raise ValueError(f"{uri}: was made for {name} {found}, the training has {needed}; encode again")


def _text_encoder(spec: TrainTransformerSpec, device: torch.device) -> TextEncoder:
    encoder = build_text_encoder(spec.text, str(device))
    if encoder.channels != spec.model.text_channels:
        raise TrainingError(
            f"text: the transformer reads {spec.model.text_channels} channels, the encoder gives {encoder.channels}"
        )
    return encoder


def _draw(
    transformer: Transformer,
    tokenizer: Tokenizer,
    encoder: TextEncoder,
    prompts: tuple[str, ...],
    schedule: ScaleSchedule,
    sampling: SamplingConfig,
) -> list[np.ndarray]:
    """One picture a prompt, always with the same random numbers."""
    device = transformer.start.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        drawn = generate(
            transformer,
            tokenizer,
            encoder,
            prompts,
            schedule=schedule,
            sampling=sampling,
            seeds=[0] * len(prompts),
        )
    return list(drawn.images_BHW3.cpu().numpy())


def _sheet(rows: Mapping[str, list[np.ndarray]], prompts: tuple[str, ...]) -> Samples:
    """Pictures of the same prompts with each kind of weights, one below the other; nothing where nothing was drawn."""
    pictures = [picture for each in rows.values() for picture in each]
    if not pictures:
        return Samples(b"")
    sheet = compose_sheet(pictures, columns=min(8, len(prompts)), enlarge=max(1, SHEET_SIDE_PX // pictures[0].shape[0]))
    return Samples(sheet, prompts, tuple(f"drawn with {name}" for name in rows))


def _check_start(spec: TrainTransformerSpec, tokenizer_digest: str, uri: str) -> None:
    """Refuse weights that mean something else; the workers read them.

    Raises:
        ValueError: Another shape, tokenizer or text encoder; the message tells which.
    """
    _, described = read_kind_and_config(uri, kind=TRANSFORMER_KIND)
    config = ModelConfig.from_json(described, where=uri)
    ours, theirs = spec.model.to_json(), config.transformer.to_json()
    if differing := [name for name in ours if ours[name] != theirs[name] and name not in _MAY_DIFFER]:
        facts = ", ".join(f"{name} is {theirs[name]} there and {ours[name]} here" for name in differing)
        raise ValueError(f"{uri}: cannot start from a transformer of another shape: {facts}")
    if config.tokenizer_digest != tokenizer_digest:
        raise ValueError(
            f"{uri}: trained with the tokenizer {config.tokenizer_digest}, but {spec.tokenizer} is {tokenizer_digest}; "
            "the bits of one mean nothing to the other. Use the tokenizer of the start checkpoint"
        )
    if differing_text := difference(config.text, spec.text):
        raise ValueError(
            f"{uri}: trained with another text encoder than the spec's: {differing_text}; features of one mean "
            "nothing to the other. Use the text encoder of the start checkpoint"
        )
