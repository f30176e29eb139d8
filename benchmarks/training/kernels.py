"""What each fast kernel earns: seconds and memory of a plain formula over those of its fast twin.

``python -m benchmarks.training.kernels`` prints one JSON line per kernel at the sizes of the reference benchmark, then
one for a whole training step. Plain and fast take turns in one process, so that other work on the machine disturbs both
alike. Memory is measured in processes of their own (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring.timing import alternately, apart, largest_mb, within
from benchmarks.run.transformer import BATCH, CONFIG, prepare_training
from infinity.kernels.feed_forward import feed_forward
from infinity.kernels.straight_through import spherical_straight_through
from infinity.kernels.switch import Kernels, use_kernels
from infinity.kernels.unit_rotation import unit_queries_and_keys
from infinity.kernels.upsample import doubled_conv
from infinity.scales import published_schedule
from infinity.transformer.rope import rotations

SCHEDULE = published_schedule(1.0, "256")
STEP = "training step"
KERNELS: tuple[Kernels, ...] = ("fast", "plain")


def cases() -> dict[str, Callable[[], Callable[[], object]]]:
    """Return what is timed by name: each prepares its inputs and returns a forward and backward pass."""
    return {
        "feed-forward": _feed_forward,
        "unit queries and keys": _unit_rotation,
        "spherical straight-through": _straight_through,
        "upsample": _upsample,
        STEP: lambda: prepare_training(SCHEDULE),
    }


def main() -> None:
    """Parse the command line and print a line per kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7, help="alternating runs (7)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name, prepare in cases().items():
        line: dict[str, Any] = {"kernel": name, **ratios(prepare(), args.repeats)}
        if name == STEP:
            line |= {f"peak_mb_{kernels}": round(apart(peak_mb, kernels, args.threads)) for kernels in KERNELS}
        print(json.dumps({**line, "threads": args.threads, "load": round(os.getloadavg()[0], 1)}), flush=True)


def ratios(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return seconds of the plain formula over seconds of the fast twin, medians of alternating runs."""
    runs: dict[str, Callable[[], object]] = {kernels: within(partial(use_kernels, kernels), run) for kernels in KERNELS}
    for each in runs.values():
        each()
    found = alternately(runs, repeats=repeats)
    return {
        "plain_over_fast": round(found["plain"]["ratio"], 3),
        "plain_over_fast_processor": round(found["plain"]["ratio_cpu"], 3),
        "fast_s": round(found["fast"]["median_s"], 5),
    }


def peak_mb(kernels: Kernels, threads: int) -> float:
    """Return the largest memory of this process after training steps, in MB."""
    torch.set_num_threads(threads)
    with use_kernels(kernels):
        run = cases()[STEP]()
        for _ in range(2):
            run()
    return largest_mb()


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _feed_forward() -> Callable[[], object]:
    width, hidden = CONFIG.width, CONFIG.hidden_width
    expand, contract, x = nn.Linear(width, hidden), nn.Linear(hidden, width), _random(BATCH, SCHEDULE.num_tokens, width)
    return lambda: feed_forward(x, expand, contract).sum().backward()


def _unit_rotation() -> Callable[[], object]:
    heads, width = CONFIG.num_heads, CONFIG.width // CONFIG.num_heads
    joint, log_scale = _random(BATCH, SCHEDULE.num_tokens, 2 * heads, width), _random(heads)
    rotary = torch.view_as_real(rotations(SCHEDULE, width, CONFIG.positions, torch.device("cpu")))
    return lambda: sum(part.sum() for part in unit_queries_and_keys(joint, log_scale, rotary)).backward()  # type: ignore[union-attr]


def _straight_through() -> Callable[[], object]:
    residual = _random(BATCH, CONFIG.num_bits, 16, 16)
    return lambda: sum(part.sum() for part in spherical_straight_through(residual)).backward()  # type: ignore[union-attr]


def _upsample() -> Callable[[], object]:
    conv, x = nn.Conv2d(128, 128, 3, padding=1), _random(1, 128, 64, 64)
    maps = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    return lambda: doubled_conv(maps, conv).sum().backward()


if __name__ == "__main__":
    main()
