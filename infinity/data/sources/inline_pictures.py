"""Pictures that a table holds as text: base64, alone or in a ``data:`` address."""

from __future__ import annotations

import base64
import binascii
import re

_DATA = re.compile(r"data:image/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_STARTS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK", "AAAA")
"""How JPEG, PNG, GIF, WebP, BMP, TIFF and formats in boxes (AVIF, JPEG 2000) begin in base64."""

_SHORTEST = 64
"""Shorter texts are names of files."""


def picture_in_text(text: str) -> bytes | None:
    """Return the bytes of a picture that is written as text; None for the name of a file.

    Example:
        >>> picture_in_text("data:image/png;base64,iVBORw0KGgo=")
        b'\\x89PNG\\r\\n\\x1a\\n'
        >>> picture_in_text("cats/1.png") is None
        True
    """
    if (match := _DATA.match(text)) is None and (len(text) < _SHORTEST or not text.startswith(_STARTS)):
        return None
    try:
        return base64.b64decode("".join(text[match.end() if match else 0 :].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
