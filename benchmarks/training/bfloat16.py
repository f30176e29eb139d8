"""What bfloat16 earns on this processor: seconds of one pass in bfloat16 over those in float32, in turn.

``python -m benchmarks.training.bfloat16`` prints one JSON line per item of ``benchmarks.run`` that has products, after
one with the rates of both data types. The quality of bfloat16 is compared by ``infinity compare``, not here.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from typing import Any

import torch

from benchmarks.measuring.machine import rates
from benchmarks.measuring.timing import alternately, within
from benchmarks.run import tokenizer, transformer
from infinity.kernels.measured import processor
from infinity.kernels.switch import use_kernels


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
        runs = {
            "float32": run,
            "bfloat16": within(partial(torch.autocast, "cpu", torch.bfloat16), run),
            "float32-plain": within(partial(use_kernels, "plain"), run),
        }
        for each in runs.values():
            each()
        found = alternately(runs, repeats=args.repeats)
        line: dict[str, Any] = {"item": item.name, "load": round(os.getloadavg()[0], 1)}
        line["float32_cpu_s"] = round(found["float32"]["median_cpu_s"], 4)
        for name in ("bfloat16", "float32-plain"):
            line[f"{name}_ratio_cpu"] = round(found[name]["ratio_cpu"], 3)
            line[f"{name}_spread"] = round(found[name]["ratio_cpu_spread"], 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
