"""An adversary: a second network trained against the first, in the same step and stored state (decision 30)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.training.distributed.sharding import TensorSource, assign_all, like
from infinity.training.optimizers.optimizer import OptimizerConfig

LOSS_AT_START = 2.0
"""Order of magnitude of the hinge loss of an untrained network, and of a trained one that errs now and then."""


class AdversaryNetwork(Protocol):
    """Interface of the second network, besides its weights and buffers."""

    def absorb(self, seen: Float[Tensor, " n"]) -> None:
        """Update the running averages with the batch's means of ``AdversarialLoss.seen``, after an update."""
        ...


@dataclass(frozen=True, slots=True)
class AdversarialLoss:
    """Loss of the second network on one micro-batch.

    Attributes:
        loss: Loss of the second network alone; its gradient reaches no weight of the first.
        seen: Values without gradient, of which the network keeps running averages; equally many in all micro-batches.
    """

    loss: Float[Tensor, ""]
    seen: Float[Tensor, " n"]


@dataclass(slots=True)
class Adversary:
    """The second network with its optimizer and statistics, as ``TrainState`` holds it.

    Attributes:
        module: An ``AdversaryNetwork``; copied to every worker, never sharded. Running averages are buffers, so that
            they are stored like weights.
        config: Learning rate and clipping.
        from_step: Updates of the first network before the second one starts to learn.
        num_seen: Number of values in ``AdversarialLoss.seen``.
        recent: Losses of the last updates; the guard compares with their median.
        awake: Whether the present step trains the network; set by the loop.
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
        """Weights of the network."""
        return list(self.module.parameters())

    def count(self, loss: float, seen: Tensor, *, window: int) -> None:
        """Record an update with its loss and answers."""
        self.recent = [*self.recent, loss][-window:]
        network: AdversaryNetwork = self.module  # type: ignore[assignment]  # a module's attributes are Any
        network.absorb(seen)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield weights, buffers and the optimizer's moments by name; not copies."""
        for name, value in self.module.state_dict().items():
            yield f"weights/{name}", value.detach()
        for name, weight in self.module.named_parameters():
            for slot, value in sorted(self.optimizer.state.get(weight, {}).items()):
                yield f"optimizer/{name}/{slot}", value.detach()

    @torch.no_grad()
    def load(self, tensors: Mapping[str, TensorSource], *, where: str) -> None:
        """Load what ``tensors`` yielded.

        Raises:
            ValueError: The tensors belong to another network.
        """
        own, prefix = self.module.state_dict(), "weights/"
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        assign_all(own, found, where, "discriminator")
        self.optimizer.state.clear()
        for name, weight in self.module.named_parameters():
            slots = {
                key.rpartition("/")[2]: value
                for key, value in tensors.items()
                if key.rpartition("/")[0] == f"optimizer/{name}"
            }
            if slots:
                self.optimizer.state[weight] = {slot: like(value, weight) for slot, value in slots.items()}
