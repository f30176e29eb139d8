"""Items a and b: a training pass of the transformer, and cached generation with guidance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.measuring.timing import Item
from benchmarks.run.tokenizer import codes_alone
from infinity.generation import Conditions, SamplingConfig, sample_bits
from infinity.scales import ScaleSchedule, Size, published_schedule
from infinity.text import TextCondition
from infinity.transformer import Transformer, TransformerConfig
from infinity.transformer.loss import bitwise_cross_entropy
from infinity.transformer.number_formats.precision import store_products_as

CONFIG = TransformerConfig(
    width=256, num_heads=4, depth=8, num_bits=32, text_channels=512, drop_path=0.0, condition_drop=0.0
)
TEXT_TOKENS = 32
BATCH = 4
GUIDANCE = 3.0
SIZES: tuple[Size, ...] = ("256", "512")


def items() -> list[Item]:
    """Return everything that is timed here."""
    model = {"width": CONFIG.width, "depth": CONFIG.depth, "num_heads": CONFIG.num_heads, "num_bits": CONFIG.num_bits}
    train = published_schedule(1.0, "256")
    return [
        Item("a", "transformer_forward_backward", {**model, **_sizes(train, BATCH)}, partial(prepare_training, train)),
        *(
            Item(
                "b",
                f"generation_{schedule.num_scales}_scales",
                {**model, **_sizes(schedule, 1), "guidance": GUIDANCE},
                partial(prepare_generation, schedule),
            )
            for schedule in (published_schedule(1.0, size) for size in SIZES)
        ),
    ]


def prepare_training(schedule: ScaleSchedule) -> Callable[[], object]:
    """Prepare a run that computes logits, mean loss and all gradients of one batch."""
    model, text, generator = random_model().train(), random_text(BATCH), torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH, schedule.num_tokens - 1, CONFIG.num_bits, generator=generator) * CONFIG.num_bits**-0.5
    bits = torch.rand(BATCH, schedule.num_tokens, CONFIG.num_bits, generator=generator) < 0.5

    def run() -> object:
        model.zero_grad(set_to_none=True)
        return bitwise_cross_entropy(model(text, inputs, schedule), bits).mean().backward()

    return run


def prepare_generation(schedule: ScaleSchedule) -> Callable[[], object]:
    """Prepare a run that samples the bits of one picture and the sum of their codes; the decoder is timed apart.

    Under autocast to bfloat16 the weights are stored in it, as a pipeline in bfloat16 does.
    """
    model = random_model().eval()
    if torch.is_autocast_enabled("cpu"):
        store_products_as(model, torch.get_autocast_dtype("cpu"))
    conditions = Conditions(random_text(1), [torch.Generator().manual_seed(0)])
    tokenizer = codes_alone(CONFIG.num_bits)
    sampling = SamplingConfig(guidance=GUIDANCE, nucleus=1.0)
    return lambda: sample_bits(model, tokenizer, conditions, schedule=schedule, sampling=sampling)


def random_model() -> Transformer:
    """Return the benchmark's transformer, freshly initialised."""
    model = Transformer(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def random_text(batch_size: int) -> TextCondition:
    """Return captions of equal length, as the reference's benchmark has them."""
    features = torch.randn(batch_size * TEXT_TOKENS, CONFIG.text_channels, generator=torch.Generator().manual_seed(1))
    return TextCondition(features, (TEXT_TOKENS,) * batch_size)


def _sizes(schedule: ScaleSchedule, batch_size: int) -> dict[str, Any]:
    return {"batch": batch_size, "num_scales": schedule.num_scales, "num_tokens": schedule.num_tokens}
