"""Run a training's step on made-up data: the spec's own models, losses and update, without a data set or weights.

With fake tensors (`infinity.jobs.estimate.tracing`) it measures memory, with real ones time (decision 32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.tokenizer import make_state_and_task as make_tokenizer_state_and_task
from infinity.jobs.training.transformer import TrainTransformerSpec, make_state_and_task
from infinity.perception.lpips import Lpips
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.loaders.latents import LatentBatch
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.state import TrainState, generator_for
from infinity.training.step import TrainStep
from infinity.training.tokenizer.discriminator import PatchDiscriminator, adversary_of
from infinity.training.tokenizer.objective import TokenizerTask
from infinity.training.transformer.objective import TransformerTask
from infinity.transformer.model import Transformer

AnyTrainSpec = TrainTokenizerSpec | TrainTransformerSpec
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A training of one worker, ready to take steps.

    Attributes:
        state: Weights, optimizer and averages.
        micro_batches: This worker's micro-batches of a made-up batch.
        resting_bytes: Size of the frozen weights of the losses.
    """

    state: TrainState
    update: TrainStep[Any]
    micro_batches: Sequence[Any]
    resting_bytes: int = 0

    def step(self) -> None:
        """Compute losses and gradients of one batch, and update the weights."""
        self.update(self.micro_batches, False)


@dataclass(frozen=True, slots=True)
class Load:
    """Work of one worker per step.

    Attributes:
        schedule: Grids of the pictures.
        part_size: Pictures of the largest micro-batch.
        num_parts: Micro-batches of the worker, which are its gradient-accumulation steps.
        text_tokens: Tokens per caption.
    """

    schedule: ScaleSchedule
    part_size: int
    num_parts: int
    text_tokens: int = 0

    @classmethod
    def of(cls, spec: AnyTrainSpec, *, aspect_ratio: float = 1.0, text_tokens: int | None = None) -> Load:
        """Return the heaviest worker's load, with pictures of one aspect ratio.

        Args:
            spec: Spec of either training.
            aspect_ratio: Height over width.
            text_tokens: Tokens per caption; None for the text encoder's maximum, up to 128.
        """
        batch_size, schedule = spec.loop.batch_size, spec.resolution.schedule(aspect_ratio)
        if isinstance(spec, TrainTokenizerSpec):
            loads = [(each.resolution.schedule(aspect_ratio), each.batch_size) for each in spec.resolutions]
            schedule, batch_size = max(loads, key=lambda load: math.prod(load[0].last_grid) * load[1])
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
    group: ProcessGroup | None = None,
) -> Rehearsal:
    """Build a training with all weights in this process, or one worker of a transformer's training.

    Args:
        spec: Spec of either training; its manifest, tokenizer and start model are not opened.
        load: Shape of the made-up batch.
        tokenizer: Shape of a transformer's frozen tokenizer; not needed for a tokenizer.
        real: Whether weights are drawn; fake tensors need none.
        bfloat16: Whether a transformer's matrix products are bfloat16; None for the default of the device.
        group: Workers of a transformer's training, whose weights are sharded and offloaded as the spec says; None for
            one worker that holds all weights.
    """
    if isinstance(spec, TrainTokenizerSpec):
        return _rehearse_tokenizer(spec, load, real=real)
    assert tokenizer is not None, "a transformer needs the shape of its tokenizer"
    rehearsal, task = _rehearse_transformer(spec, load, tokenizer, real=real, device=device, group=group)
    if bfloat16 is not None:
        task.bfloat16 = bfloat16
    return rehearsal


def _rehearse_transformer(
    spec: TrainTransformerSpec,
    load: Load,
    tokenizer: TokenizerConfig,
    *,
    real: bool,
    device: torch.device,
    group: ProcessGroup | None,
) -> tuple[Rehearsal, TransformerTask]:
    workers = spec.workers if group is not None else spec.workers.unsharded()
    with CPU if workers.offload else device:
        transformer = Transformer(spec.model)
    if real:
        transformer.init_weights(generator_for(0, "weights", device=device))
    on_gpu = device.type == "cuda"
    kernel = "windows" if spec.engine.attention == "flex" and not on_gpu else spec.engine.attention
    here = spec.replace(
        workers=workers.replace(use_gpu=on_gpu),
        engine=spec.engine.replace(attention=kernel, compile=real and spec.engine.compile),
    )
    group = group or ProcessGroup()
    state, task = make_state_and_task(here, transformer, tokenizer, group, device)
    size, tokens = load.part_size, load.text_tokens
    grid = load.schedule.unfolded().last_grid if tokenizer.fold else load.schedule.last_grid
    latents = torch.randn(size, tokenizer.num_bits, *grid)
    text = TextCondition(torch.randn(size * tokens, spec.model.text_channels), (tokens,) * size)
    micro_batch = LatentBatch(tuple(map(str, range(size))), load.schedule, latents, text)
    return _ready(spec, load, state, task, micro_batch, group=group), task


def _rehearse_tokenizer(spec: TrainTokenizerSpec, load: Load, *, real: bool) -> Rehearsal:
    tokenizer = Tokenizer(spec.model)
    adversary = network = None
    if spec.adversarial is not None:
        discriminator = PatchDiscriminator(spec.adversarial)
        if real:
            discriminator.init_weights(generator_for(0, "discriminator"))
        adversary = adversary_of(discriminator)
        adversary.from_step = 0  # it takes part from the first step, as in the heaviest steps of the training
    if real:
        tokenizer.init_weights(generator_for(0, "weights"))
    if spec.perceptual is not None:
        network = Lpips(spec.perceptual.network.trunk).requires_grad_(False)
    state, task = make_tokenizer_state_and_task(spec, tokenizer, adversary, network)
    size = load.part_size
    shape = (size, *load.schedule.image_size_px(spec.model.stride_px), 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    micro_batch = PictureBatch(
        tuple(map(str, range(size))), tuple(range(size)), load.schedule, images, size * load.num_parts
    )
    resting = 0 if network is None else sum(weight.nbytes for weight in network.parameters())
    return _ready(spec, load, state, task, micro_batch, resting)


def _ready(
    spec: AnyTrainSpec,
    load: Load,
    state: TrainState,
    task: TransformerTask | TokenizerTask,
    micro_batch: Any,
    resting_bytes: int = 0,
    group: ProcessGroup | None = None,
) -> Rehearsal:
    task.module.train()
    group = group or ProcessGroup()
    # Every worker has as many micro-batches; the guard must not skip losses of made-up data.
    guard, num_parts = spec.loop.guard.replace(explosion=None), load.num_parts * group.size
    loop = spec.loop.replace(batch_size=load.part_size * num_parts, num_parts=num_parts, guard=guard)
    update: TrainStep[Any] = TrainStep(state, task, loop, spec.optimizer, 0, group)
    return Rehearsal(state, update, [micro_batch] * load.num_parts, resting_bytes)
