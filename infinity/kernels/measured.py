"""Plain or fast for each kernel by a measurement on this processor: ``INFINITY_KERNELS=measured``.

The first use measures for about a second and keeps the result in ``~/.cache/infinity/kernels.json`` (or under
``XDG_CACHE_HOME``), by processor, torch and number of threads. Later processes read it, so that all of a machine choose
alike. Remove the file to measure again.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinity.kernels.switch import KERNELS, Kernel, Kernels, use_kernels

logger = logging.getLogger(__name__)

TURNS = 7
"""Alternating runs of which the median ratio decides."""
MARGIN = 0.03
"""Share of the seconds that the plain formula must save to be chosen; a tie keeps the fast twin, which saves memory."""


def choose(turns: Sequence[tuple[float, float]]) -> Kernels:
    """Return what to use, from seconds of the plain formula and of its fast twin in alternating runs."""
    ratio = statistics.median(plain / fast for plain, fast in turns)
    return "plain" if ratio < 1 - MARGIN else "fast"


@cache
def choices() -> Mapping[Kernel, Kernels]:
    """Return the choice for each kernel on this processor, from the file or from a new measurement."""
    path, here = kept_at(), machine()
    known = _read(path)
    found: dict[Kernel, Kernels] = known.get(here, {})
    if set(found) == set(KERNELS) and set(found.values()) <= {"plain", "fast"}:
        return found
    measured: dict[Kernel, Kernels] = {kernel: choose(seconds(kernel)) for kernel in KERNELS}
    logger.info("kernels measured on %s: %s (kept in %s)", here, measured, path)
    _write(path, {**known, here: measured})
    return measured


def kept_at() -> Path:
    """Return the path of the file of choices."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infinity" / "kernels.json"


def machine() -> str:
    """Return what a measurement holds for: processor, torch and number of threads."""
    return f"{processor()}, torch {torch.__version__}, threads {torch.get_num_threads()}"


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def seconds(kernel: Kernel) -> list[tuple[float, float]]:
    """Return processor seconds of the plain formula and of the fast twin, forward and backward, run in turn."""
    turns = []
    with torch.enable_grad(), torch.autocast("cpu", enabled=False), torch.random.fork_rng(devices=[]):
        run = _CASES[kernel]()
        for turn in range(TURNS + 1):
            pair = _seconds(run, "plain"), _seconds(run, "fast")
            if turn:  # the first turn warms up
                turns.append(pair)
    return turns


def _seconds(run: Callable[[], Tensor], kernels: Kernels) -> float:
    with use_kernels(kernels):
        started = time.process_time()
        torch.autograd.backward(run())
        return max(time.process_time() - started, 1e-9)


def _read(path: Path) -> dict[str, Any]:
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        logger.warning("%s: cannot be read (%s); kernels are measured again", path, error)
        return {}
    return {name: found for name, found in known.items() if isinstance(found, dict)}


def _write(path: Path, known: Mapping[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known, indent=2), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        logger.warning("%s: cannot be written (%s); the next process measures kernels again", path, error)


def _feed_forward() -> Callable[[], Tensor]:
    from infinity.kernels.feed_forward import feed_forward

    expand, contract, x = nn.Linear(256, 1024), nn.Linear(1024, 256), torch.randn(2, 256, 256, requires_grad=True)
    return lambda: feed_forward(x, expand, contract).sum()


def _drawing_products() -> Callable[[], Tensor]:
    from infinity.kernels.drawing_products import drawn

    layer, x = nn.Linear(256, 1024), torch.randn(2, 256, 256)

    def forward() -> Tensor:
        with torch.no_grad():
            total = drawn(x, layer, gelu=True).sum()
        return total.requires_grad_()  # what is timed here has no backward pass

    return forward


def _recomputation() -> Callable[[], Tensor]:
    from infinity.kernels.recomputation import again_if_it_saves, run

    norm, linear, x = nn.LayerNorm(256), nn.Linear(256, 256), torch.randn(4, 256, 256, requires_grad=True)

    def forward() -> Tensor:
        again = again_if_it_saves(x, recomputed=False)
        with nullcontext() if again is None else again:
            result: Tensor = linear(run(again, norm, x)).sum()
            return result

    return forward


def _unit_rotation() -> Callable[[], Tensor]:
    from infinity.kernels.unit_rotation import unit_queries_and_keys

    joint, log_scale = torch.randn(2, 256, 8, 64, requires_grad=True), torch.randn(4, requires_grad=True)
    angles = torch.randn(256, 32)
    rotary = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return lambda: torch.stack([part.sum() for part in unit_queries_and_keys(joint, log_scale, rotary)]).sum()


def _straight_through() -> Callable[[], Tensor]:
    from infinity.kernels.straight_through import spherical_straight_through

    residual = torch.randn(4, 32, 16, 16, requires_grad=True)
    return lambda: torch.stack([part.sum() for part in spherical_straight_through(residual)]).sum()


def _upsample() -> Callable[[], Tensor]:
    from infinity.kernels.upsample import doubled_conv

    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 32, 32)
    maps = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    return lambda: doubled_conv(maps, conv).sum()


_CASES: Mapping[Kernel, Callable[[], Callable[[], Tensor]]] = {
    "drawing_products": _drawing_products,
    "feed_forward": _feed_forward,
    "recomputation": _recomputation,
    "straight_through": _straight_through,
    "unit_rotation": _unit_rotation,
    "upsample": _upsample,
}
"""Functions that prepare a forward pass with gradients, at about the sizes of a small training."""
