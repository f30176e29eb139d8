"""Counts of right pictures: they add up in any grouping, items average to the scores, intervals hold the value."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.geneval.scoring import TASKS, GenevalPrompt, Requirement, Verdict
from infinity.evaluation.geneval.state import GenevalState


def prompt(task: str, number: int) -> GenevalPrompt:
    return GenevalPrompt(task, f"{task} {number}", (Requirement("dog", number + 1),), ())


pictures = st.lists(
    st.tuples(st.sampled_from([*TASKS, "another"]), st.integers(0, 3), st.booleans()), min_size=1, max_size=60
).map(lambda rows: [(prompt(task, number), Verdict(right, "" if right else "no")) for task, number, right in rows])


@given(pictures, st.lists(st.integers(0, 60), max_size=4))
def test_states_of_parts_add_up_to_the_whole_in_any_order(
    judged: list[tuple[GenevalPrompt, Verdict]], cuts: list[int]
) -> None:
    whole = GenevalState.of(judged)
    ends = [0, *sorted(min(cut, len(judged)) for cut in cuts), len(judged)]
    parts = [GenevalState.of(judged[a:b]) for a, b in pairwise(ends)]
    for states in (parts, parts[::-1]):
        merged = reduce(add, states, GenevalState())
        assert dict(merged.prompts) == dict(whole.prompts)
        assert merged.overall == pytest.approx(whole.overall, abs=1e-12)
    assert whole.num_pictures == len(judged)
    assert whole.num_correct == sum(verdict.correct for _, verdict in judged)


@given(pictures)
def test_the_plain_mean_of_the_items_is_the_score(judged: list[tuple[GenevalPrompt, Verdict]]) -> None:
    state = GenevalState.of(judged)
    scores = {score.metric: score for score in state.scores("g", protocol="p")}
    ids = {key: str(place) for place, key in enumerate(state.prompts)}
    for metric, values in state.items("g", ids).items():
        assert fmean(values.values()) == pytest.approx(scores[metric].value)


@given(pictures)
def test_every_interval_holds_its_value_and_stays_within_a_share(judged: list[tuple[GenevalPrompt, Verdict]]) -> None:
    for score in GenevalState.of(judged).scores("g", protocol="p"):
        if score.low is not None and score.high is not None and score.value is not None:
            assert -1e-12 <= score.low <= score.high <= 1 + 1e-12
            if "resampling" not in score.note:
                assert score.low - 1e-12 <= score.value <= score.high + 1e-12


def test_overall_weighs_tasks_alike_whatever_their_number_of_pictures() -> None:
    many = [(prompt("counting", number), Verdict(True, "")) for number in range(4)] * 10
    one = [(prompt("position", 0), Verdict(False, "no"))]
    state = GenevalState.of(many + one)
    assert state.overall == 0.5
    assert state.tasks == {"counting": (40, 40), "position": (0, 1)}
    assert state.share_of_prompts == 0.8


def test_a_task_with_one_prompt_has_wilsons_interval_over_prompts() -> None:
    state = GenevalState.of([(prompt("counting", 0), Verdict(True, ""))] * 4)
    task = next(score for score in state.scores("g", protocol="p") if score.metric == "g.counting")
    assert "Wilson over prompts" in task.note
    assert task.low == pytest.approx(0.2065, abs=1e-4)


def test_official_tasks_come_first_in_the_papers_order() -> None:
    judged = [(prompt(task, 0), Verdict(True, "")) for task in ("zebra", *TASKS[::-1], "apple")]
    assert list(GenevalState.of(judged).tasks) == [*TASKS, "apple", "zebra"]
