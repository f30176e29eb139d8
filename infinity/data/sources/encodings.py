"""The encoding of a text by its first bytes: UTF-8, or UTF-16 and UTF-32 as office programs write them.

A text of pictures begins with a letter, a bracket or a quote, so that in UTF-16 without a mark one of its first two
bytes is zero. No text in UTF-8 begins so.
"""

from __future__ import annotations

import codecs

_MARKED = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_MARK = 4


def encoding_of(start: bytes) -> str:
    """Return the encoding of a text: "utf-8", "utf-16-le", "utf-16-be", "utf-32-le" or "utf-32-be".

    Args:
        start: The text, or at least its first four bytes.

    Example:
        >>> encoding_of("a cat".encode("utf-16-le")), encoding_of(b"a cat")
        ('utf-16-le', 'utf-8')
    """
    marked = next((name for mark, name in _MARKED if start.startswith(mark)), "")
    if marked or len(start) < 2:
        return marked or "utf-8"
    low, high = start[0] == 0, start[1] == 0
    return "utf-8" if low == high else "utf-16-be" if low else "utf-16-le"


def decoded(data: bytes, errors: str = "strict") -> str:
    """Return a text without its byte order mark.

    Args:
        errors: Treatment of bytes that are no text, as of ``bytes.decode``.

    Raises:
        UnicodeDecodeError: The bytes are no text in the encoding that they begin with.
    """
    return data.decode(encoding_of(data), errors).removeprefix("\ufeff")


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return what is wrong with a text, and what to do.

    Example:
        >>> try:
        ...     "schön".encode("cp1252").decode()
        ... except UnicodeDecodeError as error:
        ...     print(not_utf8(error))
        not UTF-8: byte 0xf6 at 3; save it as UTF-8
    """
    return f"not {error.encoding.upper()}: byte {error.object[error.start]:#x} at {error.start}; save it as UTF-8"
