"""DPG-Bench: questions about a picture that depend on each other, and scores computed from their answers.

There are two protocols. ``reference`` is what the public script computes (github.com/TencentQQGYLab/ELLA, commit
3c228f1), including its errors, so that scores compare with published ones. ``corrected`` is what the script is meant to
compute (decision 22):

| | reference | corrected |
| --- | --- | --- |
| first row of the table | never read | read |
| rows of an item that are not adjacent | only the last run counts | all count |
| ``item_id`` of digits alone in all rows | read as numbers, fits no picture | read as text |
| answer | exactly "yes" | "yes", whatever its case, blanks and full stop |
| a "no" of a parent | reaches grandchildren only where the parent precedes the child | reaches all descendants |
| parent that does not exist | the picture fails | is ignored |
| categories | raw answers of the last tile | answers after dependencies, all tiles |
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

Protocol = Literal["reference", "corrected"]
PROTOCOLS: tuple[Protocol, ...] = ("reference", "corrected")

COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")
"""Columns of the table that are read, by name."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a picture.
    id: Number of the question within the item.
    Attributes:
        text: The question itself.
        parents: Numbers of questions that must be answered with yes; 0 is none.
        about: Text of the question's tuple, for example "entity - whole (cactus)".
    """

    id: int
    text: str
    parents: tuple[int, ...]
    about: str

    @property
    def category(self) -> str:
        """The finer category: the text before the first bracket, for example "entity - whole"."""
        return self.about.split("(")[0].strip()

    @property
    def group(self) -> str:
        return self.category.split("-")[0].strip()


Table = Mapping[str, tuple[Question, ...]]
"""Questions of every item, in the order of the table."""


class ItemError(ValueError):
    """A picture that cannot be scored."""


class UnknownItemError(ItemError):
    """The table has no questions for the item."""


class MissingParentError(ItemError):
    """A question depends on one that does not exist; ``parent`` is its number."""

    def __init__(self, parent: int) -> None:
        super().__init__(f"a question depends on question {parent}, which the table does not have for this item")
        self.parent = parent


def read_table(data: bytes, protocol: Protocol, *, where: str) -> Table:
    """Read the table of questions (CSV with a header).

    Args:
        protocol: Protocol whose rules of reading are followed.
        where: Name of the file in error messages.

    Raises:
        ValueError: The table is not UTF-8, lacks a column, has no rows, or has a row that cannot be read.
    """
    rows = _rows(data, where)
    if protocol == "corrected":
        merged: dict[str, dict[int, Question]] = {}
        for item, question in rows:
            merged.setdefault(item, {})[question.id] = question
        return {item: tuple(questions.values()) for item, questions in merged.items()}
    if all(re.fullmatch(r"[+-]?\d+", item) for item, _ in rows):
        return {}
    runs: dict[str, dict[int, Question]] = {}
    previous = ""
    for item, question in rows[1:]:
        if item != previous:
            runs[item] = {}
        runs[item][question.id] = question
        previous = item
    return {item: tuple(questions.values()) for item, questions in runs.items()}


def _rows(data: bytes, where: str) -> list[tuple[str, Question]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: expected a table in UTF-8, found byte {error.object[error.start]:#x}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(
                f"{where}: expected the columns {', '.join(COLUMNS)}, missing {', '.join(missing)}; found "
                f"{', '.join(reader.fieldnames or ()) or 'none'}"
            )
        rows = [_row(row, f"{where}, line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise ValueError(f"{where}, line {reader.line_num}: expected a row of CSV, found none ({error})") from error
    if not rows:
        raise ValueError(f"{where}: expected questions, found a table without rows")
    return rows


def _row(row: Mapping[str, str | None], where: str) -> tuple[str, Question]:
    values = {name: row.get(name) or "" for name in COLUMNS}
    if empty := [name for name, value in values.items() if not value.strip()]:
        raise ValueError(f"{where}: expected a value in {', '.join(empty)}, found none")
    try:
        number = int(values["proposition_id"])
        parents = tuple(int(part) for part in values["dependency"].split(","))
    except ValueError as error:
        raise ValueError(
            f"{where}: expected a number in proposition_id and numbers with commas in dependency, found "
            f"{values['proposition_id']!r} and {values['dependency']!r}"
        ) from error
    return values["item_id"], Question(number, values["question_natural_language"], parents, values["tuple"])


def questions_of(table: Table, name: str) -> tuple[Question, ...]:
    """Return the questions about a picture, whose name is read up to its first dot.

    Raises:
        UnknownItemError: The table has none.
    """
    key = name.split(".")[0]
    if key not in table:
        raise UnknownItemError(f"the table has no questions for the item {key!r}")
    return table[key]


@dataclass(frozen=True, slots=True)
class TileScore:
    """Scores (0 or 1) of the questions about one tile, by their number: as answered, and after dependencies."""

    raw: Mapping[int, float]
    valid: Mapping[int, float]

    @property
    def score(self) -> float:
        """Mean of the scores after dependencies."""
        return sum(self.valid.values()) / len(self.valid)


def score_tile(questions: Sequence[Question], answers: Mapping[int, str], protocol: Protocol) -> TileScore:
    """Score the answers about one tile.

    Example:
        >>> dog, brown = Question(1, "a dog?", (0,), "entity (dog)"), Question(2, "brown?", (1,), "attribute (brown)")
        >>> score_tile([dog, brown], {1: "no", 2: "yes"}, "corrected")
        TileScore(raw={1: 0.0, 2: 1.0}, valid={1: 0.0, 2: 0.0})

    Args:
        questions: Questions in the order of the table.
        answers: Answers by the number of the question.
        protocol: How strictly answers are read and how far a "no" reaches.

    Raises:
        MissingParentError: A question depends on one that does not exist ("reference" only).
    """
    if protocol == "reference":
        raw = {question.id: float(answers[question.id] == "yes") for question in questions}
        return TileScore(raw, _in_order(questions, raw))
    raw = {question.id: float(answers[question.id].strip().rstrip(".").lower() == "yes") for question in questions}
    return TileScore(raw, _all_ancestors(questions, raw))


def _in_order(questions: Sequence[Question], raw: Mapping[int, float]) -> dict[int, float]:
    """Zero questions in the order of the table; each question sees its parents' scores at that moment."""
    scores = dict(raw)
    for question in questions:
        for parent in question.parents:
            if parent == 0:
                continue
            if parent not in scores:
                raise MissingParentError(parent)
            if scores[parent] == 0:
                scores[question.id] = 0.0
                break
    return scores


def _all_ancestors(questions: Sequence[Question], raw: Mapping[int, float]) -> dict[int, float]:
    """Zero every question with a "no" among its ancestors, in whatever order the table lists them."""
    scores, changed = dict(raw), True
    while changed:
        changed = False
        for question in questions:
            if scores[question.id] and any(scores.get(parent, 1.0) == 0 for parent in question.parents if parent):
                scores[question.id], changed = 0.0, True
    return scores


@dataclass(frozen=True, slots=True)
class PictureScore:
    """Scores of all tiles of one item."""

    questions: tuple[Question, ...]
    tiles: tuple[TileScore, ...]

    @property
    def average(self) -> float:
        """Mean over tiles, 0 to 1."""
        scores = [tile.score for tile in self.tiles]
        return sum(scores) / len(scores)

    def counted(self, protocol: Protocol) -> list[tuple[Question, float]]:
        """Return the questions with the scores that count for the categories."""
        if protocol == "reference":
            return [(question, self.tiles[-1].raw[question.id]) for question in self.questions]
        return [(question, tile.valid[question.id]) for tile in self.tiles for question in self.questions]


def score_picture(
    questions: Sequence[Question], answers: Sequence[Mapping[int, str]], protocol: Protocol
) -> PictureScore:
    """Score the answers about all tiles of one item; raise what `score_tile` raises."""
    return PictureScore(tuple(questions), tuple(score_tile(questions, tile, protocol) for tile in answers))


def tile(pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Return one to four pictures of one size in a grid of 2 x 2, row by row; empty places are black.

    Raises:
        ValueError: No picture, more than four, or pictures of different sizes.
    """
    shapes = {picture.shape for picture in pictures}
    if not 1 <= len(pictures) <= 4 or len(shapes) != 1:
        raise ValueError(
            f"expected one to four pictures of one size, got {len(pictures)} of the sizes "
            f"{sorted(shape[:2] for shape in shapes)}"
        )
    rows, columns, _ = pictures[0].shape
    grid = np.zeros((2 * rows, 2 * columns, 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = rows * (number // 2), columns * (number % 2)
        grid[top : top + rows, left : left + columns] = picture
    return grid


def cut(grid: UInt8[np.ndarray, "H W 3"], side_px: tuple[int, int], number: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Return the first tiles of a grid, row by row; what lies outside of the grid is black.

    Args:
        number: Number of tiles, at most 4.
    """
    rows, columns = side_px
    tiles = []
    for place in range(number):
        top, left = rows * (place // 2), columns * (place % 2)
        part = grid[top : top + rows, left : left + columns]
        whole = np.zeros((rows, columns, 3), np.uint8)
        whole[: part.shape[0], : part.shape[1]] = part
        tiles.append(whole)
    return tiles
