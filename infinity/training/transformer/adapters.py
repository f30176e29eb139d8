"""Low-rank adapters (LoRA, DoRA), which finetune a large transformer through few new weights.

The adapters are those of the library peft. Samples are drawn with, and the model folder of an export holds, a plain
transformer with the adapters merged into its weights; the adapter alone is exported beside it, as peft's own files.

The frozen weights below adapters may be stored in 8 or 5 bits each (QLoRA, arXiv 2305.14314). The adapter that comes
out is one of the unquantized model, into whose weights an export merges it.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from infinity.config import Config
from infinity.ranges import Count, Positive, ShareBelowOne
from infinity.transformer.adapters.lora import Adapter, AdapterStack, LowRank
from infinity.transformer.adapters.lora_files import adapter_digest
from infinity.transformer.model import Transformer
from infinity.transformer.number_formats.quantized import (
    Quantization,
    QuantizedLinear,
    check_quantization,
    quantize_products,
)

TARGETS = ("query_key", "value", "query", "key", "project", "expand", "contract")
"""Names of a block's linear maps: self-attention, cross-attention to the caption, and feed-forward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig(Config):
    """Shape of the adapters.

    Attributes:
        alpha: Scale of an adapter, which is multiplied by ``alpha / rank``.
        dropout: Probability that an input of an adapter is dropped in training.
        dora: Whether magnitude and direction of every output's weight are trained apart (DoRA).
        targets: Names of the adapted linear maps, from ``TARGETS``.
        base: Form in which the blocks' frozen weights are stored, "int8" or "int4" (QLoRA); None for floating point.
    """

    later: ClassVar[frozenset[str]] = frozenset({"base"})

    rank: Count = 16
    alpha: Positive = 16.0
    dropout: ShareBelowOne = 0.0
    dora: bool = False
    targets: tuple[str, ...] = TARGETS
    base: Quantization | None = None

    def __post_init__(self) -> None:
        if not self.targets or (unknown := sorted(set(self.targets) - set(TARGETS))):
            raise ValueError(f"AdapterConfig.targets: expected some of {TARGETS}, got {self.targets or unknown}")
        check_quantization(self.base)


def add_adapters(transformer: Transformer, config: AdapterConfig) -> None:
    """Freeze all weights and add adapters to the blocks' linear maps; new adapters change no output.

    The blocks' weights are quantized first where the configuration says so.

    Raises:
        ImportError: The library peft is not installed.
        ValueError: A weight that is quantized is not finite.
    """
    try:
        with _quiet_import():
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora.layer import Linear as AdaptedLinear
    except ImportError as error:
        raise ImportError(
            "adapters need the library peft, which is not installed: pip install 'infinity-t2i[adapters]'"
        ) from error
    names = "|".join(config.targets)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_dora=config.dora,
        target_modules=rf"blocks\.\d+\.(.+\.)?({names})",
    )
    if config.base is not None:
        quantize_products(transformer, config.base)
        lora._register_custom_module({QuantizedLinear: AdaptedLinear})  # peft adapts maps of its own list alone
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)  # a quantized map, which is supported
        inject_adapter_in_model(lora, transformer)


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Silence warnings of an import about GPU extensions of torchao, which peft loads and adapters do not use."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def merged(transformer: Transformer) -> Transformer:
    """Return a plain copy in evaluation mode with the adapters merged in; the transformer itself stays unchanged."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(transformer)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, own = name.rpartition(".")
            setattr(plain.get_submodule(parent), own, module.get_base_layer())
    for weight in plain.parameters():
        weight.requires_grad_(True)
    return plain.eval()


def merged_into(base: Transformer, adapter: Adapter) -> Transformer:
    """Return the given transformer itself, in evaluation mode, with an adapter added to its weights.

    Raises:
        AdapterError: The adapter is one of another model, or not finite.
    """
    AdapterStack(base).set([(adapter, 1.0)])
    return base.eval()


def trained_adapter(transformer: Transformer, name: str) -> Adapter:
    """Return the adapters of a transformer in training as one that can be saved and loaded without peft."""
    from peft.tuners.lora import LoraLayer

    layers = {}
    for place, module in transformer.named_modules():
        if isinstance(module, LoraLayer):
            (key,) = module.lora_A.keys()
            magnitude = (
                module.lora_magnitude_vector[key].weight.detach() if key in module.lora_magnitude_vector else None
            )
            down, up = module.lora_A[key].weight.detach(), module.lora_B[key].weight.detach()
            layers[place] = LowRank(down.clone(), up.clone(), float(module.scaling[key]), magnitude)
    return Adapter(name, layers, adapter_digest(layers))


def has_adapters(module: nn.Module) -> bool:
    """Return whether the module has adapters."""
    return any("lora_" in name for name, _ in module.named_parameters())


def has_quantized_base(module: nn.Module) -> bool:
    """Return whether the module has quantized weights, into which no adapter can be merged."""
    return any(isinstance(each, QuantizedLinear) for each in module.modules())
