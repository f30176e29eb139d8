"""Exponential moving average (EMA) of the weights, which draws samples, is scored and is exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from infinity.training.distributed.sharding import TensorSource, assign, local


class Ema:
    """Moving average of a module's weights and buffers, float32.

    Early in a run the decay is smaller, (1 + n) / (10 + n) after n updates, so that the average forgets the random
    start.

    Args:
        module: Module whose weights are averaged; its tensors stay the same objects.
        decay: Highest decay.
        on_cpu: Whether the average lies in memory of the CPU and is computed there, for GPUs that have no room for it.
    """

    def __init__(self, module: nn.Module, decay: float, *, on_cpu: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA decay: expected a fraction from 0 to below 1, got {decay}")
        self.decay = decay
        live = {name: value.detach() for name, value in module.state_dict().items()}
        # Sharded like the weights.
        self._average = {n: value.to("cpu", copy=True) if on_cpu else value.clone() for n, value in live.items()}
        # The module's tensors never change their storage, so that they are looked up once, not at every update.
        moving = [name for name, value in live.items() if value.is_floating_point()]
        self._moving = [local(self._average[name]) for name in moving], [local(live[name]) for name in moving]
        self._copied = [(self._average[name], live[name]) for name in live.keys() - set(moving)]

    def decay_at(self, num_updates: int) -> float:
        """Return the decay of update number ``num_updates``, counted from 1."""
        return min(self.decay, (1 + num_updates) / (10 + num_updates))

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the average towards the module's present weights; copy integer buffers."""
        averages, current = self._moving
        share = 1.0 - self.decay_at(num_updates)
        if all(a.device == b.device for a, b in zip(averages, current, strict=True)):
            torch._foreach_lerp_(averages, current, share)
        else:
            for average, value in zip(averages, current, strict=True):
                average.lerp_(value.to("cpu"), share)  # one by one, so that the CPU holds no second copy
        for average, value in self._copied:
            average.copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, sharded where the module is; not copies."""
        return dict(self._average)

    def load(self, weights: Mapping[str, TensorSource]) -> None:
        """Load saved averages of the same module."""
        if weights.keys() != self._average.keys():
            raise ValueError(
                f"EMA: saved and present weights differ in {sorted(weights.keys() ^ self._average.keys())}"
            )
        for name, value in weights.items():
            assign(self._average[name], value)


@contextmanager
def averaged(module: nn.Module, ema: Ema | None) -> Iterator[None]:
    """Put the module in evaluation mode with the averaged weights; without an average it keeps its own weights."""
    was_training = module.training
    module.eval()
    kept = None
    try:
        if ema is not None:
            kept = {name: value.detach().clone() for name, value in module.state_dict().items()}
            module.load_state_dict(ema.weights())
        yield
    finally:
        if kept is not None:
            module.load_state_dict(kept)
        module.train(was_training)
