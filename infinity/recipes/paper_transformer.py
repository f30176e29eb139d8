"""Specs of the paper's three training stages of a transformer (256, 512, 1024 classes, paper 4.2), and of finetuning.

They start from random weights or from a model folder, such as an imported one.
"""

from __future__ import annotations

from dataclasses import dataclass

from infinity import storage
from infinity.checkpoint import read_kind_and_config
from infinity.config import Config
from infinity.data.loading.augment import AugmentConfig
from infinity.generation.pipeline import KIND as MODEL_KIND
from infinity.generation.pipeline import TOKENIZER_FOLDER, ModelConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import transformer_preset
from infinity.ranges import Count
from infinity.scales import Resolution, Size
from infinity.text import T5TextConfig, difference
from infinity.training.learner import LoopConfig
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.transformer.adapters import AdapterConfig
from infinity.transformer.number_formats.quantized import Quantization


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperStage(Config):
    """One training stage of the paper.

    Attributes:
        size: Class of the resolution; the aspect ratios of a data set are mixed, one per batch.
        num_steps: Number of updates.
        batch_size: Pictures per update, over all workers.
        learning_rate: Learning rate; nothing multiplies it.
        part_size: Pictures per micro-batch: about as many tokens at each class as 4 pictures at 1024, which fill a GPU.
    """

    size: Size
    num_steps: int
    batch_size: int
    learning_rate: float
    part_size: int


PAPER_STAGES: tuple[PaperStage, ...] = (
    PaperStage(size="256", num_steps=150_000, batch_size=4096, learning_rate=6e-5, part_size=64),
    PaperStage(size="512", num_steps=110_000, batch_size=4096, learning_rate=6e-5, part_size=16),
    PaperStage(size="1024", num_steps=60_000, batch_size=2048, learning_rate=2e-5, part_size=4),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerInputs(Config):
    """Inputs of the paper's training.

    Attributes:
        manifests: URIs of the three stages' data sets, of which the last is the small one of high quality; or one data
            set for all stages.
        tokenizer: URI of the frozen tokenizer.
        output: URI of the folder in which every stage creates a folder.
        model: Named transformer; None for that of the start model, or the released one of 2B weights.
        text_model: Folder or hub name of the T5 encoder; None for that of the start model, or Flan-T5-XL.
        num_workers: Number of GPUs, at most the pictures of the paper's smallest batch. Where the micro-batches do not
            divide evenly among the workers, some wait during the last micro-batch.
        part_size: Pictures per micro-batch, which a GPU computes at once; it determines the gradient-accumulation
            steps. None takes 64, 16 and 4 at the 256, 512 and 1024 classes.
        start_from: URI of a model folder to start from.
    """

    manifests: tuple[str, ...]
    tokenizer: str
    output: str
    model: str | None = None
    text_model: str | None = None
    num_workers: Count = 64
    part_size: Count | None = None
    start_from: str | None = None

    def __post_init__(self) -> None:
        if len(self.manifests) not in (1, len(PAPER_STAGES)):
            raise ValueError(f"manifests: expected 1 or {len(PAPER_STAGES)}, got {len(self.manifests)}")
        smallest = min(stage.batch_size for stage in PAPER_STAGES)
        if self.num_workers > smallest:
            raise ValueError(
                f"num_workers: expected at most {smallest}, one per picture of the paper's smallest batch, got "
                f"{self.num_workers}"
            )


def paper_stages(inputs: TransformerInputs) -> tuple[TrainTransformerSpec, ...]:
    """Return the specs of all three stages, each starting from the model of the one before it.

    Raises:
        CheckpointError: There is no model folder to start from.
        ValueError: The transformer's name is unknown, or differs from that of the start model.
    """
    specs: list[TrainTransformerSpec] = []
    for number, stage in enumerate(PAPER_STAGES):
        spec = _begun(_spec(stage, inputs, inputs.manifests[number % len(inputs.manifests)]), inputs)
        if specs:
            spec = spec.replace(start_from=storage.join(specs[-1].folder, MODEL_FOLDER))
        specs.append(spec)
    return tuple(specs)


def _begun(spec: TrainTransformerSpec, inputs: TransformerInputs) -> TrainTransformerSpec:
    """Return the spec with the start model of the inputs; their model and text encoder must agree with it."""
    if inputs.start_from is None:
        return spec
    begun = started_from(spec, inputs.start_from, tokenizer=inputs.tokenizer, text_model=inputs.text_model)
    if inputs.model is not None and begun.model != spec.model:
        raise ValueError(f"model: {inputs.start_from} is no {inputs.model}; leave the name out to follow the start")
    return begun


def model_config(uri: str) -> ModelConfig:
    """Read the configuration of a model folder.

    Raises:
        CheckpointError: There is no model folder.
    """
    _, found = read_kind_and_config(uri, kind=MODEL_KIND)
    return ModelConfig.from_json(found, where=uri)


def started_from(
    spec: TrainTransformerSpec, model: str, *, tokenizer: str | None = None, text_model: str | None = None
) -> TrainTransformerSpec:
    """Return the spec that trains a model further, with its shape, its text encoder and its tokenizer.

    Args:
        spec: Spec with the settings of the training and the resolution.
        model: URI of the model folder.
        tokenizer: URI of the model's tokenizer; None for the one inside the model folder.
        text_model: Folder or hub name of the model's T5, if it has moved; None for the place that the model names.

    Raises:
        CheckpointError: There is no model folder.
        ValueError: The text encoder is not that of the model.
    """
    start = model_config(model)
    text = start.text
    if isinstance(text, T5TextConfig):
        dtype = spec.text.dtype if isinstance(spec.text, T5TextConfig) else text.dtype
        moved = text_model is not None and text_model != text.model  # then its fingerprint is computed anew
        text = text.replace(
            dtype=dtype, model=text_model or text.model, fingerprint=None if moved else text.fingerprint
        )
    elif text_model is not None:
        raise ValueError(
            f"{model}: was trained with the built-in text encoder, not with a T5; leave the text model out"
        )
    if differing := difference(start.text, text):
        raise ValueError(
            f"{model}: expected the text encoder that the model was trained with, found another: {differing}"
        )
    return spec.replace(
        start_from=model,
        tokenizer=tokenizer or storage.join(model, TOKENIZER_FOLDER),
        model=start.transformer.replace(drop_path=spec.model.drop_path, condition_drop=spec.model.condition_drop),
        text=text,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneInputs(Config):
    """Settings of a finetuning at the model's own resolution.

    Attributes:
        num_steps: Number of updates.
        batch_size: Pictures per update, over all workers.
        rank: Rank of low-rank adapters (LoRA); None trains all weights.
        quantize_base: Form in which the weights below adapters are stored (QLoRA); None for floating point.
        use_gpu: Whether every worker has a GPU.
    """

    num_steps: int = 5_000
    batch_size: int = 256
    rank: int | None = None
    quantize_base: Quantization | None = None
    use_gpu: bool = True

    def __post_init__(self) -> None:
        if self.quantize_base is not None and self.rank is None:
            raise ValueError(
                "quantize_base: expected adapters above quantized weights, which cannot be trained; set a rank"
            )


def finetune_spec(inputs: TransformerInputs, how: FinetuneInputs) -> TrainTransformerSpec:
    """Return the spec of a finetuning of ``inputs.start_from``, at the learning rate of the paper's last stage.

    Raises:
        CheckpointError: There is no model folder.
        ValueError: The text encoder differs, or numbers do not fit each other.
    """
    assert inputs.start_from is not None
    start = model_config(inputs.start_from)
    stage = PAPER_STAGES[-1].replace(num_steps=how.num_steps, batch_size=how.batch_size)
    spec = _begun(_spec(stage, inputs, inputs.manifests[-1]), inputs)
    every = max(1, -(-how.num_steps // 5))
    sharded = how.use_gpu and how.rank is None  # adapters do not support sharding; their optimizer is small
    return spec.replace(
        resolution=start.resolution,
        loop=spec.loop.replace(
            log_every_steps=min(spec.loop.log_every_steps, every),
            save_every_steps=min(spec.loop.save_every_steps, every),
            sample_every_steps=min(spec.loop.sample_every_steps, every),
        ),
        workers=spec.workers.replace(
            use_gpu=how.use_gpu, shard=sharded, threads=spec.workers.threads if how.use_gpu else 1
        ),
        adapters=None
        if how.rank is None
        else AdapterConfig(rank=how.rank, alpha=float(how.rank), base=how.quantize_base),
        stage="finetune",
    )


def _spec(stage: PaperStage, inputs: TransformerInputs, manifest: str) -> TrainTransformerSpec:
    model = transformer_preset(inputs.model or "2B-released")
    num_parts = max(inputs.num_workers, -(-stage.batch_size // (inputs.part_size or stage.part_size)))
    return TrainTransformerSpec(
        output=inputs.output,
        manifest=manifest,
        tokenizer=inputs.tokenizer,
        resolution=Resolution(size=stage.size),
        model=model,
        text=T5TextConfig(
            model=inputs.text_model or "google/flan-t5-xl", max_tokens=model.max_text_tokens, dtype="bfloat16"
        ),
        optimizer=OptimizerConfig(learning_rate=stage.learning_rate),  # AdamW, decay and clipping of the paper
        loop=LoopConfig(
            num_steps=stage.num_steps,
            batch_size=stage.batch_size,
            num_parts=num_parts,
            log_every_steps=100,
            save_every_steps=1_000,
            sample_every_steps=5_000,
            ema_decay=0.9999,
        ),
        workers=WorkersConfig(num_workers=inputs.num_workers, threads=4, use_gpu=True, shard=True),
        augment=AugmentConfig(),
        self_correction=0.3,
        recompute=True,
        stage=f"pretrain-{stage.size}",
    )
