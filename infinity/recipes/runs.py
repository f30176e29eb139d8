"""Named recipes of whole runs: the specs of all stages, from pictures or drawn scenes to a scored model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from infinity import storage
from infinity.config import Config
from infinity.data.curation.filters import FilterConfig
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.validation import ValidationBenchmark
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.dataset.build import MANIFEST_FILE, BuildDatasetSpec, fingerprint
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import tokenizer_preset
from infinity.scales import Resolution
from infinity.scenes.drawing import ScenesConfig
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.learner import LoopConfig
from infinity.training.optimizers.optimizer import Algorithm, OptimizerConfig
from infinity.training.tokenizer.collapse import CollapseConfig
from infinity.training.tokenizer.objective import TokenizerLosses
from infinity.transformer.config import TransformerConfig

RecipeName = Literal["demo", "emoji", "mini"]
RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)

SCENE_LOSSES = TokenizerLosses(l1=1.0, l2=1.0, commitment=0.5, certainty=0.05, balance=0.05)
"""Weights of the loss terms for small pictures with few colours."""

SELF_CORRECTION = 0.2
"""Highest rate of flipped bits in the coarser scales, in the training of the transformer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndToEnd(Config):
    """The five stages of a run; every stage names the outputs of those before it."""

    dataset: BuildDatasetSpec
    tokenizer: TrainTokenizerSpec
    pretrain: TrainTransformerSpec
    finetune: TrainTransformerSpec
    evaluation: EvaluateSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(Config):
    """Sizes and lengths of a run; ``end_to_end`` sets everything else.

    Attributes:
        num_scenes: Number of drawn pictures where no pictures are given.
        size_px: Height and width of a drawn picture; pictures of other ratios get about this area.
        sides: Grid sides of a square picture, coarse to fine.
        losses: Weights of the tokenizer's loss terms.
        tokenizer_loop: Length and batches of the tokenizer's training.
        tokenizer_rate: Highest learning rate of the tokenizer.
        transformer_rate: Highest learning rate of the pretraining, and first one of the finetuning.
        num_measured: Pictures for the reconstruction, and for loss and accuracy of bits.
        sampling: Guidance, temperature and top-p.
        workers: Workers of the trainings and the evaluation.
        algorithm: Optimizer's algorithm of all trainings.
    """

    num_scenes: int
    size_px: int
    sides: tuple[int, ...]
    tokenizer: TokenizerConfig
    losses: TokenizerLosses
    tokenizer_loop: LoopConfig
    tokenizer_rate: float
    transformer: TransformerConfig
    pretrain_loop: LoopConfig
    finetune_loop: LoopConfig
    transformer_rate: float
    scenes: SceneBenchmark
    num_measured: int
    sampling: SamplingConfig
    workers: WorkersConfig
    algorithm: Algorithm = "adamw"


def end_to_end(recipe: RecipeName, *, source: str | None, output: str) -> EndToEnd:
    """Return the specs of a run.

    Args:
        recipe: Recipe: "demo" takes less than 10 minutes on two cores, "emoji" is for a few thousand small pictures and
            takes an hour, "mini" takes two minutes and learns next to nothing.
        source: URI of captioned pictures (image folder, .jsonl or .parquet); None draws scenes.
        output: URI of the folder in which every stage creates a folder.

    Raises:
        ValueError: The recipe is unknown.
        StorageError: The source cannot be listed.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}, got {recipe!r}")
    sizes = {"demo": _demo, "emoji": _emoji, "mini": _mini}[recipe]()
    dataset = _dataset(sizes, source, output)
    manifest = storage.join(dataset.folder, MANIFEST_FILE)
    tokenizer = _tokenizer(sizes, manifest, output)
    pretrain = _pretrain(sizes, tokenizer)
    # The learning rate decays only in the finetuning, since short trainings gain most during the decay.
    finetune = pretrain.replace(
        start_from=storage.join(pretrain.folder, MODEL_FOLDER),
        optimizer=_optimizer(sizes, sizes.transformer_rate, sizes.finetune_loop, decay="linear"),
        loop=sizes.finetune_loop,
        stage="finetune",
    )
    evaluation = EvaluateSpec(
        output=output,
        model=storage.join(finetune.folder, MODEL_FOLDER),
        manifest=manifest,
        reconstruction=ReconstructionBenchmark(num_pictures=sizes.num_measured),
        validation=ValidationBenchmark(num_pictures=sizes.num_measured, self_correction=SELF_CORRECTION),
        samples=SampleBenchmark(num_pictures=16),
        scenes=sizes.scenes if source is None else None,
        sampling=sizes.sampling,
        batch_size=64,
        workers=sizes.workers.replace(num_workers=2, threads=1),
    )
    return EndToEnd(dataset=dataset, tokenizer=tokenizer, pretrain=pretrain, finetune=finetune, evaluation=evaluation)


def _tokenizer(sizes: Recipe, manifest: str, output: str) -> TrainTokenizerSpec:
    return TrainTokenizerSpec(
        output=output,
        manifest=manifest,
        resolution=Resolution(sides=sizes.sides),
        optimizer=_optimizer(sizes, sizes.tokenizer_rate, sizes.tokenizer_loop, weight_decay=0.0),
        loop=sizes.tokenizer_loop,
        workers=sizes.workers,
        model=sizes.tokenizer,
        losses=sizes.losses,
        collapse=CollapseConfig(from_step=max(300, sizes.tokenizer_loop.num_steps // 4)),
    )


def _pretrain(sizes: Recipe, tokenizer: TrainTokenizerSpec) -> TrainTransformerSpec:
    return TrainTransformerSpec(
        output=tokenizer.output,
        manifest=tokenizer.manifest,
        resolution=tokenizer.resolution,
        optimizer=_optimizer(sizes, sizes.transformer_rate, sizes.pretrain_loop, decay="constant"),
        loop=sizes.pretrain_loop,
        workers=sizes.workers,
        tokenizer=storage.join(tokenizer.folder, MODEL_FOLDER),
        model=sizes.transformer,
        text=BuiltinTextConfig(
            channels=sizes.transformer.text_channels, max_tokens=sizes.transformer.max_text_tokens, seed=0
        ),
        self_correction=SELF_CORRECTION,
        sampling=sizes.sampling,
    )


def _dataset(sizes: Recipe, source: str | None, output: str) -> BuildDatasetSpec:
    """Return the data set of drawn scenes, or of the pictures of a source."""
    if source is None:
        scenes = ScenesConfig(count=sizes.num_scenes, size_px=sizes.size_px)
        filters = FilterConfig(min_side_px=min(32, sizes.size_px))
        return BuildDatasetSpec(output=output, scenes=scenes, filters=filters, validation_share=0.04)
    return BuildDatasetSpec(output=output, source=source, fingerprint=fingerprint(source), validation_share=0.1)


def _optimizer(
    sizes: Recipe,
    rate: float,
    loop: LoopConfig,
    *,
    decay: Literal["constant", "cosine", "linear"] = "cosine",
    warmup_share: float = 0.05,
    weight_decay: float = 0.005,
) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=rate,
        clip_norm=1.0,
        weight_decay=weight_decay,
        warmup_steps=min(100, round(warmup_share * loop.num_steps)),
        decay=decay,
        algorithm=sizes.algorithm,
    )


def _loop(
    num_steps: int, batch_size: int, *, num_parts: int = 1, num_sheets: int = 4, ema_decay: float = 0.995
) -> LoopConfig:
    """Return a loop with a short average, about fifty logged steps, few sheets of samples and few checkpoints."""
    return LoopConfig(
        num_steps=num_steps,
        batch_size=batch_size,
        num_parts=num_parts,
        log_every_steps=max(1, num_steps // 50),
        save_every_steps=max(1, -(-num_steps // 3)),
        sample_every_steps=max(1, -(-num_steps // num_sheets)),
        ema_decay=ema_decay,
    )


def _demo() -> Recipe:
    """Return the demo: less than ten minutes on two cores for all stages together (decision 9)."""
    num_bits = 24
    return Recipe(
        num_scenes=8000,
        size_px=48,
        sides=(1, 2, 4, 6),
        tokenizer=tokenizer_preset("scenes").replace(num_bits=num_bits),
        losses=SCENE_LOSSES.replace(l1=0.25, l2=6.0),
        tokenizer_loop=_loop(1200, 16, num_parts=2),
        tokenizer_rate=6e-3,
        transformer=TransformerConfig(
            width=128,
            num_heads=4,
            depth=4,
            num_bits=num_bits,
            text_channels=128,
            max_text_tokens=64,
            drop_path=0.0,
            condition_drop=0.1,
        ),
        pretrain_loop=_loop(450, 32, num_parts=2),
        finetune_loop=_loop(750, 32, num_parts=2),
        transformer_rate=5e-3,
        scenes=SceneBenchmark(),
        num_measured=256,
        sampling=SamplingConfig(guidance=2.0, temperature=0.5),
        # Two processes of one thread each: small operations gain little from a second thread, but half batches run
        # almost twice as fast.
        workers=WorkersConfig(num_workers=2, threads=1),
        algorithm="muon",
    )


def _emoji() -> Recipe:
    """Return the recipe for a few thousand small pictures, each with a name of its own: an hour on two cores.

    It has more bits and a wider tokenizer than the demo, whose few colours and shapes need less. It makes many epochs,
    since every name occurs only once per epoch.
    """
    num_bits, demo = 32, _demo()
    return demo.replace(
        tokenizer=demo.tokenizer.replace(num_bits=num_bits, base_width=24),
        losses=SCENE_LOSSES,
        tokenizer_loop=_loop(1900, 16, num_parts=2),
        tokenizer_rate=5e-3,
        transformer=demo.transformer.replace(width=192, num_heads=6, depth=6, num_bits=num_bits),
        pretrain_loop=_loop(900, 32, num_parts=2, num_sheets=8),
        finetune_loop=_loop(1200, 32, num_parts=2),
        transformer_rate=4e-3,
        sampling=SamplingConfig(guidance=3.0, temperature=0.4),
    )


def _mini() -> Recipe:
    """Return the smallest run with every stage and every file, for tests; its pictures are useless."""
    num_bits = 8
    return Recipe(
        num_scenes=160,
        size_px=32,
        sides=(1, 2, 4),
        tokenizer=tokenizer_preset("scenes").replace(num_bits=num_bits, base_width=8, norm_groups=2),
        losses=SCENE_LOSSES,
        tokenizer_loop=_loop(40, 8, num_sheets=2, ema_decay=0.9),
        tokenizer_rate=3e-3,
        transformer=TransformerConfig(
            width=32, num_heads=2, depth=2, num_bits=num_bits, text_channels=32, max_text_tokens=16, drop_path=0.0
        ),
        pretrain_loop=_loop(20, 8, num_sheets=2, ema_decay=0.9),
        finetune_loop=_loop(10, 8, num_sheets=2, ema_decay=0.9),
        transformer_rate=2e-3,
        scenes=SceneBenchmark(pictures_per_prompt=1, prompts_per_task=2, num_shown=2),
        num_measured=16,
        sampling=SamplingConfig(guidance=2.0, temperature=0.5),
        workers=WorkersConfig(num_workers=1, threads=1),
    )
