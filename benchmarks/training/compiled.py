"""Compiled blocks against eager ones on a CPU, in turn in one process: ``python -m benchmarks.training.compiled``.

A step is that of a training: losses, gradients, update and average, on made-up data. The first compiled step is given
apart, with an empty cache of the compiler and, in a second process, with what the first one left there. One JSON line
per model; ``recompiled`` counts what was compiled while steps were timed: the figures are valid only if it is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.measuring.timing import alternately, apart, seconds_of
from benchmarks.training.estimate import Configuration, configurations
from infinity.jobs.estimate.rehearsal import Load, Rehearsal, rehearse
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.training.transformer.engine import EngineConfig

BATCH = 4
WARMUPS = 3
"""Steps before the timed ones, the first included."""


def models() -> Mapping[str, Configuration]:
    """Return the small preset, and the size of the benchmark's training pass."""
    known = configurations()
    return {name: known[f"{name}-transformer"] for name in ("small", "reference")}


def measure(name: str, cache: str, threads: int, repeats: int) -> dict[str, Any]:
    """Time one model in this process; with ``repeats`` 0 only the first steps."""
    # One file is compiled after the other, so that the compiler's processor time is known.
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    torch.set_num_threads(threads)
    eager, compiled = (_ready(name, EngineConfig(compile=switch)) for switch in (False, True))
    first = {"eager": seconds_of(eager.step), "compiled": seconds_of(compiled.step)}
    found: dict[str, Any] = {f"first_{kind}_s": wall for kind, (wall, _) in first.items()}
    found |= {f"first_{kind}_cpu_s": processor for kind, (_, processor) in first.items()}
    if repeats == 0:
        return found
    for _ in range(WARMUPS - 1):
        eager.step()
        compiled.step()
    before = _num_compiled()
    found |= alternately({"eager": eager.step, "compiled": compiled.step}, repeats=repeats)
    return found | {"recompiled": _num_compiled() - before}


def _num_compiled() -> int:
    """Return the number of graphs that were compiled so far in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def _ready(name: str, engine: EngineConfig) -> Rehearsal:
    spec, tokenizer = models()[name]
    assert isinstance(spec, TrainTransformerSpec)
    loop = spec.loop.replace(batch_size=BATCH, num_parts=1)
    spec = spec.replace(loop=loop, engine=engine)
    return rehearse(spec, Load.of(spec), tokenizer=tokenizer)


def main() -> None:
    """Parse the command line and print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=[*models()], default=[*models()], help="some of them (all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9, help="timed steps of each kind, in turn (9)")
    args = parser.parse_args()
    for name in args.models:
        with tempfile.TemporaryDirectory() as cache:
            found, again = (apart(measure, name, cache, args.threads, number) for number in (args.repeats, 0))
        spec, _ = models()[name]
        about = {
            "model": name,
            "batch": BATCH,
            "num_tokens": spec.resolution.schedule(1.0).num_tokens,
            "threads": args.threads,
            "torch": torch.__version__,
            "load": round(os.getloadavg()[0], 1),
        }
        cached = {f"cached_{what}": again[what] for what in ("first_compiled_s", "first_compiled_cpu_s")}
        print(json.dumps(about | found | cached), flush=True)


if __name__ == "__main__":
    main()
