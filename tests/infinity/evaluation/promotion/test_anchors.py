"""The best champion of every metric: who it is, under one protocol, and never a model that was rolled back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.promotion.anchors import anchors
from infinity.evaluation.promotion.margins import GateConfig
from tests.infinity.evaluation.promotion.histories import record, score

CONFIG = GateConfig()
UP, DOWN = "geneval.overall", "validation.loss"


def test_the_present_champion_is_no_anchor_of_what_it_does_best() -> None:
    history = (record(1, "a", score(UP, 0.5)), record(2, "b", score(UP, 0.6)))
    assert anchors(history, [score(UP, 0.55)], CONFIG) == {}


def test_an_earlier_champion_is_an_anchor_of_the_metrics_in_which_it_was_better() -> None:
    history = (
        record(1, "a", score(UP, 0.7), score(DOWN, 0.5, unit="nats")),
        record(2, "b", score(UP, 0.6), score(DOWN, 0.4, unit="nats")),
        record(3, "c", score(UP, 0.6), score(DOWN, 0.45, unit="nats")),
    )
    wanted = [score(UP, 0.1), score(DOWN, 9.0, unit="nats")]
    assert anchors(history, wanted, CONFIG) == {1: (UP,), 2: (DOWN,)}


def test_a_lower_loss_is_the_better_one() -> None:
    history = (record(1, "a", score(DOWN, 0.4, unit="nats")), record(2, "b", score(DOWN, 0.5, unit="nats")))
    assert anchors(history, [score(DOWN, 0.45, unit="nats")], CONFIG) == {1: (DOWN,)}
    assert anchors(history[::-1], [score(DOWN, 0.45, unit="nats")], CONFIG) == {}


def test_the_best_of_every_earlier_protocol_is_an_anchor_so_that_a_new_protocol_forgives_no_slide() -> None:
    old = (record(1, "a", score(UP, 0.9)), record(2, "b", score(UP, 0.8)))
    new = (record(3, "c", score(UP, 0.5, protocol="p/2")), record(4, "d", score(UP, 0.4, protocol="p/2")))
    assert anchors(old, [score(UP, 0.5, protocol="p/2")], CONFIG) == {1: (UP,)}
    assert anchors((*old, new[0]), [score(UP, 0.5, protocol="p/2")], CONFIG) == {1: (UP,)}
    assert anchors((*old, *new), [score(UP, 0.5, protocol="p/2")], CONFIG) == {1: (UP,), 3: (UP,)}
    assert anchors((*old, *new), [score(UP, 0.5, protocol="p/3")], CONFIG) == {1: (UP,), 3: (UP,)}
    again = record(5, "a", score(UP, 0.6, protocol="p/2"))
    assert anchors((*old, *new, again), [score(UP, 0.5, protocol="p/2")], CONFIG) == {}  # the best of both is champion


def test_scores_of_another_unit_are_no_measure() -> None:
    for other in (score(UP, 0.9, unit="percent"), score(UP, None)):
        history = (record(1, "a", other), record(2, "b", score(UP, 0.6)))
        assert anchors(history, [score(UP, 0.5)], CONFIG) == {}


def test_a_present_champion_without_the_metric_leaves_the_earlier_one_as_anchor() -> None:
    history = (record(1, "a", score(UP, 0.3)), record(2, "b"))
    assert anchors(history, [score(UP, 0.5)], CONFIG) == {1: (UP,)}


def test_what_has_no_margin_or_was_not_measured_on_the_candidate_has_no_anchor() -> None:
    history = (record(1, "a", score(UP, 0.9), score("taste", 0.9)), record(2, "b", score(UP, 0.6), score("taste", 0.1)))
    assert anchors(history, [score(UP, None), score("taste", 0.5)], CONFIG) == {}


def test_models_that_were_rolled_back_are_passed_over_for_the_next_best() -> None:
    history = (record(1, "a", score(UP, 0.7)), record(2, "b", score(UP, 0.9)), record(3, "c", score(UP, 0.6)))
    assert anchors(history, [score(UP, 0.5)], CONFIG, set_aside={"b"}) == {1: (UP,)}
    assert anchors(history, [score(UP, 0.5)], CONFIG, set_aside={"a", "b"}) == {}


@given(st.lists(st.integers(0, 10), min_size=1, max_size=8))
def test_an_anchor_has_the_best_value_of_all_and_beats_the_present(values: list[int]) -> None:
    history = tuple(record(place, str(place), score(UP, value / 10)) for place, value in enumerate(values, start=1))
    found = anchors(history, [score(UP, 0.5)], CONFIG)
    if max(values) > values[-1]:
        (number,) = found
        assert values[number - 1] == max(values)
    else:
        assert found == {}
