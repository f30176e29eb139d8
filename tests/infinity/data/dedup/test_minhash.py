"""Captions with nearly the same words are found, whatever their number, and nothing is merged by chance."""

import itertools

import numpy as np
import pytest

from infinity.data.dedup.minhash import _candidates, shingles, similar_captions

WORDS = [f"word{number}" for number in range(400)]


def jaccard(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def changed(words: list[str], number: int, random: np.random.Generator) -> str:
    """A caption with some words exchanged."""
    copy = list(words)
    for place in random.choice(len(words), number, replace=False):
        copy[int(place)] = str(random.choice(WORDS))
    return " ".join(copy)


@pytest.mark.parametrize("similarity", [0.6, 0.7, 0.8])
def test_pairs_are_those_that_a_comparison_of_all_finds(similarity: float) -> None:
    """True for every pair below; of those above, one of similarity 0.6 may be missed in a hundred."""
    random = np.random.default_rng(5)
    captions = []
    for _ in range(25):
        words = [str(word) for word in random.choice(WORDS, 24, replace=False)]
        captions += [" ".join(words), *(changed(words, number, random) for number in (1, 2, 3, 4))]
    pairs, equal = similar_captions(captions, similarity)
    couples = itertools.combinations(range(len(captions)), 2)
    expected = {(i, j) for i, j in couples if jaccard(captions[i], captions[j]) >= similarity}
    assert equal == {}
    assert len(pairs) == len(set(pairs))
    assert set(pairs) <= expected
    assert len(set(pairs)) >= 0.97 * len(expected) > 10


def test_captions_that_share_little_are_seldom_compared() -> None:
    """Bands of four: a pair of similarity 0.2 agrees in one of 32 in 5 % of cases; three would in 23 %."""
    pairs = [frozenset((str(n), str(k)) for k in range(20)) for n in range(150)]
    others = [frozenset([*list(each)[:7], *((str(n), "x", str(k)) for k in range(13))]) for n, each in enumerate(pairs)]
    shared = len(pairs[0] & others[0]) / len(pairs[0] | others[0])
    assert shared == pytest.approx(0.2, abs=0.02)
    compared = _candidates([*pairs, *others])
    assert 1 <= len(compared) <= 0.14 * len(pairs)


def test_captions_of_the_same_word_pairs_are_equal_and_in_no_pair() -> None:
    captions = ["a red cat sits", "something else here", "A red cat sits!", "a red cat sits"]
    assert similar_captions(captions, 0.5) == ([], {2: 0, 3: 0})


def test_at_the_limit_counts_as_alike() -> None:
    """Three pairs of words each, two of them shared: two of four."""
    captions = ["one two three four", "one two three five"]
    assert similar_captions(captions, 0.5)[0] == [(0, 1)]
    assert similar_captions(captions, 0.51)[0] == []


def test_shingles_are_sequences_of_words_and_a_short_text_is_one() -> None:
    assert shingles("a red cat") == {("a", "red"), ("red", "cat")}
    assert shingles("a red cat", size=3) == {("a", "red", "cat")}
    assert shingles("cat") == {("cat",)}
    assert shingles("") == frozenset()


@pytest.mark.parametrize(
    ("one", "other"),
    [("लाल की", "लाल का"), ("শহরের", "শহর"), ("ม้า", "ม่า"), ("சிவப்பு", "சவப்ப"), ("מְדִינָה", "מֶדֶינֶה")],
)
def test_captions_that_differ_in_marks_alone_are_not_equal(one: str, other: str) -> None:
    assert similar_captions([one, other], 1.0) == ([], {})


CAT, CAR = "一只黑色的小猫坐在红色的垫子上看着窗外", "一辆蓝色的汽车停在城市的街道旁边等人"
THAI_CAT, THAI_CAR = "แมวสีดำตัวหนึ่งนั่งอยู่บนเสื่อสีแดงข้างหน้าต่างบานใหญ่", "รถยนต์สีน้ำเงินจอดอยู่ริมถนนในเมืองใหญ่ตอนกลางคืน"


@pytest.mark.parametrize(
    ("one", "other", "unlike"),
    [(CAT, CAT.replace("看", "望"), CAR), (THAI_CAT, THAI_CAT.replace("ใหญ่", "เล็ก"), THAI_CAR)],
)
def test_scripts_without_blanks_are_compared_by_their_characters(one: str, other: str, unlike: str) -> None:
    pairs, equal = similar_captions([one, other, unlike], 0.5)
    assert (pairs, equal) == ([(0, 1)], {})
