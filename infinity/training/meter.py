"""Throughput metrics of a training: time per step, data wait, memory, FLOP/s and model FLOPs utilisation (MFU)."""

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
"""Metrics that depend on the clock and the machine; two equal runs differ in these alone."""


class Meter:
    """Measures the steps between two logged ones.

    Args:
        device: Device of this worker's model.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak = peak_flops(device)
        self._started = 0.0
        self._begin()

    def start(self) -> None:
        """Mark the start of a step."""
        self._started = time.monotonic()

    def data_ready(self) -> None:
        """Mark the moment when the step's data is there."""
        self._waited_s += time.monotonic() - self._started

    def stop(self, task: Task[P], micro_batches: Sequence[P], batch_size: int) -> None:
        """Mark the end of a step.

        Args:
            task: Counts the floating-point operations.
            micro_batches: This worker's micro-batches; all workers have the same schedule.
            batch_size: Samples of the whole batch, over all workers.
        """
        self._busy_s += time.monotonic() - self._started
        self._num_steps += 1
        own = sum(len(micro_batch.keys) for micro_batch in micro_batches)
        self._samples += batch_size
        self._tokens += sum(micro_batch.num_tokens for micro_batch in micro_batches) * batch_size / max(1, own)
        self._flops += sum(task.flops(micro_batch) for micro_batch in micro_batches)

    def figures(self, steps_left: int) -> MetricRow:
        """Return the metrics since the last call.

        Args:
            steps_left: Steps to the end of the run.

        Returns:
            Over all workers ``pictures_per_s`` and ``tokens_per_s`` (image tokens). Of this worker
            ``data_wait_share``, ``seconds_per_step``, ``rest_s`` (seconds to the last step at this pace),
            ``memory_mib`` (peak so far); where operations are counted ``tflops_per_s``, and ``mfu`` where the
            device's peak is known.
        """
        busy_s = max(self._busy_s, 1e-9)
        step_s = busy_s / max(1, self._num_steps)
        row = {
            "pictures_per_s": self._samples / busy_s,
            "tokens_per_s": self._tokens / busy_s,
            "data_wait_share": self._waited_s / busy_s,
            "seconds_per_step": step_s,
            "rest_s": steps_left * step_s,
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
    """Return the peak memory in bytes: of this process's tensors on a GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # bytes on macOS, KiB on Linux
