"""Named recipes of a tokenizer's training: two stages from BitVAE's released scripts, and a small adversarial one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from infinity.config import Config
from infinity.data.loading.augment import AugmentConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.perception.lpips import LpipsConfig
from infinity.presets import tokenizer_preset
from infinity.scales import Resolution, Size
from infinity.training.learner import LoopConfig
from infinity.training.loaders.mixing import MixedResolution
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.tokenizer.collapse import CollapseConfig
from infinity.training.tokenizer.discriminator import AdversarialConfig
from infinity.training.tokenizer.objective import PerceptualConfig, TokenizerLosses

TokenizerRecipe = Literal["paper-1", "paper-2", "scenes"]
TOKENIZER_RECIPES: tuple[TokenizerRecipe, ...] = get_args(TokenizerRecipe)

GPUS = 32
"""GPUs of the published training; each is one worker with one micro-batch of every batch."""
PER_GPU: dict[Size, int] = {"256": 8, "512": 4, "1024": 2}
"""Pictures per step on one GPU."""
TRUNCATED = 0.5
"""Weight of truncated pyramids in "reg" tokenizers, in half of the passes; the published weight is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerInputs(Config):
    """Inputs of a recipe.

    Attributes:
        manifest: URI of the data set's manifest.
        output: URI of the folder in which the job creates its folder.
        num_bits: Bits d per position: 16, 24, 32 or 64. The recipe "scenes" takes any number.
        start_from: Tokenizer folder, or published file (.pth), to start from.
        reg: Whether truncated pyramids move content into early scales ("reg" tokenizers).
        lpips: Places of the perceptual loss's weights; by default their published addresses.
        num_workers: Number of GPUs, or of processes of the recipe "scenes"; None for the recipe's.
    """

    manifest: str
    output: str
    num_bits: int = 32
    start_from: str | None = None
    reg: bool = False
    lpips: LpipsConfig = LpipsConfig()  # noqa: RUF009 - frozen
    num_workers: int | None = None


def tokenizer_recipe(name: TokenizerRecipe, inputs: TokenizerInputs) -> TrainTokenizerSpec:
    """Return the spec of a tokenizer's training.

    Args:
        name: Recipe. "paper-1" is the published first stage (256 px, 500,000 steps of 256 pictures on 32 GPUs).
            "paper-2" is the second (256, 512 and 1024 px in turn, 200,000 steps), which starts from the first or from
            published weights. "scenes" takes a few minutes on a CPU, for drawn scenes of 48 px.

    Raises:
        ValueError: The recipe or the number of bits is unknown, or the second stage has no start.
    """
    if name not in TOKENIZER_RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(TOKENIZER_RECIPES)}, got {name!r}")
    if name == "scenes":
        return _scenes(inputs)
    if name == "paper-2" and inputs.start_from is None:
        raise ValueError(
            "start_from: the recipe paper-2 starts from a tokenizer, got none; name the model folder of paper-1 or a "
            "published file"
        )
    num_steps, drop_step, from_step = (500_000, 450_000, 50_000) if name == "paper-1" else (200_000, 150_000, 0)
    sizes: tuple[Size, ...] = ("256",) if name == "paper-1" else ("256", "512", "1024")
    resolutions = tuple(
        MixedResolution(resolution=Resolution(size=size, dense=True), batch_size=GPUS * PER_GPU[size]) for size in sizes
    )
    mixed = resolutions if len(resolutions) > 1 else ()
    optimizer = _published_optimizer(drop_step)
    return TrainTokenizerSpec(
        output=inputs.output,
        manifest=inputs.manifest,
        resolution=Resolution(size=sizes[-1], dense=True),
        optimizer=optimizer,
        loop=LoopConfig(
            num_steps=num_steps,
            batch_size=GPUS * PER_GPU[sizes[-1]],
            num_parts=GPUS,
            log_every_steps=100,
            save_every_steps=2_000,
            sample_every_steps=5_000,
        ),
        workers=WorkersConfig(
            num_workers=GPUS if inputs.num_workers is None else inputs.num_workers, threads=4, use_gpu=True
        ),
        augment=AugmentConfig(crop="random", flip=0.5),
        stage=f"tokenizer-{name}",
        model=tokenizer_preset(f"d{inputs.num_bits}"),
        losses=_published_losses(inputs),
        collapse=CollapseConfig(from_step=10_000),
        perceptual=PerceptualConfig(weight=1.0, network=inputs.lpips),
        adversarial=AdversarialConfig(optimizer=optimizer.replace(learning_rate=2e-4), from_step=from_step),
        mixed=mixed,
        start_from=inputs.start_from,
    )


def _published_optimizer(drop_step: int) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=1e-4,
        betas=(0.9, 0.95),
        weight_decay=0.01,  # PyTorch's default; the published value is not known
        clip_norm=1.0,
        decay="drop",
        final_share=0.1,
        drop_step=drop_step,
    )


def _published_losses(inputs: TokenizerInputs) -> TokenizerLosses:
    """Return 4 x (0.25 commitment + 0.1 / 100 x entropies); published entropies are sums over bits, ours are means."""
    entropy = 4 * 0.1 / 100 * inputs.num_bits
    return TokenizerLosses(
        l1=1.0,
        commitment=4 * 0.25,
        certainty=entropy,
        balance=entropy,
        keep_probability=0.5,
        truncated=TRUNCATED if inputs.reg else 0.0,
        truncated_share=0.5 if inputs.reg else 1.0,
    )


def _scenes(inputs: TokenizerInputs) -> TrainTokenizerSpec:
    """Return the training of the demo's tokenizer against a small discriminator in its second half, without LPIPS."""
    optimizer = OptimizerConfig(learning_rate=6e-3, clip_norm=1.0, weight_decay=0.0, warmup_steps=60, decay="cosine")
    loop = LoopConfig(
        num_steps=1200,
        batch_size=16,
        num_parts=2,
        log_every_steps=25,
        save_every_steps=300,
        sample_every_steps=300,
        ema_decay=0.99,
    )
    return TrainTokenizerSpec(
        output=inputs.output,
        manifest=inputs.manifest,
        resolution=Resolution(sides=(1, 2, 4, 6), dense=True),
        optimizer=optimizer,
        loop=loop,
        workers=WorkersConfig(num_workers=1 if inputs.num_workers is None else inputs.num_workers, threads=1),
        stage="tokenizer-scenes",
        model=tokenizer_preset("scenes").replace(num_bits=inputs.num_bits),
        losses=TokenizerLosses(
            l1=1.0, l2=1.0, commitment=0.5, keep_probability=0.75, truncated=TRUNCATED if inputs.reg else 0.0
        ),
        adversarial=AdversarialConfig(
            optimizer=OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9), clip_norm=1.0, weight_decay=0.0),
            from_step=loop.num_steps // 2,
            weight=0.005,  # 0.1 cost 4 dB of reconstruction at these learning rates
            num_layers=2,
            base_width=32,
        ),
        start_from=inputs.start_from,
    )
