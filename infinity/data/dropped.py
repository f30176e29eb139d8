"""The rows that a data set does not hold, each with its reason, beside the manifest; a few with a small picture."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DROPPED_FILE = "dropped.parquet"
SHOWN = 24
"""How many rows of each reason keep their small picture."""


def dropped_file(dropped: pa.Table, facts: pa.Table) -> bytes:
    """A Parquet file of all dropped rows.

    Args:
        dropped: ``row``, ``name``, ``reason`` and ``detail``.
        facts: Facts of all rows; their column ``thumbnail`` is taken for the first few rows of each reason.
    """
    shown: list[int] = []
    for reason in pc.unique(dropped["reason"]).to_pylist():
        shown += dropped.filter(pc.equal(dropped["reason"], reason))["row"].slice(0, SHOWN).to_pylist()
    chosen = facts.filter(pc.is_in(facts["row"], pa.array(shown, pa.int64()))).select(["row", "thumbnail"])
    pictures = dict(zip(chosen["row"].to_pylist(), chosen["thumbnail"].to_pylist(), strict=True))
    column = pa.array([pictures.get(row) for row in dropped["row"].to_pylist()], pa.binary())
    buffer = io.BytesIO()
    pq.write_table(dropped.append_column("thumbnail", column), buffer, compression="zstd", write_statistics=False)
    return buffer.getvalue()
