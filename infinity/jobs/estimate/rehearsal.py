"""A training's step on made-up data: the spec's own models, losses and update, without a data set or weights.

With fake tensors (`infinity.jobs.estimate.tracing`) it tells what a step holds; with real ones how long it takes here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.tokenizer import learning as learning_tokenizer
from infinity.jobs.training.transformer import TrainTransformerSpec, learning
from infinity.perception.lpips import Lpips
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.loaders.latents import LatentBatch
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.state import TrainState, generator_for
from infinity.training.step import TrainStep
from infinity.training.tokenizer.discriminator import PatchDiscriminator, opponent_of
from infinity.training.tokenizer.objective import TokenizerTask
from infinity.training.transformer.objective import TransformerTask
from infinity.transformer.model import Transformer

AnyTrainSpec = TrainTokenizerSpec | TrainTransformerSpec
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A training of one worker, ready to take steps.

    Attributes:
        state: With its weights, optimizer and averages.
        update: One step.
        parts: This worker's parts of a made-up batch.
        resting_bytes: Of frozen weights that a step needs beside them.
    """

    state: TrainState
    update: TrainStep[Any]
    parts: Sequence[Any]
    resting_bytes: int = 0

    def step(self) -> None:
        """Losses, gradients and update of one batch."""
        self.update(self.parts, False)


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker does in a step.

    Attributes:
        schedule: Grids of the pictures.
        part_size: Pictures of its largest part.
        num_parts: Parts that it works off one after the other.
        text_tokens: Tokens of a caption.
    """

    schedule: ScaleSchedule
    part_size: int
    num_parts: int
    text_tokens: int = 0

    @classmethod
    def of(cls, spec: AnyTrainSpec, *, aspect_ratio: float = 1.0, text_tokens: int | None = None) -> Load:
        """The heaviest worker's load, with pictures of one aspect ratio.

        Args:
            spec: Of either training.
            aspect_ratio: Height over width.
            text_tokens: Of a caption; None takes the longest that the text encoder gives, up to 128.
        """
        batch_size, schedule = spec.loop.batch_size, spec.resolution.schedule(aspect_ratio)
        if isinstance(spec, TrainTokenizerSpec):
            turns = [(t.resolution.schedule(aspect_ratio), t.batch_size) for t in spec.turns]
            schedule, batch_size = max(turns, key=lambda turn: math.prod(turn[0].last_grid) * turn[1])
        elif text_tokens is None:
            text_tokens = min(spec.text.max_tokens, 128)
        return cls(
            schedule=schedule,
            part_size=-(-batch_size // spec.loop.num_parts),
            num_parts=-(-spec.loop.num_parts // spec.workers.num_workers),
            text_tokens=text_tokens or 0,
        )


def rehearse(
    spec: AnyTrainSpec,
    load: Load,
    *,
    tokenizer: TokenizerConfig | None = None,
    real: bool = True,
    device: torch.device = CPU,
    bfloat16: bool | None = None,
) -> Rehearsal:
    """Make a training ready, all weights in this process.

    Args:
        spec: Its manifest, tokenizer and start are not opened.
        load: What is made up.
        tokenizer: Shape of the frozen tokenizer of a transformer; not needed for a tokenizer.
        real: Draw weights; fake tensors need none.
        device: Where to compute.
        bfloat16: Whether matrix products of a transformer are; None: on a GPU.
    """
    if isinstance(spec, TrainTokenizerSpec):
        return _rehearse_tokenizer(spec, load, real=real)
    assert tokenizer is not None, "a transformer needs the shape of its tokenizer"
    rehearsal, learner = _rehearse_transformer(spec, load, tokenizer, real=real, device=device)
    if bfloat16 is not None:
        learner.bfloat16 = bfloat16
    return rehearsal


def _rehearse_transformer(
    spec: TrainTransformerSpec, load: Load, tokenizer: TokenizerConfig, *, real: bool, device: torch.device
) -> tuple[Rehearsal, TransformerTask]:
    with device:
        transformer = Transformer(spec.model)
    if real:
        transformer.init_weights(generator_for(0, "weights", device=device))
    on_gpu = device.type == "cuda"
    kernel = "windows" if spec.engine.attention == "flex" and not on_gpu else spec.engine.attention
    here = spec.replace(
        workers=spec.workers.replace(shard=False, offload=False, use_gpu=on_gpu),
        engine=spec.engine.replace(attention=kernel, compile=real and spec.engine.compile),
    )
    state, learner = learning(here, transformer, tokenizer, ProcessGroup(), device)
    size, tokens = load.part_size, load.text_tokens
    grid = load.schedule.unfolded().last_grid if tokenizer.fold else load.schedule.last_grid
    latents = torch.randn(size, tokenizer.num_bits, *grid)
    text = TextCondition(torch.randn(size * tokens, spec.model.text_channels), (tokens,) * size)
    part = LatentBatch(tuple(map(str, range(size))), load.schedule, latents, text)
    return _ready(spec, load, state, learner, part), learner


def _rehearse_tokenizer(spec: TrainTokenizerSpec, load: Load, *, real: bool) -> Rehearsal:
    tokenizer = Tokenizer(spec.model)
    opponent = network = None
    if spec.adversarial is not None:
        discriminator = PatchDiscriminator(spec.adversarial)
        if real:
            discriminator.init_weights(generator_for(0, "discriminator"))
        opponent = opponent_of(discriminator)
        opponent.from_step = 0  # a step that it takes part in
    if real:
        tokenizer.init_weights(generator_for(0, "weights"))
    if spec.perceptual is not None:
        network = Lpips(spec.perceptual.network.trunk).requires_grad_(False)
    state, learner = learning_tokenizer(spec, tokenizer, opponent, network)
    size = load.part_size
    shape = (size, *load.schedule.image_size_px(spec.model.stride_px), 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    part = PictureBatch(tuple(map(str, range(size))), tuple(range(size)), load.schedule, images, size * load.num_parts)
    resting = 0 if network is None else sum(weight.nbytes for weight in network.parameters())
    return _ready(spec, load, state, learner, part, resting)


def _ready(
    spec: AnyTrainSpec,
    load: Load,
    state: TrainState,
    learner: TransformerTask | TokenizerTask,
    part: Any,
    resting_bytes: int = 0,
) -> Rehearsal:
    learner.module.train()
    # One worker that works off all parts of its own batch; losses of made-up data are never too large.
    guard = spec.loop.guard.replace(explosion=None)
    loop = spec.loop.replace(batch_size=load.part_size * load.num_parts, num_parts=load.num_parts, guard=guard)
    update: TrainStep[Any] = TrainStep(state, learner, loop, spec.optimizer, 0, ProcessGroup())
    return Rehearsal(state, update, [part] * load.num_parts, resting_bytes)
