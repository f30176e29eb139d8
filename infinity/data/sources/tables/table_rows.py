"""Rows of text tables (JSON lines, CSV), read in pieces: no row and no file is too long for memory.

A row ends at a line feed; in CSV, at one outside of quotes. A CSV row whose quotes never close within ``MAX_ROW_BYTES``
is taken as its first line alone, which is then malformed, so that one stray quote does not swallow a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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

    def quotes(self, chunk: bytes, start: int, end: int) -> int:
        """Return the number of double quotes."""
        if self.width == 1:
            return chunk.count(b'"', start, end)
        return chunk[start:end].decode(self.name, "replace").count('"')

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


def lines(uri: str, start: int, length: int | None) -> Iterator[TextRow]:
    """Yield the lines of ``length`` bytes from ``start``, or of all from there."""
    for row, _ in _lines(uri, start, length):
        yield row


def quoted_rows(uri: str, start: int, length: int | None) -> Iterator[TextRow]:
    """Yield the same for CSV, where a row may go on over line ends inside of quotes."""
    position, end = start, None if length is None else start + length
    while True:
        parts: list[TextRow] = []
        is_open, restart = False, None
        for line, num_quotes in _lines(uri, position, None if end is None else end - position):
            parts.append(line)
            is_open ^= bool(num_quotes % 2)
            if is_open and line.start + line.num_bytes - parts[0].start <= MAX_ROW_BYTES:
                continue
            if is_open and len(parts) > 1:
                restart = parts[0].start + parts[0].num_bytes
                break
            yield _joined(parts)
            parts, is_open = [], False
        if restart is None and len(parts) > 1:
            restart = parts[0].start + parts[0].num_bytes
        if parts:
            yield parts[0]
        if restart is None:
            return
        position = restart


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


def _lines(uri: str, start: int, length: int | None) -> Iterator[tuple[TextRow, int]]:
    """Yield lines in UTF-8, and how many double quotes each has."""
    name = encoding_of(storage.read_bytes(uri, start=0, length=LONGEST_MARK))
    kind = _Encoding(name, "\n".encode(name))
    position, begin = start, start
    end = None if length is None else start + length
    held, size, quotes = bytearray(), 0, 0
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
            quotes += kind.quotes(chunk, at, piece_end)
            after = piece_end + (kind.width if stop >= 0 else 0)
            size, at = size + after - at, after
            if stop >= 0:
                yield TextRow(begin, size, kind.as_utf8(held)), quotes
                begin += size
                held.clear()
                size = quotes = 0
    if size:
        yield TextRow(begin, size, kind.as_utf8(held)), quotes
