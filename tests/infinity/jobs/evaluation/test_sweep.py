"""A sweep scores every point once, and shows them in one table and one figure."""

import csv
from pathlib import Path

import pytest

from infinity import storage
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.generation.sampling import PyramidGuidance, SamplingConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.evaluation.sweep import SweepGrid, SweepReport, SweepSpec, run
from tests.fixtures.data.small_world import write_model

GRID = SweepGrid(
    on_logits=(1.0, 3.0), pyramid=(3.0,), on_features=(2.0,), greedy=True, temperatures=(0.5, 1.0), seeds=(0, 7)
)


def spec(folder: Path, **changes: object) -> SweepSpec:
    base = EvaluateSpec(
        output=str(folder), model=str(folder / "model"), reconstruction=None, validation=None, samples=None,
        scenes=SceneBenchmark(pictures_per_prompt=1, prompts_per_task=1, num_shown=1),
        workers=WorkersConfig(num_workers=2, threads=1), batch_size=4,
    )  # fmt: skip
    return SweepSpec(output=str(folder), base=base, grid=GRID).replace(**changes)


def test_every_kind_of_guidance_at_every_strength_temperature_and_seed_is_a_point(tmp_path: Path) -> None:
    points = spec(tmp_path).points()
    assert len(points) == (2 + 1 + 1) * 2 * 2 + 2, "greedy drawing knows no seeds"
    assert len({evaluation.digest() for _, _, evaluation in points}) == len(points)
    by_name = {name: evaluation.sampling for name, _, evaluation in points}
    assert by_name["pyramid"].guidance == PyramidGuidance(start=1.0, end=3.0)
    assert (by_name["features"].guide_logits, by_name["features"].guided_blocks) == (False, (-1,))
    assert by_name["greedy"].greedy


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one strength"):
        SweepGrid(on_logits=())


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_ends_in_one_table_and_one_figure_and_is_not_run_twice(local_ray: None, tmp_path: Path) -> None:
    model = write_model(tmp_path)
    small = spec(tmp_path, grid=GRID.replace(temperatures=(1.0,), seeds=(0,)))
    small = small.replace(base=small.base.replace(model=model, sampling=SamplingConfig(nucleus=1.0)))
    report = run(small)
    assert len(report.rows) == 6
    table = list(csv.DictReader(storage.read_text(report.table).splitlines()))
    assert [row["guidance_on"] for row in table] == ["logits", "logits", "pyramid", "features", "greedy", "greedy"]
    assert all(0.0 <= float(row["scene_geneval.overall"]) <= 1.0 for row in table)
    page = storage.read_text(report.page)
    assert page.count("<svg") == 1
    assert "logits, temperature 1" in page
    assert SweepReport.parse(report.dump()) == report
    assert run(small) == report
    with pytest.raises(ValueError, match="begin with 'fid'"):
        run(small.replace(metric="fid"))
