"""Read forms (multipart/form-data, RFC 7578) strictly, in time and memory that grow with their bytes alone.

Python's parser of mail is not for strangers: it follows forms within forms until its stack ends, and takes half a
minute for a body of empty lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_PARTS = 64
MAX_HEAD_BYTES = 8192
"""Most bytes before the content of a part."""
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))', re.IGNORECASE | re.ASCII)
_DISPOSITION = re.compile(r"content-disposition:\s*form-data\s*(;.*)", re.IGNORECASE | re.ASCII)
_ENCODING = re.compile(r"content-transfer-encoding:\s*(\S+)", re.IGNORECASE | re.ASCII)
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.ASCII)


def is_form(content_type: str) -> bool:
    """Return whether a content type is that of a form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def read_form(body: bytes, content_type: str) -> Sequence[tuple[str, bytes]]:
    """Return the parts of a form in order: their names and contents.

    Args:
        content_type: Value of the header, which names the boundary.

    Raises:
        ValueError: The form is cut off or damaged, has too many parts, or one has no name.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ValueError("expected a content type that names the boundary of the form")
    mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
    _, *pieces = (b"\r\n" + body).split(mark, MAX_PARTS + 2)
    if not pieces:
        raise ValueError("expected a form with the boundary that the content type names, found none")
    *parts, end = pieces
    if len(parts) > MAX_PARTS:
        raise ValueError(f"expected at most {MAX_PARTS} parts of the form")
    if not end.startswith(b"--"):
        raise ValueError("the form ends before its last boundary")
    return [_part(part) for part in parts]


def _part(piece: bytes) -> tuple[str, bytes]:
    """Split a part, which begins behind its boundary, into its name and content."""
    end = piece.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if not piece.startswith(b"\r\n") or end < 0:
        raise ValueError("expected every part of the form to have headers, an empty line and content")
    try:
        lines = piece[2:end].decode().split("\r\n") if end else []
    except UnicodeDecodeError:
        raise ValueError("expected names of the form's parts in UTF-8") from None
    about = next((match[1] for line in lines if (match := _DISPOSITION.fullmatch(line))), "")
    names = [quoted or plain for name, quoted, plain in _PARAMETER.findall(about) if name.lower() == "name"]
    if len(names) != 1 or not names[0]:
        raise ValueError("expected every part of the form to have a name")
    for line in lines:
        encoding = _ENCODING.match(line)
        if encoding is not None and encoding[1].lower() not in ("binary", "8bit", "7bit"):
            raise ValueError("expected parts of the form as they are, found a content-transfer-encoding")
    return names[0], piece[end + 4 :]
