"""The first pass: one row of facts a record, whatever is wrong with it, and the same numbers for the same picture."""

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from infinity.data.curation.facts import FACTS, FactsError, from_bytes, measure_slice, to_bytes
from infinity.data.curation.filters import FilterConfig
from infinity.data.sources.opening import open_source
from tests.fixtures.data.pictures_on_disk import good_folder, huge_png, image_folder
from tests.infinity.data.sources.test_checking import bad_folder

LIMIT = FilterConfig().max_pixels


def test_every_record_has_a_row_and_unreadable_ones_their_reason(tmp_path: Path) -> None:
    (piece,) = open_source(str(bad_folder(tmp_path))).slices
    measured = measure_slice(piece, LIMIT)
    assert measured.facts.schema == FACTS
    problems = dict(zip(measured.facts["name"].to_pylist(), measured.facts["problem"].to_pylist(), strict=True))
    assert len(problems) == 13
    assert {name: problem for name, problem in problems.items() if problem} == {
        "truncated.jpg": "truncated",
        "corrupt.png": "corrupt",
        "huge.png": "too_many_pixels",
        "text.jpg": "not_a_picture",
        "empty.png": "empty_file",
        "missing.png": "missing_file",
        "nul\\x00.png": "not_accessible",
    }
    assert measured.quarantine["reason"].to_pylist() == [problem for problem in problems.values() if problem]
    filled = measured.facts["phash"].is_valid().to_pylist()
    assert filled == [problem is None for problem in problems.values()]


def test_half_a_surrogate_pair_reaches_the_rule_on_damaged_captions(tmp_path: Path) -> None:
    folder = good_folder(tmp_path, 1)
    (folder / "metadata.jsonl").write_text('{"file_name": "images/000.png", "text": "half \\ud83d of a pair"}\n')
    (piece,) = open_source(str(folder)).slices
    assert measure_slice(piece, LIMIT).facts["caption"].to_pylist() == ["half \0 of a pair"]


def test_huge_picture_costs_no_memory(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"huge.png": huge_png()}, [{"file_name": "huge.png", "text": "huge"}])
    (piece,) = open_source(str(folder)).slices
    tracemalloc.start()
    try:
        assert measure_slice(piece, LIMIT).facts["problem"].to_pylist() == ["too_many_pixels"]
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_facts_are_the_same_bytes_each_time_and_come_back(tmp_path: Path) -> None:
    (piece,) = open_source(str(good_folder(tmp_path))).slices
    once, again = (to_bytes(measure_slice(piece, LIMIT).facts) for _ in range(2))
    assert once == again
    assert from_bytes(once, "x").equals(measure_slice(piece, LIMIT).facts)


def test_facts_of_another_version_and_other_files_are_refused() -> None:
    with pytest.raises(FactsError, match="expected a Parquet file of facts"):
        from_bytes(b"no table", "x.parquet")
    import io

    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([], schema=FACTS), buffer)
    with pytest.raises(FactsError, match=r"expected facts of version \d+, found none"):
        from_bytes(buffer.getvalue(), "x.parquet")
