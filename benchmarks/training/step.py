"""Memory and seconds of the reference-sized training pass (item a), alone in a process: one JSON line per process.

``python -m benchmarks.training.step --before <another checkout>``: this checkout and another one in turn, then what
activation checkpointing, truncated scales and accumulated parts save. Memory is the largest that the process had, and
what it had before the first pass.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from infinity.jobs.cluster.heap import HEAP

HERE = Path(__file__).resolve().parents[2]

_COMMON = """
import json, resource, time, torch
from benchmarks.run.transformer import BATCH, CONFIG, prepare_training, random_model, random_text
from infinity.scales import published_schedule
from infinity.transformer.loss import bitwise_cross_entropy
torch.set_num_threads({threads})
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
schedule = published_schedule(1.0, "256")
before = most()
{run}
wall, processor = [], []
for _ in range({repeats} + 1):
    start = time.perf_counter(), time.process_time()
    run()
    wall.append(time.perf_counter() - start[0]); processor.append(time.process_time() - start[1])
print(json.dumps(dict(before_mb=before, peak_mb=most(), wall=wall[1:], processor=processor[1:])))
"""

_PLAIN = "run = prepare_training(schedule)"

_CHANGED = """
from infinity.training.transformer.engine import return_freed_memory
if {recompute}: return_freed_memory()
model, text = random_model().train(), random_text(BATCH // {parts})
taught = schedule.prefix({num_scales})
g = torch.Generator().manual_seed(0)
inputs = torch.randn(BATCH // {parts}, taught.num_tokens - 1, CONFIG.num_bits, generator=g) * CONFIG.num_bits**-0.5
bits = torch.rand(BATCH // {parts}, taught.num_tokens, CONFIG.num_bits, generator=g) < 0.5
def run():
    model.zero_grad(set_to_none=True)
    for _ in range({parts}):
        bitwise_cross_entropy(model(text, inputs, taught, recompute={recompute}), bits).mean().backward()
"""


def cases(before: Path | None) -> dict[str, tuple[Path, str]]:
    """Return the checkout and the code of a pass by name."""
    plain = {"recompute": False, "parts": 1, "num_scales": 7}
    found = {"now": (HERE, _PLAIN)}
    if before is not None:
        found = {"before": (before, _PLAIN), **found}
    for name, change in (
        ("activation checkpointing", {"recompute": True}),
        ("first 6 of 7 scales", {"num_scales": 6}),
        ("first 5 of 7 scales", {"num_scales": 5}),
        ("4 parts", {"parts": 4}),
        ("checkpointing, 4 parts", {"recompute": True, "parts": 4}),
    ):
        found[name] = HERE, _CHANGED.format(**(plain | change))
    return found


def measure(folder: Path, run: str, *, threads: int, repeats: int) -> dict[str, Any]:
    """Time the steps of one process."""
    code = _COMMON.format(threads=threads, repeats=repeats, run=run)
    heap = HEAP if folder == HERE else {}  # another checkout starts its workers in its own way
    environment = {**heap, **os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Parse the command line and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="timed passes of a process, after a first one (3)")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each case, in turn (2)")
    parser.add_argument("--cases", nargs="*", help="some cases by name, in their order (all)")
    args = parser.parse_args()
    known = cases(args.before)
    if unknown := set(args.cases or ()) - known.keys():
        raise SystemExit(f"unknown {sorted(unknown)}; there are {', '.join(known)}")
    for _ in range(args.rounds):
        for name in args.cases or known:
            row = measure(*known[name], threads=args.threads, repeats=args.repeats)
            line = {
                "case": name,
                "peak_mb": round(row["peak_mb"]),
                "before_the_first_pass_mb": round(row["before_mb"]),
                "wall_s": round(statistics.median(row["wall"]), 3),
                "processor_s": round(statistics.median(row["processor"]), 3),
                "load": round(os.getloadavg()[0], 1),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
