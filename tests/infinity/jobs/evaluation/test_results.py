"""A finished evaluation is found again and read back."""

import json
from pathlib import Path

import pytest

from infinity.jobs.evaluation.origins import origin_of
from infinity.jobs.evaluation.results import EvaluationNotFoundError, find, load, setting
from infinity.jobs.evaluation.spec import BENCHMARKS_OF_PICTURES, EvaluateSpec
from tests.fixtures.jobs.evaluations import METRIC, prompts, write_evaluation, write_mark

JUDGE = {"kind": "endpoint", "url": "http://127.0.0.1:1/v1", "model": "m", "key_env": ""}
NOTHING = dict.fromkeys(("reconstruction", "validation", "samples"))


def test_items_scores_and_drawings_come_back(tmp_path: Path) -> None:
    values = prompts(3, 0.5) | {"a line\u2028separator": 0.25}
    found = write_evaluation(tmp_path, "a", values)
    assert found.items() == {METRIC: values}
    assert found.measured.scores[METRIC].protocol == "scene-geneval/1"
    assert found.measured.digest == write_mark(tmp_path, "a")[1]
    assert [drawn.prompt for drawn in found.drawings()] == list(values)
    assert all(Path(uri).is_file() for drawn in found.drawings() for uri in drawn.pictures)


def test_a_prompt_that_the_list_repeats_is_one_item_of_the_gate(tmp_path: Path) -> None:
    values = prompts(4, 0.5)
    found = write_evaluation(tmp_path, "a", values)
    assert found.measured.items == {METRIC: values}
    drawings = Path(str(found.report.drawings))
    lines = [json.loads(line) for line in drawings.read_text().splitlines()]
    changed = [{**line, "prompt": "a cat" if number < 3 else line["prompt"]} for number, line in enumerate(lines)]
    drawings.write_text("".join(json.dumps(line) + "\n" for line in changed))
    again = load(found.folder)
    assert len(again.measured.items[METRIC]) == 2
    assert again.items() == {METRIC: values}


def test_the_setting_is_everything_but_the_model_and_places(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path, "a", prompts(2, 0.5)).spec
    assert setting(first) == setting(first.replace(model="/elsewhere", output="/other", store="/s"))
    assert setting(first) != setting(first.replace(seed=1))


def test_an_evaluation_is_found_by_its_folder_its_run_and_its_model(tmp_path: Path) -> None:
    only = write_evaluation(tmp_path / "run", "a", prompts(2, 0.5))
    for uri in (only.folder, str(tmp_path / "run"), only.spec.model, only.spec.model + "/"):
        assert find(uri).folder == only.folder
    second = write_evaluation(tmp_path / "run", "b", prompts(2, 0.5))
    assert find(second.spec.model).folder == second.folder
    with pytest.raises(EvaluationNotFoundError, match=r"found 2; name one of these:\n .*evaluation-"):
        find(str(tmp_path / "run"))


def test_what_is_no_finished_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationNotFoundError, match="found 0; run `infinity evaluate` first"):
        find(str(tmp_path))
    with pytest.raises(EvaluationNotFoundError, match="expected a finished evaluation"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{broken", "line 2: not valid JSON"),
        ('["list"]', "line 2: expected a JSON object"),
        ('{"metric": "m", "id": "a"}', "line 2: expected metric, id and value"),
        (json.dumps({"metric": METRIC, "id": "a photo of 0 stars", "value": 1}), "is there twice"),
    ],
)
def test_a_damaged_line_is_named_by_its_number(tmp_path: Path, line: str, sentence: str) -> None:
    found = write_evaluation(tmp_path, "a", prompts(1, 0.5))
    assert found.report.items is not None
    with Path(found.report.items).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=sentence):
        found.items()


def test_the_origin_of_every_benchmark_of_pictures_is_told_by_its_own_metrics_alone() -> None:
    config = {"uri": "/pictures"}
    made = {name: {"pictures": config} for name in BENCHMARKS_OF_PICTURES}
    made["judge"] |= {"suite": "dsg", "questions": [{"file": {"uri": "q"}}], "answerer": JUDGE}
    made["text_rendering"] |= {"prompts": {"uri": "p"}}
    for name in ("clip_score", "hps3", "pick_score", "diversity"):
        made[name] |= {"prompts": [{"file": {"uri": "p"}}]}
    for name in ("cmmd", "fd_dinov2"):
        made[name] |= {"reference": {"uri": "/set"}}
    spec = EvaluateSpec.from_json({"model": "", "pictures_of": "flux", "output": "/o", **NOTHING, **made}, where="test")
    origins = {name: f"pictures of {name}" for name in BENCHMARKS_OF_PICTURES}
    fields = {id(getattr(spec, name)): name for name in BENCHMARKS_OF_PICTURES}
    for _, benchmark in spec.prompt_benchmarks():
        assert origin_of(f"{benchmark.name}.overall", origins) == f"pictures of {fields[id(benchmark)]}"
        others = {name: text for name, text in origins.items() if name != fields[id(benchmark)]}
        assert origin_of(f"{benchmark.name}.overall", others) is None
