"""Run the demo's stages from an empty folder with several seeds, here and in another tree, and say what they took.

python -m benchmarks.speedrun --work FOLDER --seeds 0 1 2 --beside CHECKOUT

Seconds of the processor (user and system, of all processes) are given beside those of the clock, since other programs
disturb them less. ``--beside`` runs the other tree just after this one, with the first seed only. A seed that has its
log, ``speedrun.json``, is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measuring.watching import watch

METRICS = {"score": "scene_geneval.overall", "psnr_db": "reconstruction.psnr_db"}
GOALS = {"score": 0.92, "psnr_db": 31.0}
LOG = "speedrun.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRecord:
    """What the stages of one seed took, and what came out.

    Attributes:
        wall_s: Seconds of the clock, of all stages.
        cpu_s: Seconds of the processor, of all processes.
        load: Load of the machine before and after.
        stages: Seconds of the clock by stage.
        score: Scene-GenEval.
        psnr_db: PSNR of reconstructions.
    """

    wall_s: float
    cpu_s: float
    load: tuple[float, float]
    stages: dict[str, float]
    score: float
    psnr_db: float

    def row(self, tree: str, seed: int) -> str:
        """Return a row of the board."""
        return f"| {tree} | {seed} | {self.cpu_s:.0f} | {self.wall_s:.0f} | {self.score:.3f} | {self.psnr_db:.2f} |"


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and print the rows of docs/speedrun.md; 1 where the median seed misses a goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speedrun", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--beside", type=Path, help="checkout of another tree, with a .venv of its own")
    parser.add_argument("--bfloat16", action="store_true", help="products of the transformer here in bfloat16")
    options = parser.parse_args(arguments)
    work: Path = options.work.resolve()
    more = ["bfloat16"] if options.bfloat16 else []
    records, other = [], None
    for seed in options.seeds:
        records.append(run_seed(Path.cwd(), work / "here", seed, more))
        print(records[-1].row("here", seed), flush=True)
        if options.beside and other is None:
            other = run_seed(options.beside.resolve(), work / "beside", seed)
            print(other.row("beside", seed), flush=True)
    if other is not None:
        for which in ("wall_s", "cpu_s"):
            ratio = statistics.median(getattr(each, which) for each in records) / getattr(other, which)
            print(f"median {which} here / beside: {ratio:.2f}")
    return 0 if meets_goals(records) else 1


def meets_goals(records: Sequence[SeedRecord]) -> bool:
    """Return whether the median seed meets each goal."""
    return all(statistics.median(getattr(each, name) for each in records) >= goal for name, goal in GOALS.items())


def run_seed(tree: Path, work: Path, seed: int, more: Sequence[str] = ()) -> SeedRecord:
    """Run all stages of a tree, or return the record of when they were run.

    Args:
        more: Further arguments of ``stage.py``.

    Raises:
        RuntimeError: A stage failed; the message holds the end of its output.
    """
    output = work / f"seed-{seed}"
    log = output / LOG
    if log.is_file():
        return SeedRecord(**json.loads(log.read_text()))
    output.mkdir(parents=True, exist_ok=True)
    before = os.getloadavg()[0]
    command = [str(python_of(tree)), str(Path(__file__).with_name("stage.py")), str(output), str(seed), *more]
    # Every half second would take a tenth of a core from the stages.
    watched = watch(["env", "-C", str(tree), "-u", "PYTHONPATH", *command], every_s=3.0)
    words = [line.split() for line in watched.lines if line.startswith("stage ")]
    score, psnr_db = figures(Path(watched.lines[watched.lines.index("end") + 1]))
    record = SeedRecord(
        wall_s=round(watched.wall_s, 1),
        cpu_s=round(watched.cpu_s, 1),
        load=(before, os.getloadavg()[0]),
        stages={name: float(seconds) for _, name, seconds in words},
        score=score,
        psnr_db=psnr_db,
    )
    log.write_text(json.dumps(asdict(record), indent=2) + "\n")
    return record


def python_of(tree: Path) -> Path:
    """Return the interpreter of a checkout, or the present one where it has none of its own."""
    own = tree / ".venv" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def figures(evaluation: Path) -> tuple[float, float]:
    """Return a model's score and PSNR as its evaluation reports them."""
    scores = {each["metric"]: each["value"] for each in json.loads((evaluation / "report.json").read_text())["scores"]}
    return float(scores[METRICS["score"]]), float(scores[METRICS["psnr_db"]])


if __name__ == "__main__":
    sys.exit(main())
