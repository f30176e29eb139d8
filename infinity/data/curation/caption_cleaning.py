"""Captions as people have them: invisible marks that are removed and counted, and texts that describe nothing.

Byte order marks, zero-width characters, marks of direction, fillers, tags and control characters are left over from
files and web pages. NUL and halves of surrogate pairs are not repaired: such a text was damaged, and nobody knows how
much.
"""

from __future__ import annotations

import re
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from infinity.data.curation.filters import Nonsense, clean_caption

_TAGS = "(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+"  # behind a black flag, they name a country
# fillers, but not those inside Korean syllables
_FILLERS = "\u034f|\u115f\u1160(?![\u11a8-\u11ff])|\u115f(?![\u1160-\u11ff])|(?<![\u1100-\u115f])\u1160"
_BLANK = "\u2800"  # a Braille cell without dots, which has a width
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufeff\uffa0\ufff9-\ufffc]|"
    + f"{_FILLERS}|{_BLANK}|{_TAGS}"
)
_CONTROL = re.compile("[\x01-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_MARKS = {"invisible_marks": _INVISIBLE, "control_characters": _CONTROL}
_EITHER = r"[\x{ad}\x{61c}\x{180e}\x{200b}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{3164}\x{feff}]"
_EITHER += r"|[\x{34f}\x{115f}\x{1160}\x{2800}\x{ffa0}\x{fff9}-\x{fffc}\x{e0000}-\x{e007f}]"
_EITHER += r"|[\x01-\x08\x0e-\x1f\x7f-\x84\x{86}-\x{9f}]"
_COLUMNS = ("caption", "caption_long", "caption_short")

_WORDS = r"nan|null|none|n/a|na|nil|undefined|unknown|untitled|image|picture|photo|img|caption|alt|text|todo|tbd"
_BLANKS = rf"[\[({{<%$]+\|?\s*(?:{_WORDS}|name|filewords|title|prompt|subject|endoftext|description)\s*\|?[\])}}>%]*"
_PLACEHOLDER = re.compile(
    rf"{_WORDS}|{_BLANKS}|lorem ipsum\b.*|\[?(?:removed|deleted|no caption|no title)\]?|[-_.,:;?!*#~=+/\\|…–—]+"
)
_ENDING = r"\.(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|hei[cf]|avif|psd|raw|cr2|nef)"
_CAMERA = r"(?:(?:fb_)?img|dsc[nf]?|_mg|pxl|mvimg|screenshot)[-_ ]?\d[\w-]*|(?:photo|received|signal)[-_]\d[\w-]*"
_CAMERA += r"|(?:whatsapp image|screen ?shot) \d{4}-\d\d-\d\d(?: at \d\d?\.\d\d(?:\.\d\d)?(?:\s?[ap]m)?)?"
_CAMERA += r"|\d{8}[-_]\d{6,9}|\d{5,}_\d{5,}(?:_\d{5,})?_[a-z]"  # by time; as Facebook names them
_FILE_NAME = re.compile(rf"\S+{_ENDING}|(?:{_CAMERA})(?: ?\(\d+\)| copy)?(?:{_ENDING})?", re.IGNORECASE)
_ENTITIES = re.compile(r"&(?:#\d{2,6}|#x[0-9a-f]{2,6}|[a-z]{2,8}\d?);", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)


def without_marks(facts: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Return facts whose captions have no invisible marks and no control characters, and how many captions had some.

    Args:
        facts: Columns of ``FACTS``; captions are cleaned as all are.
    """
    counts: Counter[str] = Counter()
    for name in _COLUMNS:
        chunks = [_cleaned_chunk(chunk, name, counts) for chunk in facts[name].chunks]
        column = pa.chunked_array(chunks, pa.string())
        facts = facts.set_column(facts.schema.get_field_index(name), facts.schema.field(name), column)
    return facts, dict(sorted(counts.items()))


def _cleaned_chunk(texts: pa.Array, name: str, counts: Counter[str]) -> pa.Array:
    mask = pc.fill_null(pc.match_substring_regex(texts, _EITHER), False)
    if not pc.any(mask).as_py():
        return texts
    new = [_cleaned(text, name, counts) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(new, pa.string()))


def _cleaned(text: str, name: str, counts: Counter[str]) -> str:
    if name == "caption":
        counts.update(kind for kind, marks in _MARKS.items() if marks.search(text))
    return without_invisible(text)


def without_invisible(text: str) -> str:
    """Return a caption without invisible marks and control characters, cleaned as all captions."""
    return clean_caption(_CONTROL.sub(" ", _INVISIBLE.sub("", text.replace(_BLANK, " "))))


def is_nonsense(caption: str, kind: Nonsense) -> bool:
    """Return whether a cleaned caption describes nothing.

    Example:
        >>> is_nonsense("NaN", "placeholder"), is_nonsense("IMG_2034.JPG", "file_name"), is_nonsense("a", "entities")
        (True, True, False)
    """
    if kind == "placeholder":
        return _PLACEHOLDER.fullmatch(caption.casefold()) is not None
    if kind == "file_name":
        return _FILE_NAME.fullmatch(caption) is not None
    return (_ENTITIES if kind == "entities" else _MARKUP).search(caption) is not None
