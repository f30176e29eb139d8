"""T2I-CompBench's score files: read to the last digit of their scripts, and refused where they fit no pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder
from infinity.evaluation.t2i_compbench.benchmark import T2iCompbenchBenchmark
from tests.infinity.evaluation.prompts.test_found import save

PROMPTS = ("a red cup and a blue dog", "a green_ish bench", "a cat")


def write(root: Path, values: list[float], place: str = "annotation_blip", *, start: int = 0, digits: int = 4) -> None:
    """Two pictures per prompt, numbered on, and the file of a script about them, as the public scripts write it."""
    for number in range(len(values)):
        path = root / f"samples/{PROMPTS[number // 2]}_{start + number:06d}.png"
        if not path.exists():
            save(path, number)
    file = root / place / "vqa_result.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([{"question_id": n, "answer": f"{v:.{digits}f}"} for n, v in enumerate(values)]))


def scored(root: Path) -> BenchmarkResult:
    benchmark = T2iCompbenchBenchmark(pictures=PictureFolder(uri=str(root), name="flux"))
    items = benchmark.items()
    assert benchmark.pictures is not None
    samples = benchmark.find(benchmark.pictures, items)
    records = benchmark.judge(Networks("cpu"))(samples, [sample.pictures() for sample in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


VALUES = [0.7110, 0.9217, 0.8554, 0.1, 0.0, 1.0]


def test_the_mean_is_that_of_the_public_script_to_the_last_digit_with_an_interval_over_prompts(tmp_path: Path) -> None:
    write(tmp_path, VALUES)
    found = scored(tmp_path)
    (score,) = found.scores
    total = 0.0
    for value in VALUES:
        total += float(f"{value:.4f}")
    assert (score.metric, score.value, score.n, score.unit) == ("t2i_compbench.blip_vqa", total / 6, 6, "share")
    assert score.low is not None
    assert score.low < total / 6 < score.high
    assert found.items["t2i_compbench.blip_vqa"] == {
        PROMPTS[0]: pytest.approx(0.81635), PROMPTS[1]: pytest.approx(0.4777), PROMPTS[2]: 0.5,
    }  # fmt: skip


def test_categories_and_scripts_have_metrics_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "color", VALUES)
    write(tmp_path / "color", [value - 0.5 for value in VALUES], "annotation_clip")
    write(tmp_path / "non spatial", VALUES[::-1], "labels/annotation_obj_detection_2d", start=40)
    assert {score.metric: (score.unit, score.n) for score in scored(tmp_path).scores} == {
        "t2i_compbench.color.blip_vqa": ("share", 6), "t2i_compbench.color.clip": ("", 6),
        "t2i_compbench.non_spatial.unidet_2d": ("share", 6),
    }  # fmt: skip


def test_an_unreadable_picture_is_a_counted_gap(tmp_path: Path) -> None:
    write(tmp_path, VALUES)
    (tmp_path / f"samples/{PROMPTS[0]}_000000.png").write_bytes(b"")
    (score,) = scored(tmp_path).scores
    assert score.n == 4
    assert score.note.startswith("INCOMPLETE: 1 of 3 prompts")


def test_the_content_of_a_folder_changes_with_its_scores(tmp_path: Path) -> None:
    write(tmp_path, VALUES)
    before = PictureFolder(uri=str(tmp_path)).content()
    write(tmp_path, VALUES[::-1])
    assert PictureFolder(uri=str(tmp_path)).content() != before


def entries(root: Path, change: Callable[[list[dict[str, object]]], object]) -> None:
    file = root / "annotation_blip/vqa_result.json"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda found: found.pop(), r"one score for each of the 6 pictures .* found 5 \(none for picture 5\)"),
        (lambda found: found.append({"question_id": 6, "answer": "0.1"}), "6 pictures in samples, found 7; run the"),
        (lambda found: found.append({"question_id": 0, "answer": "0.1"}), "entry 7: the question_id 0 is there twice"),
        (lambda found: found[1].update(answer="nan"), "entry 2: expected a finite number as answer, found 'nan'"),
        (lambda found: found[1].update(answer=None), "entry 2: expected a finite number as answer, found 'None'"),
        (lambda found: found[1].update(answer="71.1"), "expected scores between 0 and 1, found 71.1"),
        (lambda found: found[0].pop("question_id"), "entry 1: expected a question_id and an answer"),
    ],
)
def test_scores_that_fit_no_pictures_are_refused(
    tmp_path: Path, change: Callable[[list[dict[str, object]]], object], sentence: str
) -> None:
    write(tmp_path, VALUES)
    entries(tmp_path, change)
    with pytest.raises(ValueError, match=sentence):
        scored(tmp_path)


def test_two_pictures_of_one_number_and_other_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path, VALUES)
    save(tmp_path / "samples/a dog_000003.jpg")
    with pytest.raises(ValueError, match=r"expected one picture 3, found .*dog_000003\.jpg and "):
        scored(tmp_path)
    (tmp_path / "samples/a dog_000003.jpg").rename(tmp_path / "samples/grid.jpg")
    with pytest.raises(ValueError, match=r"grid.jpg: expected a name such as 'a red cup_000000.png'"):
        scored(tmp_path)


def test_without_pictures_or_score_files_nothing_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none; name it with --pictures"):
        T2iCompbenchBenchmark().items()
    with pytest.raises(ValueError, match="got a table; name it with --pictures"):
        T2iCompbenchBenchmark(pictures=PictureFolder(uri="a.csv")).items()
    save(tmp_path / "samples/a cat_000000.png")
    with pytest.raises(ValueError, match="as the scripts of T2I-CompBench write them, found none"):
        scored(tmp_path)
