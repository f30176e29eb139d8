"""DPG-Bench scoring: the public script's quirks one by one, and what the corrected protocol does instead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.dpg.scoring import (
    COLUMNS,
    MissingParentError,
    Protocol,
    Question,
    UnknownItemError,
    cut,
    questions_of,
    read_table,
    score_picture,
    score_tile,
    tile,
)

HEADER = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
)


def table(*rows: str, protocol: Protocol = "reference") -> dict[str, tuple[Question, ...]]:
    lines = [
        f'{item},,,{number},"{parents}",,,{about},{text}' for item, number, parents, about, text in map(_split, rows)
    ]
    return dict(read_table("\n".join([HEADER, *lines]).encode(), protocol, where="t.csv"))


def _split(row: str) -> list[str]:
    item, number, parents, *rest = row.split("|")
    return [
        item,
        number,
        parents,
        rest[0] if rest else "entity - whole (x)",
        rest[1] if len(rest) > 1 else f"q{number}?",
    ]


def test_a_table_with_a_cell_beyond_all_limits_is_a_clear_error() -> None:
    header = ",".join(COLUMNS)
    with pytest.raises(ValueError, match=r"q\.csv, line .*expected a row of CSV"):
        read_table(f"{header}\n{'a' * 140_000}\n".encode(), "reference", where="q.csv")


def test_first_row_is_lost_to_the_reference_alone() -> None:
    rows = ("a|1|0", "a|2|1", "b|1|0")
    assert [question.id for question in table(*rows)["a"]] == [2]
    assert [question.id for question in table(*rows, protocol="corrected")["a"]] == [1, 2]


def test_split_rows_keep_their_last_run_or_all() -> None:
    rows = ("x|1|0", "a|1|0", "a|2|0", "b|1|0", "a|3|0")
    assert [question.id for question in table(*rows)["a"]] == [3]
    assert [question.id for question in table(*rows, protocol="corrected")["a"]] == [1, 2, 3]


def test_a_repeated_number_overwrites_in_its_first_place() -> None:
    found = table("x|1|0", "a|1|0", "a|2|1", "a|1|0|global - (y)|again?")["a"]
    assert [(question.id, question.text) for question in found] == [(1, "again?"), (2, "q2?")]
    assert (found[0].category, found[0].group) == ("global -", "global")


def test_items_of_digits_alone_fit_no_picture_of_the_reference() -> None:
    assert table("1|1|0", "2|1|0") == {}
    assert set(table("1|1|0", "2|1|0", protocol="corrected")) == {"1", "2"}
    assert set(table("1|1|0", "2|1|0", "a|1|0")) == {"2", "a"}


def test_names_are_read_up_to_their_first_dot() -> None:
    found = table("x|1|0", "dotted|1|0")
    assert questions_of(found, "dotted.v2.final.png") == found["dotted"]
    with pytest.raises(UnknownItemError, match="no questions for the item 'other'"):
        questions_of(found, "other.png")


def chain(*numbers: int) -> list[Question]:
    """Questions that each depend on the one with the number before."""
    return [Question(number, f"q{number}", (number - 1,), "entity - whole (x)") for number in numbers]


def test_a_no_reaches_grandchildren_in_table_order_only_by_the_reference() -> None:
    answers = {1: "no", 2: "yes", 3: "yes"}
    assert score_tile(chain(1, 2, 3), answers, "reference").score == 0
    assert score_tile(chain(3, 2, 1), answers, "reference").valid == {3: 1.0, 2: 0.0, 1: 0.0}
    for order in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        assert score_tile(chain(*order), answers, "corrected").score == 0


@pytest.mark.parametrize(
    ("answer", "reference", "corrected"),
    [("yes", 1, 1), ("Yes", 0, 1), (" yes", 0, 1), ("yes.", 0, 1), ("no", 0, 0), ("yes it is", 0, 0), ("", 0, 0)],
)
def test_reading_of_answers(answer: str, reference: int, corrected: int) -> None:
    questions = [Question(1, "q", (0,), "entity - whole (x)")]
    assert score_tile(questions, {1: answer}, "reference").score == reference
    assert score_tile(questions, {1: answer}, "corrected").score == corrected


def test_absent_parents_fail_the_picture_unless_another_failed_before() -> None:
    questions = [Question(1, "q", (0,), "e - (x)"), Question(2, "q", (1, 7), "e - (x)")]
    assert score_tile(questions, {1: "no", 2: "yes"}, "reference").score == 0
    with pytest.raises(MissingParentError, match="depends on question 7"):
        score_tile(questions, {1: "yes", 2: "yes"}, "reference")
    assert score_tile(questions, {1: "yes", 2: "yes"}, "corrected").score == 1


def test_categories_count_the_last_tile_before_or_all_tiles_after_dependencies() -> None:
    questions = chain(1, 2)
    picture = score_picture(questions, [{1: "yes", 2: "yes"}, {1: "no", 2: "yes"}], "reference")
    assert [value for _, value in picture.counted("reference")] == [0.0, 1.0]
    picture = score_picture(questions, [{1: "yes", 2: "yes"}, {1: "no", 2: "yes"}], "corrected")
    assert [value for _, value in picture.counted("corrected")] == [1.0, 1.0, 0.0, 0.0]
    assert picture.average == 0.5


@given(st.permutations(range(1, 7)), st.lists(st.booleans(), min_size=6, max_size=6), st.data())
def test_corrected_scores_do_not_depend_on_the_order_of_rows(
    order: list[int], yes: list[bool], data: st.DataObject
) -> None:
    parents = {number: data.draw(st.lists(st.integers(0, 6), max_size=2)) for number in range(1, 7)}
    questions = {number: Question(number, "q", tuple(parents[number]), "e - (x)") for number in range(1, 7)}
    answers = {number: "yes" if yes[number - 1] else "no" for number in range(1, 7)}
    sorted_scores = score_tile([questions[n] for n in range(1, 7)], answers, "corrected").valid
    assert score_tile([questions[n] for n in order], answers, "corrected").valid == sorted_scores


@pytest.mark.parametrize(
    ("about", "category", "group"),
    [
        ("entity - whole (cactus)", "entity - whole", "entity"),
        ("relation - spatial (a (b), c, on)", "relation - spatial", "relation"),
        ("global", "global", "global"),
        ("attribute - color(dog, light-brown)", "attribute - color", "attribute"),
    ],
)
def test_categories_stand_before_the_first_bracket_and_groups_before_the_first_dash(
    about: str, category: str, group: str
) -> None:
    question = Question(1, "?", (), about)
    assert (question.category, question.group) == (category, group)


def test_four_pictures_come_back_from_their_grid() -> None:
    pictures = [np.full((6, 4, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    grid = tile(pictures)
    assert grid.shape == (12, 8, 3)
    assert (grid[0, 4], grid[6, 0]) == (pytest.approx([20] * 3), pytest.approx([30] * 3))
    for number in (1, 2, 3, 4):
        np.testing.assert_array_equal(cut(tile(pictures[:number]), (6, 4), number), pictures[:number])


def test_a_grid_that_is_too_small_is_filled_up_with_black() -> None:
    tiles = cut(np.full((10, 12, 3), 9, np.uint8), (8, 8), 4)
    assert [int(part.astype(int).sum()) // 27 for part in tiles] == [64, 32, 16, 8]
    assert all(part.shape == (8, 8, 3) for part in tiles)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"item_id,tuple\na,b\n", "missing proposition_id, dependency, question_natural_language"),
        (HEADER.encode(), "without rows"),
        ((HEADER + "\na,,,one,0,,,t (x),q?").encode(), "line 2: expected a number in proposition_id"),
        ((HEADER + "\na,,,1,0,,,t (x),q?\na,,,2,1;0,,,t (x),q?").encode(), "line 3: .* found '2' and '1;0'"),
        ((HEADER + "\na,,,1,0,,,t (x),").encode(), "line 2: expected a value in question_natural_language"),
        (HEADER.encode() + b"\n\xff", "in UTF-8"),
    ],
)
def test_broken_tables_are_refused_with_the_line(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(data, "reference", where="t.csv")
