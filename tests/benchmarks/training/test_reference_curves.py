"""Curves are taken from finished runs of the recipe alone, one per seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speedrun.stage import seeded
from benchmarks.training.reference_curves import STAGES, AnySpec, finished, reference_of
from infinity import storage
from infinity.jobs.spec import REPORT_FILE, begin
from infinity.recipes.runs import end_to_end


def write_run(folder: Path, seed: int, *, stages: tuple[str, ...] = STAGES, rate: float | None = None) -> str:
    """Write the files of a finished run whose loss at every step is its seed."""
    plan = seeded(end_to_end("mini", source=None, output=str(folder)), seed)
    for stage in stages:
        spec = getattr(plan, stage)
        if rate is not None:
            spec = spec.replace(optimizer=spec.optimizer.replace(learning_rate=rate))
        begin(spec)
        rows = [{"step": step, "loss": float(seed)} for step in (1, 2, 3)]
        storage.write_text(storage.join(spec.folder, "metrics.jsonl"), "\n".join(map(json.dumps, rows)))
        storage.write_text(storage.join(spec.folder, REPORT_FILE), "{}")
    return str(folder)


def test_the_range_is_that_of_all_runs(tmp_path: Path) -> None:
    runs = [finished("mini", write_run(tmp_path / str(seed), seed)) for seed in (4, 9, 5)]
    for stage in STAGES:
        found = reference_of("mini", [run[stage] for run in runs])
        assert (found.stage, found.num_seeds) == (stage, 3)
        assert found.data.startswith("dataset-")
        band = found.bands["loss"]
        assert (band.low[0], band.median[0], band.high[0]) == (4.0, 5.0, 9.0)
        assert not {"output", "seed", "manifest"} & set(found.spec)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, 0, stages=STAGES[:2])
    with pytest.raises(ValueError, match="stage finetune, found none"):
        finished("mini", str(tmp_path))


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found another spec"):
        finished("mini", write_run(tmp_path, 0, rate=0.5))


def test_a_seed_that_came_twice_is_refused(tmp_path: Path) -> None:
    twice: list[AnySpec] = [finished("mini", write_run(tmp_path / name, 7))["pretrain"] for name in "ab"]
    with pytest.raises(ValueError, match="different seeds, got 7, 7"):
        reference_of("mini", twice)
