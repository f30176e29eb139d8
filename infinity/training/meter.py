"""What a training costs: time, waiting, memory and how much of the device it uses."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from typing import TypeVar

import torch

from infinity.training.flops import peak_flops
from infinity.training.learner import MicroBatch, Task
from infinity.training.state import MetricRow

P = TypeVar("P", bound=MicroBatch)

TIMED = frozenset(
    {
        "pictures_per_s",
        "tokens_per_s",
        "tflops_per_s",
        "mfu",
        "data_wait_share",
        "memory_mib",
        "seconds_per_step",
        "rest_s",
    }
)
"""Figures that depend on the clock and the machine; two equal runs differ in these alone."""


class Meter:
    """Figures of the steps between two logged ones.

    Args:
        device: Where this worker's model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak = peak_flops(device)
        self._started = 0.0
        self._begin()

    def start(self) -> None:
        """A step begins."""
        self._started = time.monotonic()

    def fed(self) -> None:
        """Its data is there."""
        self._waited_s += time.monotonic() - self._started

    def stop(self, learner: Task[P], parts: Sequence[P], batch_size: int) -> None:
        """It is done, on these parts of a batch of so many samples, which are of one schedule over all workers."""
        self._busy_s += time.monotonic() - self._started
        self._num_steps += 1
        own = sum(len(part.keys) for part in parts)
        self._samples += batch_size
        self._tokens += sum(part.num_tokens for part in parts) * batch_size / max(1, own)
        self._flops += sum(learner.flops(part) for part in parts)

    def figures(self, steps_left: int) -> MetricRow:
        """Figures of the time since they were last asked for: of all workers pictures and tokens, of this one the rest.

        Returns:
            ``pictures_per_s``, ``tokens_per_s`` (image tokens), ``data_wait_share``, ``seconds_per_step``, ``rest_s``
            (time to the last step at this pace), ``memory_mib`` (the most so far); where operations are counted
            ``tflops_per_s``, and ``mfu`` where the device's peak is known.
        """
        busy_s = max(self._busy_s, 1e-9)
        a_step_s = busy_s / max(1, self._num_steps)
        row = {
            "pictures_per_s": self._samples / busy_s,
            "tokens_per_s": self._tokens / busy_s,
            "data_wait_share": self._waited_s / busy_s,
            "seconds_per_step": a_step_s,
            "rest_s": steps_left * a_step_s,
            "memory_mib": peak_memory_bytes(self._device) / 2**20,
        }
        if self._flops:
            row["tflops_per_s"] = self._flops / busy_s / 1e12
            if self._peak is not None:
                row["mfu"] = self._flops / busy_s / self._peak
        self._begin()
        return row

    def _begin(self) -> None:
        self._busy_s = self._waited_s = self._flops = self._tokens = 0.0
        self._num_steps = self._samples = 0


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory that tensors of this process had on a GPU, or that the process had on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
