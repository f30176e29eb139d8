"""Words of a text, as captions are compared."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared: compatibility forms and case folded, punctuation gone."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
