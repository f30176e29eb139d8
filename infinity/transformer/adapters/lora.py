"""Low-rank adapters (LoRA, DoRA) on a loaded transformer: load, stack, scale and unload, without the library peft.

An adapter is a change of some linear maps' weights. The weights in use are always ``base + sum of scale * change``,
computed in float32 from the unchanged base, so a scale of 0 gives the base back bit for bit, and a model into which
adapters were merged computes with the same numbers as one on which they are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.transformer.model import Transformer
from infinity.transformer.number_formats.quantized import QuantizedLinear


class AdapterError(ValueError):
    """An adapter is damaged, of an unknown kind, or of another model."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """Change of one linear map.

    Attributes:
        down: Matrix A, first applied.
        up: Matrix B, applied to A's output.
        scaling: Factor of B A, usually alpha / rank.
        magnitude: Lengths of the rows of the changed weight (DoRA); None for LoRA.
    """

    down: Float[Tensor, "R In"]
    up: Float[Tensor, "Out R"]
    scaling: float
    magnitude: Float[Tensor, " Out"] | None = None

    def change(self, base: Float[Tensor, "Out In"]) -> Float[Tensor, "Out In"]:
        """Return the difference to a base weight, float32.

        DoRA defines the whole changed weight; its difference scales like that of LoRA.
        """
        product = self.scaling * (self.up.float() @ self.down.float())
        if self.magnitude is None:
            return product
        changed = base.float() + product
        lengths: Tensor = torch.linalg.vector_norm(changed, dim=1, keepdim=True)
        difference: Tensor = changed * (self.magnitude.float().unsqueeze(1) / lengths) - base.float()
        return difference

    def to(self, device: torch.device) -> LowRank:
        """Return the change on another device."""
        magnitude = None if self.magnitude is None else self.magnitude.to(device)
        return LowRank(self.down.to(device), self.up.to(device), self.scaling, magnitude)


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A named adapter.

    Attributes:
        name: Name for messages and for the metadata of pictures.
        layers: Change of each linear map, by the name of its module.
        digest: 16 hexadecimal digits over the adapter's tensors and factors.
    """

    name: str
    layers: Mapping[str, LowRank]
    digest: str


class AdapterStack:
    """Adapters on one transformer, whose weights this object changes and restores.

    Example:
        >>> from infinity.presets import transformer_preset
        >>> model = Transformer(transformer_preset("tiny"))
        >>> model.init_weights(torch.Generator().manual_seed(0))
        >>> stack = AdapterStack(model)
        >>> before = model.blocks[0].feed_forward.expand.weight.detach().clone()
        >>> change = LowRank(torch.ones(1, 64), torch.ones(256, 1), 0.5)
        >>> stack.set([(Adapter("a", {"blocks.0.feed_forward.expand": change}, ""), 1.0)])
        >>> torch.equal(model.blocks[0].feed_forward.expand.weight, before + 0.5)
        True
        >>> stack.set([])
        >>> torch.equal(model.blocks[0].feed_forward.expand.weight, before)
        True
    """

    def __init__(self, transformer: Transformer) -> None:
        self.transformer = transformer
        self.loaded: tuple[tuple[Adapter, float], ...] = ()
        self._base: dict[str, Tensor] = {}

    @torch.no_grad()
    def set(self, adapters: Iterable[tuple[Adapter, float]]) -> None:
        """Replace the loaded adapters by these, each with its scale; 0 is no change, 1 the whole.

        Raises:
            AdapterError: An adapter is not one of this transformer, a scale is no finite number, or the weights would
                be infinite; nothing is changed then.
        """
        wanted = tuple((adapter, _scale(adapter, scale)) for adapter, scale in adapters)
        for adapter, _ in wanted:
            check_fit(adapter, self.transformer)
        used = [(adapter, scale) for adapter, scale in wanted if scale != 0.0]
        touched = {name for adapter, _ in used for name in adapter.layers}
        for name in sorted(self._base.keys() - touched):
            _weight(self.transformer, name).copy_(self._base.pop(name))
        for name in sorted(touched):
            weight = _weight(self.transformer, name)
            base = self._base.setdefault(name, weight.clone())
            total = base.float()
            for adapter, scale in used:
                if (layer := adapter.layers.get(name)) is not None:
                    total = total + scale * layer.to(base.device).change(base)
            weight.copy_(total)
            if not weight.isfinite().all():
                self.set(self.loaded)
                named = ", ".join(f"{adapter.name}:{scale:g}" for adapter, scale in used)
                raise AdapterError(f"adapters {named}: {name} would hold NaN or infinity; expected smaller scales")
        self.loaded = wanted


def _scale(adapter: Adapter, scale: object) -> float:
    """Return a scale of any library as a plain number, as files of pictures hold it."""
    is_number = isinstance(scale, int | float | np.integer | np.floating) and not isinstance(scale, bool)
    try:
        found = float(scale) if is_number else math.nan  # type: ignore[arg-type]
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise AdapterError(f"adapter {adapter.name}: expected a finite number as its scale, got {scale!r:.40}")
    return found


def check_fit(adapter: Adapter, transformer: Transformer) -> None:
    """Refuse an adapter of another model.

    Raises:
        AdapterError: The transformer lacks a linear map, one has another shape, or a number is not finite.
    """
    for name, layer in adapter.layers.items():
        try:
            module: nn.Module | None = transformer.get_submodule(name)
        except AttributeError:
            module = None
        if isinstance(module, QuantizedLinear):
            raise AdapterError(
                f"adapter {adapter.name}: this model is loaded with {module.kind} weights, which cannot take adapters; "
                "load it without quantization, or merge the adapter into it first (infinity adapter merge)"
            )
        if not isinstance(module, nn.Linear):
            raise AdapterError(
                f"adapter {adapter.name}: this model has no linear map {name}; it is one of another model"
            )
        expected, rank = tuple(module.weight.shape), layer.down.shape[0]
        found = (layer.up.shape[0], layer.down.shape[1])
        if found != expected or layer.up.shape[1] != rank:
            raise AdapterError(
                f"adapter {adapter.name}: {name} is {expected[0]} x {expected[1]} in this model, the adapter's is "
                f"{found[0]} x {found[1]}; it is one of another model"
            )
        parts = [layer.down, layer.up] + ([] if layer.magnitude is None else [layer.magnitude])
        if not all(bool(part.isfinite().all()) for part in parts):
            raise AdapterError(f"adapter {adapter.name}: {name} holds NaN or infinity; the file is damaged")


def low_rank_difference(base: Float[Tensor, "Out In"], tuned: Float[Tensor, "Out In"], rank: int) -> LowRank:
    """Return the best approximation of a weight's change by a rank (truncated singular value decomposition)."""
    left, values, right = torch.linalg.svd((tuned.float() - base.float()), full_matrices=False)
    root = values[:rank].sqrt()
    return LowRank((root.unsqueeze(1) * right[:rank]).contiguous(), (left[:, :rank] * root).contiguous(), 1.0)


def difference_adapter(base: Transformer, tuned: Transformer, rank: int) -> tuple[Adapter, float]:
    """Return an adapter that makes one model of the blocks' linear maps of another, as far as its rank allows.

    Args:
        base: Model before the finetuning.
        tuned: Model after it, of the same shape.
        rank: Rank of every changed linear map.

    Returns:
        The adapter, and the share of the change that it leaves out: the Frobenius norm of the rest over that of the
        whole change, where weights outside the linear maps count as left out.

    Raises:
        AdapterError: The models have other shapes, or do not differ in a linear map.
    """
    if base.config != tuned.config:
        raise AdapterError("expected two models of one shape, got two of different shapes")
    layers, whole, rest = {}, 0.0, 0.0
    linear = {f"{name}.weight": name for name, module in base.named_modules() if isinstance(module, nn.Linear)}
    after = dict(tuned.named_parameters())
    for name, value in base.named_parameters():
        one, other = value.detach().float(), after[name].detach().float()
        whole += float((other - one).double().square().sum())
        if (place := linear.get(name, "")).startswith("blocks.") and not torch.equal(one, other):
            layers[place] = low_rank_difference(one, other, rank)
            other = other - layers[place].change(one)
        rest += float((other - one).double().square().sum())
    if not layers:
        raise AdapterError("expected two models whose blocks differ, found none that do")
    return Adapter("difference", layers, ""), (rest / whole) ** 0.5


def _weight(transformer: Transformer, name: str) -> Tensor:
    weight: Tensor = transformer.get_submodule(name).weight  # type: ignore[assignment]
    return weight
