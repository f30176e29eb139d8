"""Numbers about captions that rules judge: lengths, letters, repetition, script and language."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from infinity.data.dedup.words import LONE_IDEOGRAPH, WITHOUT_BLANKS, words

CAPTION_SCORES = (
    "caption_chars",
    "caption_words",
    "caption_letters",
    "caption_char_run",
    "caption_word_repeats",
    "caption_script",
    "caption_english",
)

_RUN = re.compile(r"(.)\1*", re.DOTALL)
_ENGLISH = frozenset(
    re.findall(
        "[a-z]+",
        "a an the of in on at with and or to for from by is are was were be been being it its this that these those "
        "there has have had as into over under near his her their which who while two three one some other another up "
        "out no not he she they you we i",
    )
)


def caption_scores(captions: Iterable[str], script: str) -> dict[str, Float[np.ndarray, " n"]]:
    """Return the scores of cleaned captions, one array per name.

    ``caption_chars`` and ``caption_words`` count. In scripts that write no blanks between words (Han, kana, Thai, Lao,
    Khmer, Burmese, Tibetan) words are estimated from the characters, and a lone ideograph counts as two characters: it
    is a word. ``caption_letters`` is the share of letters among all that is neither blank nor a mark of a letter.
    ``caption_char_run`` is the longest run of one character that is no digit. ``caption_word_repeats`` is the share of
    words that are the caption's commonest word, less one occurrence: 0 where no word comes twice. ``caption_script`` is
    the share of letters that belong to ``script``; 1 where there are no letters. ``caption_english`` is the share of
    words that are among the commonest function words of English: running text has 0.3 to 0.5, lists of keywords and
    other languages about 0.

    Args:
        script: First word of the Unicode names of the script's letters, for example ``LATIN``.
    """
    kind = np.dtype((np.float64, len(CAPTION_SCORES)))
    values = np.fromiter((_scores(caption, script) for caption in captions), kind)
    return dict(zip(CAPTION_SCORES, values.T, strict=True))


def is_damaged(caption: str) -> bool:
    """Return whether a caption holds NUL, another control character or half a surrogate pair."""
    return any(unicodedata.category(char) in ("Cc", "Cs") for char in caption)


def _scores(caption: str, script: str) -> tuple[float, ...]:
    found = words(caption)
    solid = [char for char in caption if not char.isspace() and not unicodedata.category(char).startswith("M")]
    letters = [char for char in solid if char.isalpha()]
    commonest = max(Counter(found).values(), default=0)
    return (
        len(caption) + bool(LONE_IDEOGRAPH.fullmatch(caption)),
        _num_words(caption, found),
        len(letters) / len(solid) if solid else 0.0,
        max((len(match[0]) for match in _RUN.finditer(caption) if not match[1].isdigit()), default=0),
        (commonest - 1) / len(found) if found else 0.0,
        sum(_script(char) == script for char in letters) / len(letters) if letters else 1.0,
        sum(word in _ENGLISH for word in found) / len(found) if found else 0.0,
    )


def _num_words(caption: str, found: list[str]) -> int:
    """Return the number of words between blanks; an estimate for scripts without blanks."""
    number, rest = 0, caption
    for runs, chars in WITHOUT_BLANKS:
        number += sum(-(-len(run[0]) // chars) for run in runs.finditer(rest))
        rest = runs.sub(" ", rest)
    return len(found) if not number else number + len(words(rest))


@lru_cache(maxsize=65536)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0]
