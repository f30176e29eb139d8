"""Job: train a transformer on the bits of a frozen tokenizer, from random weights or from another model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from infinity import storage
from infinity.checkpoint import load_checkpoint, read_kind_and_config
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.batches import BatchPlan
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.data.loading.mixture import ShareConfig
from infinity.generation.pipeline import KIND as TRANSFORMER_KIND
from infinity.generation.pipeline import ModelConfig
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import JobSpec, is_done, load_report
from infinity.jobs.training.base import OnProgress, Session, TrainReport, TrainSpec
from infinity.jobs.training.driver import run_training
from infinity.jobs.training.transformer_samples import model_exporting, sample_drawing, start_weights
from infinity.text import BuiltinTextConfig, TextConfig, TextEncoder, build_text_encoder, difference
from infinity.tokenizer.saved import KIND as TOKENIZER_KIND
from infinity.tokenizer.saved import load_tokenizer
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import shard
from infinity.training.ema import Ema
from infinity.training.learner import TrainingError
from infinity.training.loaders.encoded import EncodedCaptions, EncodedFiles, EncodedIndex, EncodedLatents
from infinity.training.loaders.latents import CaptionEncoder, CaptionFeatures, LatentBatch, LatentLoader
from infinity.training.loaders.pictures import LoaderConfig
from infinity.training.optimizers.optimizer import make_optimizer
from infinity.training.state import TrainState, generator_for
from infinity.training.tokenizer.collapse import CollapseConfig, check_labels
from infinity.training.transformer.adapters import AdapterConfig, add_adapters
from infinity.training.transformer.engine import EngineConfig, begin, return_freed_memory, set_up
from infinity.training.transformer.objective import TransformerObjective, TransformerTask, Weighting
from infinity.transformer.config import TransformerConfig
from infinity.transformer.model import Transformer

_MAY_DIFFER = {"drop_path", "condition_drop"}
"""Fields of a transformer that change its training alone, so that a start model may have other values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTransformerSpec(TrainSpec):
    """Spec of a transformer's training.

    Attributes:
        tokenizer: URI of the frozen tokenizer's checkpoint.
        text: Text encoder of the captions.
        start_from: URI of a model folder to start from, trained with the same tokenizer, text encoder and shape; its
            resolution and data may differ. None for random weights.
        self_correction: Highest rate of flipped bits in the coarser scales, 0 to 1; 0.3 is the paper's best.
        flips_only: Whether flipped bits change the inputs alone, and no label undoes them: the paper's control
            experiment (Table 7), for studies.
        weighting: Weight of a token: by its scale, as published, or the same for all.
        z_loss: Weight of the squared log partition function (z-loss); 0 is none, 1e-4 is usual.
        num_scales: Number of first scales to train on, which saves the memory of the finer ones; None for all.
        recompute: Whether blocks use activation checkpointing, which saves memory by computing them twice.
        engine: Attention kernel, compiled blocks, bfloat16 on CPUs, deterministic kernels on GPUs.
        adapters: Low-rank adapters (LoRA) to train instead of all weights of a start model; the exported model has them
            merged in. None to train all weights.
        captions: Choice of the caption at each visit of a picture.
        encoded: URI of the index of a store of latents and text features (``infinity.jobs.training.encode``) for this
            data set, tokenizer and text encoder, which is read instead of computed. None to compute everything.
        prompts: Prompts of the sample pictures; empty for captions of the data set.
    """

    kind: ClassVar[str] = "transformer"
    later: ClassVar[frozenset[str]] = TrainSpec.later | {"z_loss", "num_scales", "engine", "flips_only"}

    tokenizer: str
    model: TransformerConfig
    text: TextConfig
    start_from: str | None = None
    self_correction: float = 0.3
    flips_only: bool = False
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
        _ = self.objective  # its constructor checks the fields
        if self.optimizer.states == "8bit" and self.workers.shard:
            raise ValueError(
                "optimizer.states '8bit' with workers.shard: the layout of 8-bit moments would depend on the number of "
                "workers, so that a stored state could not resume with another number; expected 'float32' with "
                "workers.shard (workers.offload keeps the moments off a GPU), or no workers.shard"
            )
        if self.loop.sum_once and self.workers.offload:
            raise ValueError(
                "loop.sum_once: expected false with workers.offload, since whole gradients of all weights would stay "
                "on the GPU, got true"
            )
        if self.optimizer.algorithm == "muon" and self.workers.shard:
            raise ValueError(
                "optimizer.algorithm 'muon' with workers.shard: a step of Muon needs whole matrices, and each worker "
                "would hold some rows of them; expected 'adamw' with workers.shard, or no workers.shard"
            )
        if self.encoded is not None and (self.sets or self.share != ShareConfig()):
            raise ValueError(
                "encoded: a store holds latents and captions of one data set as it is, got further sets or a share; "
                "leave encoded out"
            )
        if self.adapters is not None and (self.start_from is None or self.workers.shard):
            raise ValueError(
                "adapters: expected a start_from, whose weights they adapt, and workers.shard false, got start_from "
                f"{self.start_from} and workers.shard {self.workers.shard}"
            )
        if self.adapters is not None and self.adapters.base is not None and self.engine.compile:
            raise ValueError("engine.compile: expected false with a quantized base (adapters.base), got true")
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
        """Return the digest without ``encoded``, since reading latents from a store changes no weight."""
        return JobSpec.digest(self if self.encoded is None else self.replace(encoded=None))

    @property
    def objective(self) -> TransformerObjective:
        """Settings of the transformer's loss."""
        return TransformerObjective(
            self_correction=self.self_correction,
            weighting=self.weighting,
            z_loss=self.z_loss,
            num_scales=self.num_scales,
            flips_only=self.flips_only,
        )


def run(spec: TrainTransformerSpec, *, progress: ProgressSink = silent) -> TrainReport:
    """Train a transformer. A finished job is not run again; an interrupted one resumes from its last checkpoint.

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
    """Refuse, before any worker starts, a spec that cannot work."""
    manifest = spec.data()
    BatchPlan(manifest, "train", spec.loop.batch_size)
    tokenizer = load_checkpoint(spec.tokenizer, kind=TOKENIZER_KIND)
    token_bits = TokenizerConfig.from_json(tokenizer.config, where=spec.tokenizer).token_bits
    if token_bits != spec.model.num_bits:
        raise ValueError(
            f"model.num_bits: the tokenizer {spec.tokenizer} has {token_bits} bits per token, the transformer would "
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


def build(
    spec: TrainTransformerSpec, group: ProcessGroup, device: torch.device, on_progress: OnProgress
) -> Session[LatentBatch]:
    """Build the session of one worker; latents are computed now if they fit in the cache."""
    begin(spec.engine, device)
    on_progress(0.0, "reading data set and tokenizer")
    manifest = spec.data()
    tokenizer = load_tokenizer(spec.tokenizer).to(device)
    encoder = _text_encoder(spec, device)
    plan = BatchPlan(manifest, "train", spec.loop.batch_size, spec.seed, spec.order)
    latents, captions = _stored(spec, manifest, tokenizer.config, encoder, plan.key)
    config = LoaderConfig(
        manifest=manifest,
        plan=plan,
        resolution=spec.resolution,
        group=group,
        num_parts=spec.loop.num_parts,
        num_steps=spec.loop.num_steps,
        reading=spec.reading,
        augment=spec.augment,
    )
    loader = LatentLoader(config, tokenizer, captions, encoded=latents, on_progress=on_progress)
    check_labels(loader.usage(), CollapseConfig(), spec.tokenizer)
    if spec.recompute and device.type == "cpu":
        return_freed_memory()
    state, task = make_state_and_task(spec, _transformer(spec), tokenizer.config, group, device)
    transformer = task.module
    return Session(
        state=state,
        task=task,
        loader=loader,
        draw=sample_drawing(spec, manifest, state, group, (tokenizer, encoder)),
        export=model_exporting(spec, state, transformer, group),
        joint=spec.workers.shard,
    )


def make_state_and_task(
    spec: TrainTransformerSpec,
    transformer: Transformer,
    tokenizer: TokenizerConfig,
    group: ProcessGroup,
    device: torch.device,
) -> tuple[TrainState, TransformerTask]:
    """Return the state of step 0 and the task, for a transformer with its initial weights.

    The transformer is changed in place: adapters, device, kernel, compilation, sharding.
    """
    if spec.adapters is not None:
        add_adapters(transformer, spec.adapters)
    if transformer.start.device != device and not spec.workers.offload:
        transformer.to(device)
    set_up(transformer, spec.engine, device, sharded=spec.workers.shard)
    in_bfloat16 = spec.engine.bfloat16 or device.type == "cuda"
    if spec.workers.shard:
        shard(
            transformer,
            group,
            device,
            offload=spec.workers.offload,
            bfloat16=in_bfloat16,
            among=spec.workers.shard_among,
            keep_gathered=spec.workers.keep_gathered,
        )
    state = TrainState(
        module=transformer,
        optimizer=make_optimizer(transformer, spec.optimizer, group),
        ema=None if spec.loop.ema_decay is None else Ema(transformer, spec.loop.ema_decay, on_cpu=spec.loop.ema_on_cpu),
    )
    task = TransformerTask(
        transformer,
        tokenizer,
        spec.objective,
        recompute=spec.recompute,
        device=device,
        bfloat16=in_bfloat16,
    )
    return state, task


def _transformer(spec: TrainTransformerSpec) -> Transformer:
    if spec.start_from is not None:
        return start_weights(spec)
    transformer = Transformer(spec.model)
    transformer.init_weights(generator_for(spec.seed, "weights"))
    return transformer


def _stored(
    spec: TrainTransformerSpec, manifest: Manifest, config: TokenizerConfig, encoder: TextEncoder, key: int
) -> tuple[EncodedLatents | None, CaptionEncoder]:
    """Return the sources of latents and of caption features: the store where it has them, or the frozen models."""
    draw = CaptionDraw(manifest, spec.captions, key, encoder.num_tokens, encoder.max_tokens)
    captions = CaptionFeatures(draw, encoder)
    if spec.encoded is None:
        return None, captions
    index = EncodedIndex.parse(storage.read_text(spec.encoded), where=spec.encoded)
    files = EncodedFiles(storage.parent(spec.encoded), spec.reading)
    latents = None if index.tokenizer is None else EncodedLatents(manifest, index, files, config)
    return latents, captions if index.text_encoder is None else EncodedCaptions(manifest, index, files, draw)


def _check_encoded(spec: TrainTransformerSpec, manifest: Manifest, tokenizer_digest: str, uri: str) -> None:
    """Refuse a store with other numbers than the training would compute.

    Raises:
        ValueError: An input differs; the message says what the store has and what the training needs.
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


def _check_start(spec: TrainTransformerSpec, tokenizer_digest: str, uri: str) -> None:
    """Refuse a start model that does not fit; its weights are read later, by the workers.

    Raises:
        ValueError: The shape, tokenizer or text encoder differs; the message says which.
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
