"""Scores of read words against wanted words: word accuracy, and a normalised edit distance."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_QUOTED = re.compile(
    r"“([^”]*)”|\"([^\"]*)\"|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)|‘((?:[^’]|(?<=\w)’(?=\w))*)’"
    r"|「([^」]*)」|『([^』]*)』|„([^“”]*)[“”]|«([^»]*)»|＂([^＂]*)＂"
)
"""Texts in quotation marks of several languages; an apostrophe between two letters ends none."""
_EDGES = re.compile(r"^[^\w]+|[^\w]+$")
_WITHOUT_BLANKS = re.compile(
    r"([\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
"""Characters of scripts that put no blanks between words (Han and kana): each counts as a word."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """How well the words of one picture were drawn.

    Attributes:
        accuracy: Share of the wanted words that are read exactly; each read word counts once.
        edit_distance: Normalised edit distance of wanted and read words, 0 (equal) to 1.
        exact: Whether exactly the wanted words are read, in any order.
    """

    accuracy: float
    edit_distance: float
    exact: bool


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without punctuation at their ends; of Han and kana, the characters.

    Example:
        >>> words_of("Grand OPENING, today!"), words_of("你好,world")
        (('grand', 'opening', 'today'), ('你', '好', 'world'))
    """
    plain = _WITHOUT_BLANKS.sub(r" \1 ", unicodedata.normalize("NFKC", text).lower())
    return tuple(word for part in plain.split() if (word := _EDGES.sub("", part)))


def quoted(prompt: str) -> tuple[str, ...]:
    """Return the texts within quotation marks of a prompt.

    Example:
        >>> quoted('a sign that says "Open" and a cup with "hot tea"')
        ('Open', 'hot tea')
    """
    return tuple(text for match in _QUOTED.findall(prompt) if (text := "".join(match).strip()))


def text_score(wanted: Sequence[str], read: Sequence[str]) -> TextScore:
    """Return the scores of one picture.

    Example:
        >>> text_score(["open", "today"], ["opan"])
        TextScore(accuracy=0.0, edit_distance=0.625, exact=False)

    Args:
        wanted: Wanted words, at least one.

    Raises:
        ValueError: No wanted word.
    """
    if not wanted:
        raise ValueError("expected at least one wanted word, got none")
    right = sum((Counter(wanted) & Counter(read)).values())
    return TextScore(right / len(wanted), edit_distance(wanted, read), Counter(wanted) == Counter(read))


def edit_distance(wanted: Sequence[str], read: Sequence[str]) -> float:
    """Return the normalised edit distance of two lists of words, as TIIF-Bench (arXiv:2506.02161) defines GNED.

    Words are assigned to each other so that the sum of their distances is smallest; a word without partner costs 1. The
    sum is divided by the number of words of the longer list.
    """
    if not wanted and not read:
        return 0.0
    from scipy.optimize import linear_sum_assignment  # slow to import, and most processes score no words

    costs = np.array([[_normalised(a, b) for b in read] for a in wanted]).reshape(len(wanted), len(read))
    rows, columns = linear_sum_assignment(costs)
    total = float(costs[rows, columns].sum()) + abs(len(wanted) - len(read))
    return total / max(len(wanted), len(read))


def _normalised(a: str, b: str) -> float:
    """Return Levenshtein's distance over the length of the longer word."""
    before = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right)))
        before = row
    return before[-1] / max(len(a), len(b))
