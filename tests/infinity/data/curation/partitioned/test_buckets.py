"""Rows come back bucket by bucket, in their order, from files that are read in part."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, read_told, write_buckets


def test_a_bucket_holds_its_rows_of_all_files_in_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    uris, numbers, buckets = [], [], []
    for file in range(3):
        rows = np.arange(50) + 100 * file
        dealt = random.integers(0, 4, 50)
        uris.append(str(tmp_path / f"{file}.parquet"))
        table = pa.table({"row": rows, "text": [str(row) for row in rows]})
        write_buckets(uris[-1], table, dealt, {"rows": 50})
        numbers += rows.tolist()
        buckets += dealt.tolist()
    for bucket in range(6):  # of which two are empty
        found = read_bucket(uris, bucket)
        expected = [number for number, dealt in zip(numbers, buckets, strict=True) if dealt == bucket]
        assert found["row"].to_pylist() == expected
        assert found["text"].to_pylist() == [str(number) for number in expected]
        assert read_bucket(uris, bucket, ["text"]).column_names == ["text"]


def test_no_rows_are_a_file_too(tmp_path: Path) -> None:
    uri = str(tmp_path / "nothing.parquet")
    write_buckets(uri, pa.table({"sum": pa.array([], pa.binary(32))}), np.empty(0, np.int64), {"rows": 0})
    found = read_bucket([uri], 3)
    assert found.num_rows == 0
    assert found.schema.field("sum").type == pa.binary(32)
    assert len(by_checksum(found["sum"], 5)) == 0
    assert read_told(uri) == {"rows": 0}


def test_a_bucket_is_read_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "large.parquet")
    noise = np.random.default_rng(0).integers(0, 256, (8000, 500), dtype=np.uint8)
    table = pa.table({"noise": pa.array([row.tobytes() for row in noise], pa.binary(500))})
    write_buckets(uri, table, np.arange(8000) // 800)
    read = list[int]()
    original = storage.read_bytes

    def counted(uri: str, **place: int) -> bytes:
        data = original(uri, **place)
        read.append(len(data))
        return data

    monkeypatch.setattr(storage, "read_bytes", counted)
    assert read_bucket([uri], 4)["noise"].to_pylist() == [row.tobytes() for row in noise[3200:4000]]
    assert sum(read) < 0.4 * storage.size(uri)


def test_what_is_told_of_an_absent_file_is_nothing(tmp_path: Path) -> None:
    assert read_told(str(tmp_path / "absent.parquet")) is None


def test_equal_checksums_share_a_bucket_and_buckets_are_evenly_full() -> None:
    random = np.random.default_rng(1)
    sums = [random.bytes(32) for _ in range(4000)]
    buckets = by_checksum(pa.chunked_array([pa.array(sums, pa.binary(32)), pa.array(sums[:9], pa.binary(32))]), 8)
    assert (buckets[4000:] == buckets[:9]).all()
    assert np.bincount(buckets[:4000], minlength=8).min() > 400


def test_a_file_that_the_disk_has_changed_is_named_in_a_sentence(tmp_path: Path) -> None:
    uri, rows = str(tmp_path / "rows.parquet"), pa.table({"row": list(range(9))})
    write_buckets(uri, rows, np.arange(9) % 3, {"rows": 9})
    data = (tmp_path / "rows.parquet").read_bytes()
    for content in (data[:-9], b"", data[:40], data[:-8] + b"\xff" * 4 + b"PAR1"):
        (tmp_path / "rows.parquet").write_bytes(content)
        for read in (lambda: read_told(uri), lambda: read_bucket([uri], 1)):
            with pytest.raises(storage.StorageError, match="expected a file that this decision wrote, found a damaged"):
                read()
    pq.write_table(rows, uri)
    for read in (lambda: read_told(uri), lambda: read_bucket([uri])):
        with pytest.raises(storage.StorageError, match="delete it and run the command again"):
            read()
