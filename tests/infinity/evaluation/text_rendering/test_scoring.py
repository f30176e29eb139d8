"""Words that are read against words that are wanted, by hand-made cases."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.text_rendering.scoring import edit_distance, quoted, text_score, words_of


@pytest.mark.parametrize(
    ("wanted", "read", "accuracy", "distance", "exact"),
    [
        ("open", "open", 1, 0, True), ("open", "", 0, 1, False), ("open", "opan", 0, 1 / 4, False),
        ("open today", "today open", 1, 0, True), ("open open", "open", 1 / 2, 1 / 2, False),
        ("open", "open now", 1, 1 / 2, False), ("hot tea", "hot te", 1 / 2, (0 + 1 / 3) / 2, False),
        ("a b c", "x", 0, (1 + 2) / 3, False), ("kitten", "sitting", 0, 3 / 7, False),
    ],
)  # fmt: skip
def test_scores_of_hand_made_cases(wanted: str, read: str, accuracy: float, distance: float, exact: bool) -> None:
    found = text_score(wanted.split(), read.split())
    assert found.accuracy == pytest.approx(accuracy)
    assert found.edit_distance == pytest.approx(distance)
    assert found.exact is exact


def test_words_are_assigned_so_that_the_sum_is_smallest() -> None:
    """Taking the nearest word first would give 1 to the second pair."""
    assert edit_distance(["abcd", "abce"], ["abce", "abcf"]) == pytest.approx((1 / 4 + 0) / 2)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('a sign "OPEN"', ("OPEN",)), ("a sign 'Hot tea' and “cold”", ("Hot tea", "cold")), ("a dog's bone", ()),
        ("don't 'stop' it's", ("stop",)), ("招牌「开」", ("开",)), ("ein „Offen“ und „Zu”", ("Offen", "Zu")),
        ("un «Ouvert»", ("Ouvert",)), ("招牌『开放』＂门＂", ("开放", "门")), ("‘don’t walk’ now", ("don’t walk",)),
        ("the dogs' 'let's go' sign, the '90s 'OPEN'", ("let's go", "OPEN")), ('"" and "x"', ("x",)),
    ],
)  # fmt: skip
def test_quoted_texts_are_wanted_and_apostrophes_are_not(prompt: str, texts: tuple[str, ...]) -> None:
    assert quoted(prompt) == texts


def test_words_have_no_case_width_or_punctuation_at_their_ends() -> None:
    assert words_of("“Ｏｐｅｎ”, 24/7! - e.g. now.") == ("open", "24/7", "e.g", "now")


@given(st.text("ab", min_size=1, max_size=6), st.text("ab", min_size=1, max_size=6))
def test_the_distance_of_two_words_is_levenshteins_over_the_length_of_the_longer(a: str, b: str) -> None:
    @cache
    def levenshtein(i: int, j: int) -> int:
        """Of the first i letters of a and the first j of b, straight from its definition."""
        if not i or not j:
            return i + j
        return min(
            levenshtein(i - 1, j) + 1, levenshtein(i, j - 1) + 1, levenshtein(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        )

    assert edit_distance((a,), (b,)) == pytest.approx(levenshtein(len(a), len(b)) / max(len(a), len(b)))
