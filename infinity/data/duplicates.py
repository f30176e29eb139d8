"""Which pictures repeat another one, and which of them stays.

The survivor is chosen by content, never by who came first: rows are taken in an order of preference, and a row is
dropped if it repeats one that stays. So every dropped row repeats a survivor itself, no chain of likenesses joins what
is not alike, and neither the order nor the partition of the source matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int


@dataclass(frozen=True, slots=True)
class Match:
    """The row at ``index`` is dropped because of something that stays, which ``detail`` names."""

    index: int
    detail: str


def preference(rows: pa.Table) -> Int[np.ndarray, " n"]:
    """Indices of rows from the one that is kept rather to the one that is dropped rather.

    More pixels first, then more bytes (less was lost in encoding), then the longer caption; then by checksum, caption
    and name, which decide between what is equally good. Only rows that are equal in all of this go by their number.
    """
    columns = {
        name: rows[name].to_pylist()
        for name in ("width_px", "height_px", "num_bytes", "content", "caption", "name", "row")
    }
    keys = [
        (-width * height, -num_bytes, -len(caption), content, caption, name, row)
        for width, height, num_bytes, content, caption, name, row in zip(*columns.values(), strict=True)
    ]
    return np.array(sorted(range(rows.num_rows), key=keys.__getitem__), np.int64)


def exact_duplicates(rows: pa.Table, duplicates: str) -> list[Match]:
    """All but the preferred one of rows with the same pixels, as ``FilterConfig.duplicates`` defines them."""
    if duplicates == "keep":
        return []
    pixels, captions = rows["pixels"].to_pylist(), rows["caption"].to_pylist()
    names = rows["name"]
    first: dict[tuple[bytes, str], int] = {}
    matches = []
    for index in preference(rows).tolist():
        key = (pixels[index], captions[index] if duplicates == "picture_and_caption" else "")
        if (original := first.setdefault(key, index)) != index:
            matches.append(Match(index, f"same as {names[original].as_py()}"))
    return matches
