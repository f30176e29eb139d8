"""What bfloat16 earns on this processor: seconds of one pass in bfloat16 over those in float32, in turn.

``python -m benchmarks.bfloat16`` prints one JSON line per item of ``benchmarks.run`` that has products, after one with
the rates of both data types. The quality of bfloat16 is compared by ``infinity compare``, not here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring.timing import alternately, seconds_of
from benchmarks.run import tokenizer, transformer
from infinity.kernels.switch import use_kernels

SIDE = 1536
"""Rows and columns of the matrices whose product gives the rates."""


def in_bfloat16(run: Callable[[], object]) -> Callable[[], object]:
    """Return the same run under autocast."""

    def half() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return run()

    return half


def rates(repeats: int) -> dict[str, float]:
    """Return the operations per second of processor time of large products, in GFLOP/s by data type."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))

        def product(left: torch.Tensor = left, right: torch.Tensor = right) -> object:
            return left @ right

        product()
        seconds = min(seconds_of(product)[1] for _ in range(repeats))
        found[f"{dtype}".removeprefix("torch.")] = round(2 * SIDE**3 / seconds / 1e9, 1)
    return found


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    """Parse the command line and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="alternating runs (5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps({"processor": processor(), "gflops": rates(args.repeats)}), flush=True)
    for item in (*transformer.items(), *tokenizer.items()):
        if item.group not in "abe":
            continue
        run = item.prepare()
        runs = {"float32": run, "bfloat16": in_bfloat16(run), "float32-plain": _plain(run)}
        for each in runs.values():
            each()
        found = alternately(runs, repeats=args.repeats)
        line: dict[str, Any] = {"item": item.name, "load": round(os.getloadavg()[0], 1)}
        line["float32_cpu_s"] = round(found["float32"]["median_cpu_s"], 4)
        for name in ("bfloat16", "float32-plain"):
            line[f"{name}_ratio_cpu"] = round(found[name]["ratio_cpu"], 3)
            line[f"{name}_spread"] = round(found[name]["ratio_cpu_spread"], 3)
        print(json.dumps(line), flush=True)


def _plain(run: Callable[[], object]) -> Callable[[], object]:
    def plain() -> object:
        with use_kernels("plain"):
            return run()

    return plain


if __name__ == "__main__":
    main()
