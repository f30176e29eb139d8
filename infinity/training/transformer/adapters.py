"""Low-rank adapters (LoRA, DoRA): a large transformer is finetuned through few new weights, and comes out plain.

The adapters are those of the library peft. They exist only while a training runs: what is drawn with and exported is a
transformer whose weights have the adapters added in, as if all of it had been trained.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from infinity.config import Config
from infinity.transformer.model import Transformer

TARGETS = ("query_key", "value", "query", "key", "project", "expand", "contract")
"""Names of the linear maps of a block: attention to itself and to the caption, and the feed-forward part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig(Config):
    """Which new weights are trained.

    Attributes:
        rank: Columns of the two thin matrices of every adapted map.
        alpha: Their product is scaled by ``alpha / rank``.
        dropout: Share of a map's inputs that its adapter does not see in training.
        dora: Train the length of every output's weight apart from its direction.
        targets: Names of the linear maps of a block that are adapted, of ``TARGETS``.
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    dora: bool = False
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0.0 <= self.dropout < 1.0:
            raise ValueError(
                "AdapterConfig: expected rank of at least 1, alpha above 0 and dropout from 0 to below 1, got "
                f"{self.rank}, {self.alpha} and {self.dropout}"
            )
        if not self.targets or (unknown := sorted(set(self.targets) - set(TARGETS))):
            raise ValueError(f"AdapterConfig.targets: expected some of {TARGETS}, got {self.targets or unknown}")


def add_adapters(transformer: Transformer, config: AdapterConfig) -> None:
    """Freeze all weights and give the blocks' linear maps adapters, which change nothing until they are trained.

    Raises:
        ImportError: The library peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
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
    inject_adapter_in_model(lora, transformer)


def merged(transformer: Transformer) -> Transformer:
    """A plain copy in evaluation mode, adapters added in; the transformer itself is left as it is."""
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


def has_adapters(module: nn.Module) -> bool:
    """Whether ``add_adapters`` was called on it."""
    return any("lora_" in name for name, _ in module.named_parameters())
