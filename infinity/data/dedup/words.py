"""Words of a text, as captions are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

WITHOUT_BLANKS = (
    (re.compile(f"[{_IDEOGRAPHS}\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]+"), 2),
    (re.compile("[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\uaa7f]+"), 5),
)
"""Scripts that write no blanks between words (Han and kana; Thai, Lao, Tibetan, Burmese, Khmer), with their marks, and
how many characters a word has about."""

_WITH_MARKS = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
"""Code points among which all marks lie."""

_PLAIN = re.compile(r"\w+")  # without marks, many times as fast
LONE_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared: compatibility forms and case folded, punctuation gone.

    Marks belong to the letters before them: in many scripts they are the vowels.

    Example:
        >>> words("A Red-Car!"), words("लाल कार")
        (['a', 'red', 'car'], ['लाल', 'कार'])
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return (_PLAIN if plain.isascii() else _with_marks()).findall(plain)


def units(text: str) -> tuple[list[str], int]:
    """Return what sequences of a text are made of, and how many of these a word has about.

    That is its words, and a word has one; of a text that is mostly in a script without blanks, each character.

    Example:
        >>> units("a red car"), units("一只猫")
        ((['a', 'red', 'car'], 1), (['一', '只', '猫'], 2))
    """
    found = words(text)
    whole = "".join(found)
    if whole.isascii():
        return found, 1
    lengths = [(sum(len(run[0]) for run in runs.finditer(whole)), chars) for runs, chars in WITHOUT_BLANKS]
    length, chars = max(lengths)
    if 2 * length <= len(whole):
        return found, 1
    return [char for word in found for char in word], chars


@cache
def _with_marks() -> re.Pattern[str]:
    marks = (chr(code) for code in _WITH_MARKS if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(f"\\w+(?:[{''.join(marks)}]+\\w*)*")
