"""Checksums of many rows side by side: which are equal, without an object for each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8


def as_rows(column: pa.ChunkedArray) -> UInt8[np.ndarray, "n w"]:
    """Return the values of a column of ``w`` bytes each; none of them may be null."""
    width = column.type.byte_width
    parts = [np.empty((0, width), np.uint8)]
    for piece in column.chunks:
        content = np.frombuffer(piece.buffers()[1], np.uint8, len(piece) * width, piece.offset * width)
        parts.append(content.reshape(-1, width))
    return np.concatenate(parts)


def equal_codes(rows: UInt8[np.ndarray, "n w"]) -> Int[np.ndarray, " n"]:
    """Return a number for each row, from 0 on without gaps, equal for equal rows."""
    return np.asarray(np.unique(as_values(rows), return_inverse=True)[1], np.int64)


def earlier_equals(rows: UInt8[np.ndarray, "n w"]) -> Int[np.ndarray, " n"]:
    """Return how many of the rows before each one are equal to it."""
    codes = equal_codes(rows)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    found = np.empty(len(codes), np.int64)
    found[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    return found


def as_values(rows: UInt8[np.ndarray, "n w"]) -> np.ndarray:
    """Return each row as one value that numpy compares and sorts as a whole."""
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
