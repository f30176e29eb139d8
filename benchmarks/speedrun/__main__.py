"""Run the demo's stages from an empty folder with several seeds, here and in another tree, and say what they took.

python -m benchmarks.speedrun --work FOLDER --seeds 0 1 2 --beside CHECKOUT

Seconds of the processor (user and system, of all processes of a stage) are given beside those of the clock, since other
programs disturb them less. ``--beside`` runs each stage of the other tree just after the same stage here, with the
first seed only. What a folder holds already is not run again; one log per seed lies in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring.watching import watch

STAGES = ("dataset", "tokenizer", "pretrain", "finetune", "evaluation")
METRICS = {"score": "scene_geneval.overall", "psnr_db": "reconstruction.psnr_db"}
GOALS = {"score": 0.92, "psnr_db": 31.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """What one stage took.

    Attributes:
        wall_s: Seconds of the clock.
        cpu_s: Seconds of the processor, of all processes.
        load: Load of the machine when the stage began.
        folder: Folder of the stage.
    """

    wall_s: float
    cpu_s: float
    load: float
    folder: str


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and print the rows of docs/speedrun.md; 1 where a seed misses a goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speedrun", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--beside", type=Path, help="checkout of another tree, with a .venv of its own")
    options = parser.parse_args(arguments)
    work: Path = options.work.resolve()
    trees = {"here": Path.cwd()} | ({"beside": options.beside.resolve()} if options.beside else {})
    totals: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for place, seed in enumerate(options.seeds):
        logs: dict[str, dict[str, Took]] = {name: {} for name in trees if place == 0 or name == "here"}
        for stage in STAGES:
            for name, log in logs.items():
                log[stage] = run_stage(trees[name], work / name / f"seed-{seed}", seed, stage)
        for name, log in logs.items():
            totals[name].append(summary(log))
            print(row(name, seed, totals[name][-1]), flush=True)
    if options.beside:
        for which in ("wall_s", "cpu_s"):
            ratio = statistics.median(each[which] for each in totals["here"]) / totals["beside"][0][which]
            print(f"median {which} here / beside: {ratio:.2f}")
    return 0 if all(each[name] >= goal for each in totals["here"] for name, goal in GOALS.items()) else 1


def run_stage(tree: Path, output: Path, seed: int, stage: str) -> Took:
    """Run a stage of a tree, or return what it took when it was run.

    Raises:
        RuntimeError: The stage failed; the message holds the end of its output.
    """
    log = output / "speedrun.json"
    known: dict[str, Any] = json.loads(log.read_text()) if log.is_file() else {}
    if stage not in known:
        output.mkdir(parents=True, exist_ok=True)
        load = os.getloadavg()[0]
        script = Path(__file__).with_name("stage.py")
        command = [str(python_of(tree)), str(script), str(output), str(seed), stage]
        watched = watch(["env", "-C", str(tree), "-u", "PYTHONPATH", *command])
        folder = watched.lines[watched.lines.index("end") + 1]
        took = Took(wall_s=round(watched.wall_s, 1), cpu_s=round(watched.cpu_s, 1), load=load, folder=folder)
        known[stage] = asdict(took)
        log.write_text(json.dumps(known, indent=2) + "\n")
        print(f"{output.parent.name} seed {seed} {stage}: {took.wall_s} s, processor {took.cpu_s} s", flush=True)
    return Took(**known[stage])


def python_of(tree: Path) -> Path:
    """Return the interpreter of a checkout, or the present one where it has none of its own."""
    own = tree / ".venv" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def summary(log: dict[str, Took]) -> dict[str, float]:
    """Return total seconds of the stages, and the model's score and PSNR as its evaluation reports them."""
    report = json.loads((Path(log["evaluation"].folder) / "report.json").read_text())
    scores = {each["metric"]: each["value"] for each in report.get("report", report)["scores"]}
    figures = {name: float(scores[metric]) for name, metric in METRICS.items()}
    seconds = {which: round(sum(getattr(took, which) for took in log.values()), 1) for which in ("wall_s", "cpu_s")}
    return seconds | figures


def row(name: str, seed: int, total: dict[str, float]) -> str:
    """Return a row of the board."""
    values = f"{total['cpu_s']:.0f} | {total['wall_s']:.0f} | {total['score']:.3f} | {total['psnr_db']:.2f}"
    return f"| {name} | {seed} | {values} |"


if __name__ == "__main__":
    sys.exit(main())
