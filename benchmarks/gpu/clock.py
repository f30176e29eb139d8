"""Time repeated calls on a GPU or a CPU, within a limit of seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from infinity.jobs.estimate.estimate import peak_bytes


class Clock:
    """Times calls on one device.

    Attributes:
        limit_s: Seconds after which no further call is timed.
        most: Largest number of timed calls.
    """

    def __init__(self, device: torch.device, limit_s: float = 15.0, most: int = 10) -> None:
        self.device, self.limit_s, self.most = device, limit_s, most
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def memory_gb(self) -> float:
        """Return the largest memory so far, in GB."""
        used = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else peak_bytes()
        return used / 1e9

    def measure(self, call: Callable[[], object]) -> dict[str, Any]:
        """Return the median and the spread of calls, the seconds of the first one, and the largest memory."""
        first = self._seconds(call)
        started, seconds = time.perf_counter(), [self._seconds(call)]
        while len(seconds) < self.most and time.perf_counter() - started + max(seconds) < self.limit_s:
            seconds.append(self._seconds(call))
        return {
            "seconds": statistics.median(seconds),
            "spread_s": max(seconds) - min(seconds),
            "calls": len(seconds),
            "first_s": first,
            "memory_gb": self.memory_gb(),
        }

    def _seconds(self, call: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started
