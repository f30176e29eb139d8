"""Rows of text tables (JSON lines, CSV), read in pieces: no row and no file is too long for memory.

A row ends at a line feed; in CSV, at one outside of a cell in quotes. Quotes count where a cell begins with one: those
within a cell are inches and quotations. A CSV row whose quotes never close within ``MAX_ROW_BYTES``, or close within a
cell, is taken as its first line alone, which is then malformed, so that no stray quote swallows other rows.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from infinity import storage
from infinity.data.sources.encodings import LONGEST_MARK, encoding_of

MAX_ROW_BYTES = 2**20
"""Longer rows are malformed; only their beginning is kept in memory."""

_CHUNK_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How a table is written: the name of its encoding, and the line feed in it."""

    name: str
    mark: bytes

    @property
    def width(self) -> int:
        return len(self.mark)

    def end_of_line(self, chunk: bytes, at: int) -> int:
        """Return the place of the next line feed in a chunk that begins with a whole character; -1 if there is none."""
        stop = chunk.find(self.mark, at)
        while stop >= 0 and stop % len(self.mark):
            stop = chunk.find(self.mark, stop + 1)
        return stop

    def as_utf8(self, content: bytearray) -> bytes:
        """Return content in UTF-8; what is no text in its encoding is none in UTF-8 either."""
        if self.width == 1:
            return bytes(content)
        whole = content[: len(content) // self.width * self.width]
        text = whole.decode(self.name, "surrogatepass").encode("utf-8", "surrogatepass")
        return text if len(whole) == len(content) else text + b"\xff"


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row: where it begins, how long it is with its line end, and its content, at most ``MAX_ROW_BYTES`` of it."""

    start: int
    num_bytes: int
    content: bytes

    @property
    def is_whole(self) -> bool:
        """True where the content is all of the row."""
        return self.num_bytes <= MAX_ROW_BYTES

    @property
    def is_blank(self) -> bool:
        """True where the row holds nothing but white space."""
        return not self.content.strip()


@dataclass(frozen=True, slots=True)
class Span:
    """Rows that make a slice: ``num_bytes`` from ``start``, the first with number ``row``."""

    start: int
    num_bytes: int
    row: int


Rows = Callable[[str, int, int | None], Iterator[TextRow]]


def quoted_rows(uri: str, start: int, length: int | None, delimiters: str = ",;\t|") -> Iterator[TextRow]:
    """Yield the rows of CSV, which may go on over line ends inside of a cell in quotes; see ``lines``.

    No line is looked at more than twice, however many quotes never close.

    Args:
        start: Offset of a row.
        length: Bytes from there; None for all.
        delimiters: Characters between cells.
    """
    quotes = _Quotes(delimiters)
    source, held = lines(uri, start, length), deque[TextRow]()
    known = size = 0  # lines of ``held`` and their bytes, of which all but the first leave an open cell open
    while True:
        if not held:
            if (line := next(source, None)) is None:
                return
            held.append(line)
        known, size = (known, size) if known else (1, held[0].num_bytes)
        number, state = 1, quotes.after(held[0].content, is_open=False)
        while state == "open" and size <= MAX_ROW_BYTES:
            # A further line that is held already was found broken before.
            if known < len(held) or (line := next(source, None)) is None:
                break
            held.append(line)
            state = quotes.after(line.content, is_open=True)
            if state != "broken":
                known, size = known + 1, size + line.num_bytes
            number = known if state == "closed" else 1
        parts = [held.popleft() for _ in range(number)]
        known, size = known - number, size - sum(part.num_bytes for part in parts)
        yield _joined(parts)


class _Quotes:
    """Whether a cell in quotes goes on behind a line."""

    def __init__(self, delimiters: str) -> None:
        marks = re.escape(delimiters.encode())
        self._begin = re.compile(rb'(?:^(?:\xef\xbb\xbf)?|[%b]) *"' % marks)
        self._end = re.compile(rb'"(?:"|[ \r]*(?:$|[%b])|)' % marks)

    def after(self, line: bytes, *, is_open: bool) -> Literal["open", "closed", "broken"]:
        """Return "broken" where a cell goes on behind its closing quote."""
        at = 0
        while True:
            if not is_open:
                if (begin := self._begin.search(line, at)) is None:
                    return "closed"
                at = begin.end()
            while (end := self._end.search(line, at)) is not None and end[0] == b'""':
                at = end.end()
            if end is None:
                return "open"
            if end[0] == b'"' and end.end() < len(line):
                return "broken"
            at, is_open = end.start() + 1, False


def cut(uri: str, rows: Rows, start: int, rows_per_slice: int) -> tuple[list[Span], int]:
    """Cut a table at row ends into slices of equally many rows that are not blank; return slices and number of rows."""
    spans: list[Span] = []
    begin, first, row, filled, end = start, 0, 0, 0, start
    for text in rows(uri, start, None):
        row, end = row + 1, text.start + text.num_bytes
        filled += not text.is_blank
        if filled == rows_per_slice:
            spans.append(Span(begin, end - begin, first))
            begin, first, filled = end, row, 0
    if filled:
        spans.append(Span(begin, end - begin, first))
    return spans, row


def _joined(parts: list[TextRow]) -> TextRow:
    content = b"\n".join(part.content for part in parts)[:MAX_ROW_BYTES]
    return TextRow(parts[0].start, sum(part.num_bytes for part in parts), content)


def lines(uri: str, start: int, length: int | None) -> Iterator[TextRow]:
    """Yield the lines of ``length`` bytes from ``start``, or of all from there, in UTF-8."""
    name = encoding_of(storage.read_bytes(uri, start=0, length=LONGEST_MARK))
    kind = _Encoding(name, "\n".encode(name))
    position, begin = start, start
    end = None if length is None else start + length
    held, size = bytearray(), 0
    while end is None or position < end:
        wanted = _CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - position)
        chunk = storage.read_bytes(uri, start=position, length=wanted)
        if not chunk:
            break
        position += len(chunk)
        at = 0
        while at < len(chunk):
            stop = kind.end_of_line(chunk, at)
            piece_end = len(chunk) if stop < 0 else stop
            held += chunk[at : min(piece_end, at + MAX_ROW_BYTES - len(held))]
            after = piece_end + (kind.width if stop >= 0 else 0)
            size, at = size + after - at, after
            if stop >= 0:
                yield TextRow(begin, size, kind.as_utf8(held))
                begin += size
                held.clear()
                size = 0
    if size:
        yield TextRow(begin, size, kind.as_utf8(held))
