"""A second network that is trained against the first, as a part of the same step and of the same stored state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.training.distributed.sharding import TensorSource, assign, like
from infinity.training.optimizer import OptimizerConfig

LOSS_AT_START = 2.0
"""Order of magnitude of the hinge loss of a network that knows nothing, and of one that errs now and then."""


class AdversaryNetwork(Protocol):
    """What the loop asks of the second network besides its weights and buffers."""

    def absorb(self, seen: Float[Tensor, " n"]) -> None:
        """Take the means over the batch of what ``AdversarialLoss.seen`` held into its averages, after an update."""
        ...


@dataclass(frozen=True, slots=True)
class AdversarialLoss:
    """What a learner says about the second network on one part.

    Attributes:
        loss: Of the second network alone; its gradient reaches no weight of the first.
        seen: Figures of the part without gradient, of which the network keeps running averages; as many on all parts.
    """

    loss: Float[Tensor, ""]
    seen: Float[Tensor, " n"]


@dataclass(slots=True)
class Adversary:
    """The second network with its optimizer: what ``TrainState`` holds of it.

    Attributes:
        module: A network of its own that is a ``AdversaryNetwork``; copied to every worker, never sharded. Running averages are
            buffers, so that they are stored like weights.
        optimizer: Of its weights.
        config: Its learning rate and clipping.
        from_step: Updates of the first network before it begins.
        num_seen: How many figures ``AdversarialLoss.seen`` has.
        recent: Its losses of the last updates, of which the guard takes the usual loss.
        awake: Whether the present step trains it; set by the loop.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    config: OptimizerConfig
    from_step: int = 0
    num_seen: int = 0
    recent: list[float] = field(default_factory=list)
    awake: bool = False

    @property
    def weights(self) -> list[nn.Parameter]:
        """Of the network."""
        return list(self.module.parameters())

    def count(self, loss: float, seen: Tensor, *, window: int) -> None:
        """An update was done."""
        self.recent = [*self.recent, loss][-window:]
        player: AdversaryNetwork = self.module  # type: ignore[assignment]  # a module's attributes are Any
        player.absorb(seen)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, buffers and running means of the optimizer by name; not copies."""
        for name, value in self.module.state_dict().items():
            yield f"weights/{name}", value.detach()
        for name, weight in self.module.named_parameters():
            for slot, value in sorted(self.optimizer.state.get(weight, {}).items()):
                yield f"optimizer/{name}/{slot}", value.detach()

    @torch.no_grad()
    def load(self, tensors: Mapping[str, TensorSource], *, where: str) -> None:
        """Take over what ``tensors`` gave.

        Raises:
            ValueError: Another network.
        """
        own, prefix = self.module.state_dict(), "weights/"
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if differing := sorted(
            name
            for name in own.keys() | found.keys()
            if name not in own or name not in found or own[name].shape != found[name].shape
        ):
            raise ValueError(f"{where}: state of another discriminator; weights that differ: {differing[:5]}")
        for name, value in own.items():
            assign(value, found[name])
        self.optimizer.state.clear()
        for name, weight in self.module.named_parameters():
            slots = {
                key.rpartition("/")[2]: value
                for key, value in tensors.items()
                if key.rpartition("/")[0] == f"optimizer/{name}"
            }
            if slots:
                self.optimizer.state[weight] = {slot: like(value, weight) for slot, value in slots.items()}
