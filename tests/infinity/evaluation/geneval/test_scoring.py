"""The GenEval scorer gives the public scorer's verdicts, reasons and summaries."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinity.evaluation.geneval.scoring import (
    TASKS,
    ClassDetections,
    Detections,
    GenevalConfig,
    GenevalPrompt,
    Verdict,
    judge,
    keep,
    overlap,
    relations,
)
from infinity.evaluation.geneval.state import GenevalState

GROUPS = ("default", "nms_0.5", "alt_thresholds")


def boxes(*rows: tuple[float, ...], colour: str = "red") -> ClassDetections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return ClassDetections(table[:, :4], table[:, 4], [colour] * len(table))


def golden_detections(image: dict[str, Any]) -> Detections:
    found = {}
    for name, rows in image["detections"].items():
        table = np.array(rows, np.float32).reshape(-1, 5)
        found[name] = ClassDetections(table[:, :4], table[:, 4], image["colors"][name])
    return found


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    data = json.loads((shared / "goldens/eval/geneval_scoring.json").read_text())
    return {group["name"]: group for group in data["groups"]}


def judged(group: dict[str, Any]) -> Iterator[tuple[GenevalPrompt, Verdict, dict[str, Any]]]:
    config = GenevalConfig.from_json(group["config"])
    for entry in group["prompts"]:
        prompt = GenevalPrompt.from_metadata(entry["metadata"])
        for image in entry["images"]:
            yield prompt, judge(prompt, golden_detections(image), config), image


@pytest.mark.reference
@pytest.mark.parametrize("name", GROUPS)
def test_verdicts_and_reasons_equal_the_public_scorers(golden: dict[str, Any], name: str) -> None:
    seen = 0
    for prompt, verdict, image in judged(golden[name]):
        assert verdict == Verdict(image["correct"], image["reason"]), prompt
        seen += 1
    assert seen == golden[name]["summary"]["total_images"]


@pytest.mark.reference
@pytest.mark.parametrize("name", GROUPS)
def test_number_of_kept_boxes_equals_the_public_scorers(golden: dict[str, Any], name: str) -> None:
    config = GenevalConfig.from_json(golden[name]["config"])
    for entry in golden[name]["prompts"]:
        for image in entry["images"]:
            kept = keep(golden_detections(image), counting=entry["metadata"]["tag"] == "counting", config=config)
            assert {key: len(value.boxes) for key, value in kept.items()} == image["kept"]


@pytest.mark.reference
@pytest.mark.parametrize("name", GROUPS)
def test_summaries_equal_the_public_scorers(golden: dict[str, Any], name: str) -> None:
    state = GenevalState.of((prompt, verdict) for prompt, verdict, _ in judged(golden[name]))
    want = golden[name]["summary"]
    assert state.tasks == {task: (c["correct"], c["total"]) for task, c in want["tasks"].items()}
    assert round(state.overall, 5) == want["overall"]
    assert f"{state.num_correct / state.num_pictures:.2%}" == want["pct_correct_images"]
    assert f"{state.share_of_prompts:.2%}" == want["pct_correct_prompts"]
    assert len(state.prompts) == want["total_prompts"]


@pytest.mark.reference
def test_merged_states_equal_the_whole(golden: dict[str, Any]) -> None:
    rows = [(prompt, verdict) for prompt, verdict, _ in judged(golden["default"])]
    whole = GenevalState.of(rows)
    random.Random(0).shuffle(rows)
    parts = [GenevalState.of(rows[start : start + 70]) for start in range(0, len(rows), 70)]
    merged = sum(parts, GenevalState())
    assert merged.prompts == whole.prompts
    assert merged.scores("geneval", protocol="p") == whole.scores("geneval", protocol="p")


@pytest.mark.reference
def test_every_official_prompt_is_read_and_written_back(shared: Path) -> None:
    lines = (shared / "bench/geneval/evaluation_metadata.jsonl").read_text().splitlines()
    prompts = [GenevalPrompt.from_metadata(json.loads(line)) for line in lines]
    assert len(prompts) == 553
    assert [prompt.to_metadata() for prompt in prompts] == [json.loads(line) for line in lines]
    assert {prompt.task for prompt in prompts} == set(TASKS)


def test_score_at_the_threshold_does_not_count() -> None:
    prompt = GenevalPrompt.from_metadata(
        {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a cup"}
    )
    assert not judge(prompt, {"cup": boxes((0, 0, 9, 9, 0.3))}).correct
    assert judge(prompt, {"cup": boxes((0, 0, 9, 9, float(np.nextafter(np.float32(0.3), np.float32(1)))))}).correct
    assert judge(prompt, {}) == Verdict(False, "expected cup>=1, found 0")


def test_relations_are_opposite_when_boxes_change_places() -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (200, 2, 2, 2)).astype(np.float32)
    for a, b in np.sort(corners, axis=2).reshape(200, 2, 4):
        assert {opposite[name] for name in relations(a, b)} == set(relations(b, a))
    assert relations(a, a) == ()


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([left, top, right, bottom], np.float32)


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        (box(0, 0, 9, 4), box(0, 0, 9, 4), 1.0),
        (box(0, 0, 9, 4), box(5, 1, 14, 4), 20 / (50 + 40 - 20)),
        (box(10, 20, 29, 49), box(10, 20, 29, 29), 200 / 600),
        (box(0, 0, 9, 9), box(9, 0, 18, 9), 10 / 190),
        (box(0, 0, 9, 9), box(10, 0, 18, 9), 0.0),
        (box(3, 3, 2, 2), box(3, 3, 2, 2), 0.0),
    ],
)
def test_overlap_is_common_pixels_over_all_pixels_with_the_last_ones(
    a: np.ndarray, b: np.ndarray, share: float
) -> None:
    assert overlap(a, b) == overlap(b, a) == pytest.approx(share)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((-1, 0), ("left of",)),
        ((1, 0), ("right of",)),
        ((0, -1), ("above",)),
        ((0, 1), ("below",)),
        ((1, 1), ("right of", "below")),
        ((-1, -1), ("left of", "above")),
        ((-3, 1), ("left of",)),
        ((1, 3), ("below",)),
    ],
)
def test_a_relation_is_more_than_half_of_the_way(offset: tuple[int, int], expected: tuple[str, ...]) -> None:
    """Boxes of 10 by 10 pixels, far from one another; y grows downwards."""
    across, down = (300 * each for each in offset)
    assert relations(box(across, down, across + 10, down + 10), box(0, 0, 10, 10)) == expected


@pytest.mark.parametrize(
    ("cup", "reason"),
    [
        ((0, 0, 10, 10, 0.9), ""),
        ((200, 0, 210, 10, 0.9), "expected cup left of target, found right of target"),
        ((100, 0, 110, 10, 0.9), "expected cup left of target, found  target"),
        (None, "expected cup>=1, found 0"),
    ],
)
def test_an_object_must_lie_where_the_prompt_says(cup: tuple[float, ...] | None, reason: str) -> None:
    include = [{"class": "dog", "count": 1}, {"class": "cup", "count": 1, "position": ["left of", 0]}]
    prompt = GenevalPrompt.from_metadata({"tag": "position", "include": include, "prompt": "a cup left of a dog"})
    found = {"dog": boxes((100, 0, 110, 10, 0.9))} | ({"cup": boxes(cup)} if cup else {})
    assert judge(prompt, found) == Verdict(not reason, reason)


@pytest.mark.parametrize(
    ("colours", "correct"), [(("red", "red"), True), (("red", "blue"), False), (("blue", "blue"), False)]
)
def test_as_many_objects_as_asked_for_must_have_the_colour(colours: tuple[str, str], correct: bool) -> None:
    table = boxes((0, 0, 9, 9, 0.8), (20, 0, 29, 9, 0.9))
    found = {"cup": ClassDetections(table.boxes, table.scores, list(colours))}
    include = [{"class": "cup", "count": 2, "color": "red"}]
    prompt = GenevalPrompt.from_metadata({"tag": "color_attr", "include": include, "prompt": "two red cups"})
    verdict = judge(prompt, found)
    assert verdict.correct == correct
    assert ("found 1 red; and 1 red, 1 blue" in verdict.reason) == (colours == ("red", "blue"))


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("sign", [-1, 1])
def test_exactly_half_of_the_way_is_no_relation(down: bool, sign: int) -> None:
    """Centres 8 apart, summed sizes 40, of which a tenth does not count: 4 of 8 are left."""

    def placed(at: float) -> np.ndarray:
        return box(0, at, 20, at + 20) if down else box(at, 0, at + 20, 20)

    assert relations(placed(sign * 8), placed(0)) == ()
    assert len(relations(placed(sign * 8.01), placed(0))) == 1
    assert relations(placed(sign * 3.9), placed(0)) == (), "within a tenth of the sizes nothing is left"


def test_only_the_colours_that_matter_are_looked_up() -> None:
    class Refusing(list[str]):
        def __getitem__(self, index: Any) -> Any:
            assert index == 1, "the best box is row 1"
            return super().__getitem__(index)

    table = boxes((0, 0, 9, 9, 0.5), (5, 5, 9, 9, 0.9))
    found = {"cup": ClassDetections(table.boxes, table.scores, Refusing(["red", "blue"]))}
    include = [{"class": "cup", "count": 1, "color": "blue"}]
    prompt = GenevalPrompt.from_metadata({"tag": "colors", "include": include, "prompt": "a photo of a blue cup"})
    assert judge(prompt, found).correct


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class": "cup", "count": 0}, "at least 1"),
        ({"class": "cup", "count": 1, "size": 3}, "size"),
        ({"class": "cup", "count": 1, "position": ["left of", 0]}, "earlier entry"),
        ({"class": "cup", "count": 1, "position": ["near", 0]}, "left of"),
        ({"class": "cup", "count": 1, "position": ["left of", "0"]}, "earlier entry"),
        ({"class": "cup", "count": 1, "color": 3}, "name of a colour"),
    ],
)
def test_ill_formed_metadata_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenevalPrompt.from_metadata({"tag": "position", "include": [entry], "prompt": "x"})


def test_detections_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        ClassDetections(np.zeros((1, 4)), np.zeros(1), ["red"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 colours"):
        ClassDetections(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), ["red", "blue"])


def test_scores_name_every_task_and_count_prompts() -> None:
    rows = [
        (GenevalPrompt(task, f"{task} {number}", (), ()), Verdict(number % 2 == 0, ""))
        for task in TASKS
        for number in range(4)
    ]
    scores = {score.metric: score for score in GenevalState.of(rows).scores("scene_geneval", protocol="scene/1")}
    assert list(scores) == ["scene_geneval.overall", *(f"scene_geneval.{t}" for t in TASKS), "scene_geneval.prompts"]
    assert scores["scene_geneval.overall"].value == 0.5
    assert scores["scene_geneval.prompts"].value == 24
    assert scores["scene_geneval.colors"].n == 4
    low, high = scores["scene_geneval.overall"].low, scores["scene_geneval.overall"].high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high


def test_no_picture_has_no_score() -> None:
    with pytest.raises(ValueError, match="at least one"):
        GenevalState().scores("x", protocol="p")
