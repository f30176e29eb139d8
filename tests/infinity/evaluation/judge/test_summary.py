"""Scores from answers: means by each suite's formula, gaps in no mean, cost, and alarms about the judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.judge.questions import JudgeQuestion
from infinity.evaluation.judge.suites import SUITES, SuiteName
from infinity.evaluation.judge.summary import summarize
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PicturePlace, PromptItem, PromptSample
from infinity.evaluation.score import Score

DOG = JudgeQuestion(text="Is there a dog?", group="object", dimension="entity")
BROWN = JudgeQuestion(text="Is it brown?", group="colour", dimension="attribute", parents=(0,))
Answers = list[list[Mapping[str, Any]]]


def said(*replies: str) -> list[Mapping[str, Any]]:
    return [{"reply": reply} for reply in replies]


def prompt(number: int, questions: tuple[JudgeQuestion, ...] = (DOG, BROWN), pictures: int = 1) -> PromptSample:
    item = PromptItem(
        id=f"p{number}", prompt=f"prompt {number}", about={"questions": [each.to_json() for each in questions]}
    )
    places = tuple(
        PicturePlace(uri=f"/{number}_{k}.png", name=f"{number}_{k}.png", version="1") for k in range(pictures)
    )
    return PromptSample(item=item, drawn=item.prompt, places=places)


def result(
    records: list[Mapping[str, Any]], suite: SuiteName = "dsg", price: tuple[float, float] | None = None,
    questions: tuple[JudgeQuestion, ...] = (DOG, BROWN),
) -> BenchmarkResult:  # fmt: skip
    samples = tuple(
        prompt(number, questions, max(1, len(record.get("answers", ())))) for number, record in enumerate(records)
    )
    return summarize("judge", SUITES[suite], JudgedPrompts(samples=samples, records=tuple(records)), "rules", price)


def scores(*arguments: Any, **more: Any) -> dict[str, Score]:
    return {score.metric: score for score in result(*arguments, **more).scores}


def test_a_question_that_depends_on_a_wrong_one_scores_nothing() -> None:
    found = scores([{"answers": [said("no", "yes")]}, {"answers": [said("yes", "no")]}])
    assert found["judge.overall"].value == 25.0
    assert found["judge.without_dependencies"].value == 50.0
    assert found["judge.group.object"].value == 50.0
    assert found["judge.group.colour"].value == 0.0


def test_a_prompt_counts_once_however_many_pictures_it_has() -> None:
    right, wrong = said("yes", "yes"), said("no", "no")
    found = result([{"answers": [right, right, right, wrong]}, {"answers": [wrong]}])
    assert found.items["judge.overall"] == {"p0": 75.0, "p1": 0.0}
    assert next(score.value for score in found.scores if score.metric == "judge.overall") == 37.5


def test_a_geometric_mean_is_nothing_where_one_answer_is_and_the_arithmetic_one_stands_beside_it() -> None:
    records = [{"answers": [[{"reply": "yes", "p": 0.64}, {"reply": "yes", "p": 0.25}]]}]
    found = scores(records, "geneval2")
    assert found["judge.overall"].value == pytest.approx(40.0)
    assert found["judge.arithmetic"].value == pytest.approx(44.5)
    assert found["judge.likeliest"].value == 100.0
    nothing = scores([{"answers": [[{"reply": "yes", "p": 0.9}, {"reply": "no", "p": 0.0}]]}], "geneval2")
    assert nothing["judge.overall"].value == 0.0


def test_a_mean_over_dimensions_weighs_each_of_them_the_same() -> None:
    questions = (DOG, DOG, DOG, BROWN.replace(parents=()))
    found = scores([{"answers": [said("yes", "yes", "yes", "no")]}], "unigenbench", questions=questions)
    assert found["judge.overall"].value == 50.0
    assert found["judge.mean_over_prompts"].value == 75.0
    assert not result([{"answers": [said("yes", "no")]}], "unigenbench").items, "no plain mean over prompts"


def test_a_prompt_with_a_gap_is_in_no_mean_and_its_questions_are_counted() -> None:
    gap = {"answers": [[{"reply": "yes"}, {"gap": "no answer within 60 s"}]]}
    found = scores([{"answers": [said("yes", "yes")]}, gap, {"missing": "no file p2.png"}])
    assert found["judge.overall"].value == 100.0
    assert found["judge.overall"].n == 1
    assert "INCOMPLETE: 2 of 3 prompts" in found["judge.overall"].note
    assert "p1: no answer within 60 s" in found["judge.overall"].note
    assert (found["judge.gaps"].value, found["judge.gaps"].n) == (3.0, 6)
    assert "2 times: picture missing (no file p2.png)" in found["judge.gaps"].note


def test_where_nothing_was_answered_nothing_is_measured_and_it_says_why() -> None:
    found = scores([{"missing": "no file p0.png"}])
    assert found["judge.overall"].value is None
    assert "no file p0.png" in found["judge.overall"].note
    assert result([{"missing": "no file p0.png"}]).items == {}


def test_an_answer_that_is_none_counts_as_wrong() -> None:
    assert scores([{"answers": [said("I cannot see pictures.", "yes")]}])["judge.overall"].value == 0.0


def test_tokens_are_summed_and_priced_where_a_price_is_known() -> None:
    records = [{"answers": [said("yes", "yes")], "tokens": [1000, 20]} for _ in range(3)]
    plain, priced = scores(records), scores(records, price=(2.0, 10.0))
    assert plain["judge.tokens"].value == 3060.0
    assert plain["judge.tokens"].note == "3000 read, 60 written; failed requests are not counted"
    assert priced["judge.tokens"].note.endswith("cost 0.0066 at 2 and 10 per million")
    assert "judge.tokens" not in scores([{"answers": [said("yes", "yes")]}])


def test_two_versions_of_a_judge_or_changed_probes_are_an_alarm_on_every_score() -> None:
    versions = [{"answers": [said("yes", "yes")], "versions": [name]} for name in ("v1", "v2")]
    assert scores(versions)["judge.overall"].note.startswith("JUDGE CHANGED: 2 versions answered (v1, v2)")
    probes = {"changed": 2, "number": 9, "largest": 0.5, "first": "Is it red?"}
    drifted = [{"answers": [said("yes", "yes")], "probes": probes} for _ in range(2)]
    for metric in ("judge.overall", "judge.group.object"):
        assert "JUDGE DRIFT: 2 of 9 probes" in scores(drifted)[metric].note
    silent = [{"answers": [said("yes", "yes")], "probes": {**probes, "changed": 0, "silent": 3}}]
    assert "JUDGE" not in scores(silent)[metric].note
    assert "3 probes of the judge got no answer in time" in scores(silent)[metric].note
    quiet = [{"answers": [said("yes", "yes")], "probes": {**probes, "changed": 0}}]
    assert "JUDGE" not in scores(quiet)["judge.overall"].note


def test_every_record_is_kept_with_its_prompt() -> None:
    records = [{"answers": [said("yes", "no")]}, {"missing": "no file"}]
    lines = result(records).records["judge_answers.jsonl"]
    assert [line["id"] for line in lines] == ["p0", "p1"]
    assert [line["prompt"] for line in lines] == ["prompt 0", "prompt 1"]
    assert lines[1]["missing"] == "no file"
