"""Every way to save draws the prompts and seeds of exact drawing, and is scored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from infinity import storage
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.validation import ValidationBenchmark
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.evaluation.savings import CONTROL, EXACT, WAYS, Saving, SavingsReport, SavingsSpec, run
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.scales import Resolution
from tests.fixtures.data.small_world import write_data, write_model

SCHEDULE = Resolution(sides=(1, 2, 4)).schedule(1.0)
SOME = (
    Saving(name="no guidance", unguided=9), Saving(name="by role", cache_share=0.5, by_role=True),
    Saving(name="int8", quantize="int8"), Saving(name="int8 cache", cache="int8"),
)  # fmt: skip


def spec(folder: Path, **changes: object) -> SavingsSpec:
    base = EvaluateSpec(
        output=str(folder), model=str(folder / "model"), reconstruction=None, validation=None, samples=None,
        scenes=SceneBenchmark(pictures_per_prompt=1, prompts_per_task=1, num_shown=1), batch_size=4,
        sampling=SamplingConfig(guidance=2.0),
    )  # fmt: skip
    return SavingsSpec(output=str(folder), base=base, ways=SOME).replace(**changes)


def test_every_way_is_an_evaluation_of_its_own_and_differs_in_what_it_says_alone(tmp_path: Path) -> None:
    points = spec(tmp_path, ways=WAYS).points(SCHEDULE, (0.9, 0.1))
    assert [points[0][0].name, points[-1][0].name] == [EXACT, CONTROL]
    assert len({evaluation.digest() for _, evaluation in points}) == len(points) == len(WAYS) + 2
    found = {way.name: evaluation for way, evaluation in points}
    exact = found.pop(EXACT)
    assert exact.sampling == SamplingConfig(guidance=2.0)
    assert found["no guidance in the last scale"].sampling == exact.sampling.replace(guidance=(2.0, 2.0, 1.0))
    assert found["no guidance at all"].sampling.guidance == (1.0, 1.0, 1.0)
    assert found["half of the earlier tokens kept, by role"].sampling.cache_share == (0.75, 0.25)
    assert (found["weights in int4"].quantize, found["cache in int8"].cache) == ("int4", "int8")
    for evaluation in found.values():
        assert (evaluation.seed, evaluation.scenes, evaluation.store) == (exact.seed, exact.scenes, exact.store)


def test_names_are_unique_and_there_is_a_way(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected each name once"):
        spec(tmp_path, ways=(*SOME, SOME[0]))
    with pytest.raises(ValueError, match="expected each name once"):
        spec(tmp_path, ways=(Saving(name=EXACT),))
    with pytest.raises(ValueError, match="at least one way"):
        spec(tmp_path, ways=())


def test_a_job_ends_in_one_page_and_is_not_run_twice(tmp_path: Path) -> None:
    small = spec(tmp_path)
    small = small.replace(
        base=small.base.replace(
            model=write_model(tmp_path),
            manifest=write_data(tmp_path / "data", num_validation=4),
            validation=ValidationBenchmark(num_pictures=4),
        )
    )
    with in_process():
        report = run(small)
        assert SavingsReport.parse(report.dump()) == report
        assert run(small) == report
    by_name = {row.name: row for row in report.rows}
    exact = by_name[EXACT]
    assert by_name["no guidance"].flops < 0.7 * exact.flops
    assert by_name["by role"].cache_bytes < exact.cache_bytes
    assert by_name["int8"].weight_bytes < exact.weight_bytes
    assert by_name["int8 cache"].cache_bytes < exact.cache_bytes
    assert len(report.look_back) > 1
    assert exact.loss is not None
    assert by_name["int8"].loss_change is not None
    assert by_name["no guidance"].loss is None, "it cannot differ"
    assert by_name[CONTROL].is_control
    page = storage.read_text(report.page)
    assert "NOT flagged" in page, "a model that never learned cannot lose"
    with in_process(), pytest.raises(ValueError, match="metric: expected one with values per prompt"):
        run(small.replace(metric="fid"))
