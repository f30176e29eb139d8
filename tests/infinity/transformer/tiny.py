"""Small transformers whose every parameter counts, and random captions and inputs for them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.transformer import Transformer, TransformerConfig

TEXT_CHANNELS = 48


def tiny_config(**changes: object) -> TransformerConfig:
    """Width 32, 2 heads, 3 blocks, 6 bits."""
    config = TransformerConfig(
        width=32, num_heads=2, depth=3, num_bits=6, text_channels=TEXT_CHANNELS, max_text_tokens=8
    )
    return config.replace(**changes)


def random_transformer(config: TransformerConfig | None = None, seed: int = 0) -> Transformer:
    """All parameters random, biases and gates too, so that a forgotten one shows; in evaluation mode."""
    model = Transformer(config or tiny_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = 1.5 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.normal_(std=std, generator=generator)
            if name.endswith(("norm.weight", "log_scale")):
                parameter.add_(1.0)
    return model.eval()


def random_text(lengths: Sequence[int], seed: int = 0) -> TextCondition:
    """Features of one caption a length."""
    generator = torch.Generator().manual_seed(seed)
    return TextCondition(torch.randn(sum(lengths), TEXT_CHANNELS, generator=generator), tuple(lengths))


def random_inputs(schedule: ScaleSchedule, batch_size: int, num_bits: int = 6, seed: int = 0) -> Tensor:
    """Inputs of scales 2 to K."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, schedule.num_tokens - schedule.spans[0].stop, num_bits, generator=generator)


def decode_all(model: Transformer, text: TextCondition, inputs: Tensor, schedule: ScaleSchedule) -> Tensor:
    """Logits of all scales through the cache."""
    decoding = model.start_decoding(text, schedule)
    logits = []
    first = schedule.spans[0].stop
    for k, span in enumerate(schedule.spans):
        part = inputs[:, span.start - first : span.stop - first] if k else None
        logits.append(model.logits(model.decode_scale(decoding, k, part), decoding.caption.pooled_BD))
    return torch.cat(logits, dim=1)
