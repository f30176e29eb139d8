"""The best of n pictures counts, by a scorer that may see less than the benchmark."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.geneval.scoring import ClassDetections, Detections, GenevalConfig, GenevalPrompt, Requirement
from infinity.evaluation.geneval.search import BestOf, share_of_objects
from infinity.evaluation.geneval.verdicts import GenevalJudge
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, MissingPicture, PromptItem, PromptSample


def results(*prompts: list[dict[str, Any]]) -> JudgedPrompts:
    """One sample per list of entries; a picture's place carries its number."""
    samples = tuple(
        PromptSample(
            item=PromptItem(id=str(i), prompt="p"),
            drawn="p",
            places=tuple(MissingPicture(str(j)) for j in range(len(p))),
        )
        for i, p in enumerate(prompts)
    )
    return JudgedPrompts(samples=samples, records=tuple({"pictures": entries} for entries in prompts))


def entry(correct: bool, objects: float = 0.0) -> dict[str, Any]:
    return {"correct": correct, "objects": objects, "size_px": [8, 8], "reason": ""}


def numbers(found: JudgedPrompts) -> list[list[str]]:
    return [[place.reason for place in sample.places] for sample in found.samples]  # type: ignore[union-attr]


def test_the_ideal_scorer_finds_a_right_picture_wherever_it_is() -> None:
    draw = random.Random(0)
    for _ in range(200):
        size = draw.randint(1, 4)
        entries = [entry(draw.random() < 0.4) for _ in range(size * draw.randint(1, 3))]
        picked = BestOf(candidates=size).pick(results(entries))
        groups = [entries[i : i + size] for i in range(0, len(entries), size)]
        assert [one["correct"] for one in picked.records[0]["pictures"]] == [
            any(one["correct"] for one in group) for group in groups
        ]


def test_a_weak_scorer_goes_by_its_own_value_of_equals_the_first() -> None:
    entries = [entry(True, 0.5), entry(False, 1.0), entry(False, 1.0), entry(True, 0.0)]
    assert numbers(BestOf(candidates=4, scorer="objects").pick(results(entries))) == [["1"]]
    assert numbers(BestOf(candidates=2, scorer="objects").pick(results(entries))) == [["1", "2"]]
    assert numbers(BestOf(candidates=1, scorer="objects").pick(results(entries))) == [["0", "1", "2", "3"]]


def test_a_missing_picture_is_taken_only_where_all_are_missing() -> None:
    gone: dict[str, Any] = {"missing": "no file"}
    picked = BestOf(candidates=2).pick(results([gone, entry(False)], [gone, gone]))
    assert numbers(picked) == [["1"], ["0"]]


def found(**classes: int) -> Detections:
    return {
        name: ClassDetections(np.zeros((n, 4), np.float32), np.full(n, 0.95, np.float32), ["red"] * n)
        for name, n in classes.items()
    }


@pytest.mark.parametrize(
    ("detections", "share"),
    [({}, 0.0), ({"circle": 1}, 0.25), ({"circle": 3}, 0.75), ({"circle": 9, "square": 1}, 1.0), ({"star": 4}, 0.0)],
)
def test_objects_count_up_to_their_number_whatever_their_colour(detections: dict[str, int], share: float) -> None:
    wanted = (Requirement("circle", 3, colour="blue"), Requirement("square", 1))
    prompt = GenevalPrompt("counting", "p", wanted, ())
    assert share_of_objects(prompt, found(**detections), GenevalConfig()) == share


@pytest.mark.parametrize("benchmark", [SceneBenchmark, GenevalBenchmark])
def test_a_benchmark_without_search_keeps_its_name_and_its_verdicts(benchmark: type[Any]) -> None:
    plain, searched = benchmark(), benchmark(best_of=BestOf(candidates=2))
    assert "best_of" not in plain.identity()
    assert searched.identity() != plain.identity()
    weak = searched.replace(best_of=BestOf(candidates=2, scorer="objects"))
    if benchmark is SceneBenchmark:
        assert searched.judge_settings() == plain.judge_settings() != weak.judge_settings()
        assert searched.judge(Networks("cpu")).best_of == searched.best_of
    with pytest.raises(ValueError, match=r"a multiple of 3, the candidates of best_of, got 4"):
        benchmark(best_of=BestOf(candidates=3))


def test_no_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        BestOf(candidates=0)


@pytest.mark.parametrize(("scorer", "has_objects"), [(None, False), ("verdict", False), ("objects", True)])
def test_an_entry_has_the_scorers_value_where_the_scorer_is_not_the_verdict(scorer: Any, has_objects: bool) -> None:
    best_of = None if scorer is None else BestOf(candidates=2, scorer=scorer)
    judge = GenevalJudge(lambda pictures: [found(circle=1) for _ in pictures], GenevalConfig(), best_of)
    prompt = GenevalPrompt("counting", "p", (Requirement("circle", 2),), ())
    item = PromptItem(id="0", prompt="p", about=prompt.to_metadata())
    ((record,),) = [judge([PromptSample(item=item, drawn="p", places=())], [[np.zeros((8, 9, 3), np.uint8)]])]
    (entry,) = record["pictures"]
    assert entry["size_px"] == [8, 9]
    assert not entry["correct"]
    assert entry.get("objects") == (0.5 if has_objects else None)
