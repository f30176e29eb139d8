"""Named recipes of a tokenizer's training: the two stages of BitVAE's released scripts, and a small adversarial one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from infinity.config import Config
from infinity.data.loading.augment import AugmentConfig
from infinity.jobs.training.base import WorkersConfig
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.perception.lpips import LpipsConfig
from infinity.presets import tokenizer_preset
from infinity.scales import Resolution, Size
from infinity.training.learner import LoopConfig
from infinity.training.loaders.mixing import MixedResolution
from infinity.training.optimizer import OptimizerConfig
from infinity.training.tokenizer.collapse import CollapseConfig
from infinity.training.tokenizer.discriminator import AdversarialConfig
from infinity.training.tokenizer.objective import PerceptualConfig, TokenizerLosses

TokenizerRecipe = Literal["paper-1", "paper-2", "scenes"]
TOKENIZER_RECIPES: tuple[TokenizerRecipe, ...] = get_args(TokenizerRecipe)

GPUS = 32
"""Of the published training; a worker each, and one part of every batch each."""
PER_GPU: dict[Size, int] = {"256": 8, "512": 4, "1024": 2}
"""Pictures of a step on one of them."""
TRUNCATED = 0.5
"""Weight of truncated pyramids in "reg" tokenizers, in half of the passes; the published weights are not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerInputs(Config):
    """What a recipe does not say.

    Attributes:
        manifest: URI of the data set's manifest.
        output: URI of the folder that gets the job's folder.
        num_bits: d; there are 16, 24, 32 and 64. The recipe "scenes" takes any number.
        start_from: Tokenizer folder, or published file (.pth), to begin with.
        reg: Whether early scales are pressed to say more.
        lpips: Where the weights of the perceptual loss lie; their published addresses by default.
        num_workers: GPUs, or processes of the recipe "scenes"; None for the recipe's.
    """

    manifest: str
    output: str
    num_bits: int = 32
    start_from: str | None = None
    reg: bool = False
    lpips: LpipsConfig = LpipsConfig()  # noqa: RUF009 - frozen
    num_workers: int | None = None


def tokenizer_recipe(name: TokenizerRecipe, inputs: TokenizerInputs) -> TrainTokenizerSpec:
    """The spec of a tokenizer's training.

    Args:
        name: "paper-1" is the published first stage (256 px, 500,000 steps of 256 pictures on 32 GPUs), "paper-2" the
            second (256, 512 and 1024 px in turn, 200,000 steps), which starts from the first or from published weights;
            "scenes" a few minutes of a processor, for drawn scenes of 48 px.
        inputs: What the recipe does not say.

    Raises:
        ValueError: No such recipe, no published shape of so many bits, or a second stage without a start.
    """
    if name not in TOKENIZER_RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(TOKENIZER_RECIPES)}, got {name!r}")
    if name == "scenes":
        return _scenes(inputs)
    if name == "paper-2" and inputs.start_from is None:
        raise ValueError(
            "start_from: the recipe paper-2 begins with a tokenizer; name the model folder of paper-1 or a published "
            "file"
        )
    num_steps, drop_step, begins = (500_000, 450_000, 50_000) if name == "paper-1" else (200_000, 150_000, 0)
    sizes: tuple[Size, ...] = ("256",) if name == "paper-1" else ("256", "512", "1024")
    turns = tuple(
        MixedResolution(resolution=Resolution(size=size, dense=True), batch_size=GPUS * PER_GPU[size]) for size in sizes
    )
    mixed = turns if len(turns) > 1 else ()
    optimizer = OptimizerConfig(
        learning_rate=1e-4,
        betas=(0.9, 0.95),
        weight_decay=0.01,  # PyTorch's default; the published value is not known
        clip_norm=1.0,
        decay="drop",
        final_share=0.1,
        drop_step=drop_step,
    )
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
        workers=WorkersConfig(num_workers=inputs.num_workers or GPUS, threads=4, use_gpu=True),
        augment=AugmentConfig(crop="random", flip=0.5),
        stage=f"tokenizer-{name}",
        model=tokenizer_preset(f"d{inputs.num_bits}"),
        losses=_published_losses(inputs),
        collapse=CollapseConfig(from_step=10_000),
        perceptual=PerceptualConfig(weight=1.0, network=inputs.lpips),
        adversarial=AdversarialConfig(optimizer=optimizer.replace(learning_rate=2e-4), from_step=begins),
        mixed=mixed,
        start_from=inputs.start_from,
    )


def _published_losses(inputs: TokenizerInputs) -> TokenizerLosses:
    """4 x (0.25 commitment + 0.1 / 100 x entropies); there entropies are sums over the bits, here they are means."""
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
    """The demo's tokenizer for 16 bits, against a small discriminator in the second half; no LPIPS."""
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
        workers=WorkersConfig(num_workers=inputs.num_workers or 1, threads=1),
        stage="tokenizer-scenes",
        model=tokenizer_preset("scenes").replace(num_bits=inputs.num_bits),
        losses=TokenizerLosses(
            l1=1.0, l2=1.0, commitment=0.5, keep_probability=0.75, truncated=TRUNCATED if inputs.reg else 0.0
        ),
        adversarial=AdversarialConfig(
            optimizer=OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9), clip_norm=1.0, weight_decay=0.0),
            from_step=loop.num_steps // 2,
            weight=0.005,  # 0.1 took 4 dB from the reconstruction at these rates
            num_layers=2,
            base_width=32,
        ),
        start_from=inputs.start_from,
    )
