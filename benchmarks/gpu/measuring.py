"""Measure one case, here or in a process of its own.

Such a process imports this module to find the function; of a package's ``__main__`` it would find nothing.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import torch

from benchmarks.gpu import drawing, text, training
from benchmarks.gpu.cases import Case
from benchmarks.gpu.clock import Clock
from infinity.jobs.cluster.heap import expand_segments
from infinity.transformer.attention_backend import use_attention

MEASURES = {
    "picture": drawing.picture,
    "text": text.text,
    "train": training.train,
    "encode": drawing.encode,
    "decode": drawing.decode,
    "save": training.save,
}


def measure(case: Case, device: torch.device, seconds: float, most: int = 10) -> dict[str, Any]:
    """Measure one case in this process.

    Args:
        seconds: Seconds after which no further call is timed.
        most: Largest number of timed calls.

    Returns:
        The figures, or the reason why there are none under "error".
    """
    expand_segments(device)
    try:
        with use_attention(case.attention):
            return MEASURES[case.group](case, device, Clock(device, seconds, most))
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except (ImportError, RuntimeError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error!s:.300}"}


def measure_apart(case: Case, device: torch.device, limit_s: float) -> dict[str, Any]:
    """Measure one case in a process of its own, which is ended after ``limit_s`` seconds."""
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            found = pool.apply_async(measure, (case, device, limit_s / 4)).get(limit_s)
        except multiprocessing.TimeoutError:
            found = {"error": f"not done after {limit_s:.0f} s"}
    return found | {"case_s": round(time.perf_counter() - started, 1)}
