"""AdamW whose moments rest in memory of the CPU, for GPUs that have no room for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from infinity.training.distributed.sharding import local

BUCKET_ELEMENTS = 64 * 2**20
"""Numbers whose moments are on the GPU at a time: 512 MiB."""


class HostAdamW(torch.optim.AdamW):
    """AdamW that brings moments to their weights' device for a part of the weights at a time, and back.

    The update is that of AdamW on the device, with equal bits.
    """

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient; the moments are back on the CPU when this returns."""
        assert closure is None, "losses are computed before"
        whole = [group["params"] for group in self.param_groups]
        try:
            for number, weights in enumerate(whole):
                for part in _parts(weights):
                    for each, group in enumerate(self.param_groups):
                        group["params"] = part if each == number else []
                    self._update(part)
        finally:
            for group, weights in zip(self.param_groups, whole, strict=True):
                group["params"] = weights
        devices = {weight.device for weights in whole for weight in weights if weight.device.type == "cuda"}
        for device in devices:
            torch.cuda.current_stream(device).synchronize()  # from here on the CPU may read them

    def rest(self, weight: Tensor) -> None:
        """Move the moments of a weight to the CPU, after a state was loaded."""
        for slot, value in self.state[weight].items():
            self.state[weight][slot] = _home(value)

    def _update(self, weights: list[Tensor]) -> None:
        homes = {weight: dict(self.state[weight]) for weight in weights if weight in self.state}
        for weight, slots in homes.items():
            self.state[weight] = {slot: value.to(weight.device, non_blocking=True) for slot, value in slots.items()}
        super().step()
        for weight in weights:
            for slot, value in self.state.get(weight, {}).items():
                home = homes.get(weight, {}).get(slot)
                if home is None:
                    self.state[weight][slot] = _home(value)
                else:
                    if local(home).device != local(value).device:
                        local(home).copy_(local(value), non_blocking=True)
                    self.state[weight][slot] = home


def _home(value: Tensor) -> Tensor:
    """Return a tensor's copy on the CPU, which copies to and from a GPU do not wait for; itself where it is there."""
    on_cpu = value.to("cpu")
    return on_cpu.pin_memory() if type(value) is Tensor and value.device.type == "cuda" else on_cpu


def _parts(weights: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    for weight in weights:
        if part and sum(local(each).numel() for each in (*part, weight)) > BUCKET_ELEMENTS:
            yield part
            part = []
        part.append(weight)
    if part:
        yield part
