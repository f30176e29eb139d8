"""Decisions in partitions are those of one process, whatever their number and wherever they were stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infinity.data.curation import facts as facts_files
from infinity.data.curation.decisions import Decisions, decide
from infinity.data.curation.facts import SMALL_FACTS
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.workspace import Chunk
from infinity.data.curation.takedown import TakedownList, split_taken_down
from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.partitioned import PartitionedDecisions, chunks_of, decide_partitioned
from infinity.jobs.progress import silent
from tests.infinity.data.dedup.test_duplicates import planted

ALL = FilterConfig(near_duplicates=NearDuplicates(), caption_duplicates=CaptionDuplicates(), min_contrast=None)


def rows_of(count: int) -> pa.Table:
    """Drawings and copies of them; besides, files that come twice, others' captions, and rows that no rule keeps."""
    facts = planted(count).to_pylist()
    random = np.random.default_rng(count)
    for row in range(0, count, 7):
        twin = facts[int(random.integers(count))]
        facts[row] = twin | {"row": row, "name": f"again {row} {twin['name']}", "num_bytes": 900 + row % 3}
    for row in range(3, count, 11):
        facts[row] |= {"caption": "" if row % 2 else "a", "detail": None}
    for row in range(5, count, 13):
        facts[row] = {"row": row, "name": f"bad {row}", "caption": "x y", "problem": "truncated", "detail": "short"}
    return pa.Table.from_pylist(facts, schema=facts_files.FACTS)


def stored(facts: pa.Table, folder: Path, slice_rows: int = 48, chunk_rows: int = 150) -> tuple[Chunk, ...]:
    """Write facts as a source's slices are, and return the chunks of them."""
    files = []
    for start in range(0, facts.num_rows, slice_rows):
        piece = facts.slice(start, slice_rows)
        path = folder / "facts" / f"{start:012d}.parquet"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(facts_files.to_bytes(piece))
        files.append((str(path), 0, start, piece.num_rows))
    return chunks_of(files, chunk_rows)


def in_one(facts: pa.Table, filters: FilterConfig, takedown: TakedownList = TakedownList()) -> Decisions:  # noqa: B008
    left, taken = split_taken_down(facts, takedown)
    thumbnails = dict(zip(left["row"].to_pylist(), left["thumbnail"].to_pylist(), strict=True))

    def get(rows: Any) -> Any:
        return np.array([np.frombuffer(thumbnails[row], np.uint8).reshape(32, 32, 3) for row in rows.tolist()])

    found = decide(left.select(SMALL_FACTS), filters, None, get)
    return Decisions(
        kept=found.kept,
        dropped=found.dropped,
        tally=taken + found.tally,
        rules=found.rules,
        histograms=found.histograms,
        cleaned=found.cleaned,
    )


def assert_same(found: PartitionedDecisions, expected: Decisions) -> None:
    kept, dropped = read_bucket(found.kept), read_bucket(found.dropped)
    assert dropped.to_pylist() == expected.dropped.to_pylist()
    assert kept.to_pylist() == expected.kept.to_pylist()
    counts = found.counts
    assert counts.tally == expected.tally
    assert counts.rules == expected.rules
    assert counts.histograms == expected.histograms
    assert counts.cleaned == expected.cleaned
    assert counts.kept == kept.num_rows


@pytest.fixture(scope="module")
def facts(exhaustive: bool) -> pa.Table:
    return rows_of(20_000 if exhaustive else 400)


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_partitions_give_the_fates_of_one_process(facts: pa.Table, partitions: int, tmp_path: Path) -> None:
    chunks = stored(facts, tmp_path, *((48, 150) if facts.num_rows < 1000 else (512, 4096)))
    with in_process():
        found = decide_partitioned(chunks, ALL, TakedownList(), str(tmp_path), silent, partitions=partitions)
    expected = in_one(facts, ALL)
    reasons = expected.tally.dropped
    assert reasons["duplicate"] > 5
    assert reasons["near_duplicate"] > 20
    assert_same(found, expected)
