"""The paper's three stages of a transformer's training as specs: the 256, 512 and 1024 classes (paper 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

from infinity import storage
from infinity.config import Config
from infinity.data.loading.augment import AugmentConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import transformer_preset
from infinity.scales import Resolution, Size
from infinity.text import T5TextConfig
from infinity.training.learner import LoopConfig
from infinity.training.optimizer import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperStage(Config):
    """One row of the paper's table.

    Attributes:
        size: Class of the resolution; all aspect ratios of a data set are mixed, one a batch.
        num_steps: Updates.
        batch_size: Pictures of an update, over all workers.
        learning_rate: The rate itself; nothing multiplies it.
    """

    size: Size
    num_steps: int
    batch_size: int
    learning_rate: float


PAPER_STAGES: tuple[PaperStage, ...] = (
    PaperStage(size="256", num_steps=150_000, batch_size=4096, learning_rate=6e-5),
    PaperStage(size="512", num_steps=110_000, batch_size=4096, learning_rate=6e-5),
    PaperStage(size="1024", num_steps=60_000, batch_size=2048, learning_rate=2e-5),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerInputs(Config):
    """What the paper does not say.

    Attributes:
        manifests: URIs of the data sets of the three stages; the last one is the small one of high quality. One alone
            serves all.
        tokenizer: URI of the frozen tokenizer.
        output: URI of the folder that gets a folder of every stage.
        model: Named transformer.
        text_model: Folder or hub name of the T5 encoder.
        num_workers: GPUs, at most as many as the smallest batch of the paper has pictures. Where the parts of a batch
            do not divide evenly among them, some wait during the last part.
        part_size: Pictures that a GPU computes at once; a batch has as many parts as that needs.
    """

    manifests: tuple[str, ...]
    tokenizer: str
    output: str
    model: str = "2B-released"
    text_model: str = "google/flan-t5-xl"
    num_workers: int = 64
    part_size: int = 4

    def __post_init__(self) -> None:
        if len(self.manifests) not in (1, len(PAPER_STAGES)):
            raise ValueError(f"manifests: expected 1 or {len(PAPER_STAGES)}, got {len(self.manifests)}")
        if self.num_workers < 1 or self.part_size < 1:
            raise ValueError(
                f"num_workers and part_size: expected at least 1, got {self.num_workers} and {self.part_size}"
            )
        smallest = min(stage.batch_size for stage in PAPER_STAGES)
        if self.num_workers > smallest:
            raise ValueError(
                f"num_workers: expected at most {smallest}, a picture for each in the smallest batch of the paper, got "
                f"{self.num_workers}"
            )


def paper_stages(inputs: TransformerInputs) -> tuple[TrainTransformerSpec, ...]:
    """The specs of all three stages, each starting from the model of the one before it.

    Raises:
        ValueError: No transformer of that name.
    """
    specs: list[TrainTransformerSpec] = []
    for number, stage in enumerate(PAPER_STAGES):
        spec = _spec(stage, inputs, inputs.manifests[number % len(inputs.manifests)])
        if specs:
            spec = spec.replace(start_from=storage.join(specs[-1].folder, MODEL_FOLDER))
        specs.append(spec)
    return tuple(specs)


def _spec(stage: PaperStage, inputs: TransformerInputs, manifest: str) -> TrainTransformerSpec:
    model = transformer_preset(inputs.model)
    num_parts = max(inputs.num_workers, -(-stage.batch_size // inputs.part_size))
    return TrainTransformerSpec(
        output=inputs.output,
        manifest=manifest,
        tokenizer=inputs.tokenizer,
        resolution=Resolution(size=stage.size),
        model=model,
        text=T5TextConfig(model=inputs.text_model, max_tokens=model.max_text_tokens, dtype="bfloat16"),
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
