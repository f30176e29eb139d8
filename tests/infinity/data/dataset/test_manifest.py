"""A manifest comes back as it was saved, or says what is wrong with it."""

import io
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity import storage
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.dataset.manifest_head import ManifestHead, ShardInfo
from infinity.data.dataset.manifest_rows import SCHEMA
from infinity.data.dataset.parquet_columns import ParquetColumns
from infinity.data.loading.batches import BatchPlan
from infinity.data.loading.stored import ReadingConfig, StoredPictures
from infinity.storage import FileAlreadyThereError, FileMissingError


def manifest(
    uri: str, ratios: tuple[float, ...] = (1.0, 1.0, 1.5, 1.5, 1.5), validation: tuple[int, ...] = (1, 4)
) -> Manifest:
    rows = [
        {
            "key": f"{index:09d}",
            "shard": "shards/a.tar",
            "offset": 10 * index,
            "num_bytes": 10,
            "width_px": 40,
            "height_px": 40,
            "aspect_ratio": ratio,
            "caption": f"caption {index}",
            "split": "validation" if index in validation else "train",
            "sha256": "0" * 64,
            "source": f"{index}.png",
        }
        for index, ratio in enumerate(ratios)
    ]
    head = ManifestHead(
        counts={"read": 6, "kept": len(rows), "unreadable": 1},
        unreadable={"corrupt": 1},
        shards=(ShardInfo(path="shards/a.tar", num_bytes=1, num_samples=len(rows), sha256="0" * 64),),
        spec={"seed": 0},
    )
    return Manifest(uri=uri, head=head, table=pa.Table.from_pylist(rows, schema=SCHEMA))


def test_loaded_manifest_equals_saved_one(tmp_path: Path, s3_server: str) -> None:
    for uri in (str(tmp_path / "m.parquet"), f"{s3_server}/m.parquet"):
        saved = manifest(uri)
        saved.save()
        loaded = Manifest.load(uri)
        assert loaded.head == saved.head
        assert loaded.digest == saved.digest == storage.sha256(uri)
        assert loaded.table.equals(saved.table)
    assert storage.sha256(str(tmp_path / "m.parquet")) == storage.sha256(f"{s3_server}/m.parquet")


def test_rows_captions_and_places() -> None:
    m = manifest("s3://bucket/set/manifest.parquet")
    assert len(m) == 5
    assert m.rows("train").tolist() == [0, 2, 3]
    assert m.rows("validation", 1.5).tolist() == [4]
    assert m.captions([3, 0, 3]) == ["caption 3", "caption 0", "caption 3"]
    assert m.captions(m.rows("train"))[1] == "caption 2"
    assert m.place(3) == ("s3://bucket/set/shards/a.tar", 30, 10)


def test_shards_of_several_versions_lie_beside_their_folders() -> None:
    m = manifest("s3://bucket/set/dataset-1/manifest.parquet")
    shared = Manifest(uri=m.uri, head=m.head.replace(root=".."), table=m.table)
    assert shared.place(3) == ("s3://bucket/set/shards/a.tar", 30, 10)


def test_another_manifest_in_the_same_place_is_refused(tmp_path: Path) -> None:
    manifest(str(tmp_path / "m.parquet")).save()
    manifest(str(tmp_path / "m.parquet")).save()
    with pytest.raises(FileAlreadyThereError, match="with another content"):
        manifest(str(tmp_path / "m.parquet"), ratios=(1.0, 2.0)).save()


def test_shorter_shard_is_a_clear_error(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "shards" / "a.tar"), bytes(35))
    m = manifest(str(tmp_path / "m.parquet"))
    assert m.read_image(2) == bytes(10)
    with pytest.raises(ManifestError, match="expected 10 bytes at offset 30, found 5"):
        m.read_image(3)


def test_what_is_no_manifest_is_a_clear_error(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    with pytest.raises(FileMissingError, match="no such file"):
        Manifest.load(uri)
    storage.write_text(uri, "something else")
    with pytest.raises(ManifestError, match="expected a manifest, which is a Parquet file"):
        Manifest.load(uri)
    pq.write_table(pa.table({"a": [1]}), uri)
    with pytest.raises(ManifestError, match="found a Parquet file without its head"):
        Manifest.load(uri)


@pytest.mark.parametrize("text", ["{", "5", '"a"', '["a", 5]', '{"a": 1}', "[" * 10_000, "null", 5])
def test_further_captions_that_are_no_list_of_texts_are_a_clear_error(text: str | int) -> None:
    m = manifest("s3://bucket/set/manifest.parquet")
    column = pa.array(['["one", "two"]', None, "", text, None] if isinstance(text, str) else [5] * 5)
    odd = Manifest(uri=m.uri, head=m.head, table=m.table.append_column("further", column))
    if isinstance(text, str):
        assert odd.further([2, 0, 1]) == [[], ["one", "two"], []]
    with pytest.raises(
        ManifestError, match=r"manifest.parquet: expected a JSON list of texts .* of row 3, found"
    ) as told:
        odd.further([3])
    assert len(str(told.value)) < 300


def test_manifest_of_another_version_is_a_clear_error(tmp_path: Path) -> None:
    m = manifest(str(tmp_path / "m.parquet"))
    Manifest(uri=m.uri, head=m.head.replace(format=99), table=m.table).save()
    with pytest.raises(ManifestError, match="expected manifest format 2 or 3, found 99"):
        Manifest.load(m.uri)


def test_columns_that_are_asked_for_alone_equal_those_of_the_whole_table(tmp_path: Path) -> None:
    saved = manifest(str(tmp_path / "m.parquet"))
    saved.save()
    for name in SCHEMA.names:
        loaded = Manifest.load(saved.uri)
        assert loaded.column(name).to_pylist() == saved.table[name].to_pylist()
        assert loaded.values(name, [3, 0, 3]) == saved.values(name, [3, 0, 3])
        assert loaded.table.schema.equals(SCHEMA)
        assert loaded.column(name).equals(saved.table[name])
    assert [loaded.place(row) for row in range(5)] == [saved.place(row) for row in range(5)]
    assert loaded.rows("train", 1.5).tolist() == saved.rows("train", 1.5).tolist()


def test_reading_needs_no_column_that_no_reader_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(str(tmp_path / "m.parquet")).save()
    asked: list[str] = []
    real = ParquetColumns.column

    def column(columns: ParquetColumns, name: str) -> pa.ChunkedArray:
        asked.append(name)
        return real(columns, name)

    monkeypatch.setattr(ParquetColumns, "column", column)
    monkeypatch.setattr(ParquetColumns, "whole", lambda columns: pytest.fail("the whole table was decoded"))
    loaded = Manifest.load(str(tmp_path / "m.parquet"))
    assert asked == []
    for row in BatchPlan(loaded, "train", 2).batch(7).rows:
        StoredPictures(loaded, ReadingConfig()).shards([row])
        loaded.place(row)
    assert set(asked) == {"shard", "split", "aspect_ratio", "offset", "num_bytes"}


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 50))
def test_values_of_any_rows_come_from_the_parts_that_hold_them(rows: list[int], per_group: int) -> None:
    texts = [None if row % 7 == 0 else f"text {row}" for row in range(41)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": texts, "b": ["x"] * 41}), buffer, row_group_size=per_group)
    columns = ParquetColumns(buffer.getvalue(), ("b", "none such"))
    assert columns.values("a", rows) == [texts[row] for row in rows]
    assert columns.values("b", rows) == ["x"] * len(rows)
    assert columns.column("a").to_pylist() == texts
    assert columns.values("a", rows) == [texts[row] for row in rows]
    for row in (-1, 41):
        with pytest.raises(IndexError, match="expected rows 0 to 40"):
            ParquetColumns(buffer.getvalue()).values("a", [row])


def test_a_damaged_column_is_a_clear_error(tmp_path: Path) -> None:
    saved = manifest(str(tmp_path / "m.parquet"))
    saved.save()
    data = bytearray(storage.read_bytes(saved.uri))
    place = data.index(b"\x28\xb5\x2f\xfd")  # the first page that zstd packed, which is the column "key"
    data[place : place + 4] = b"oops"
    Path(saved.uri).write_bytes(data)
    loaded = Manifest.load(saved.uri)
    with pytest.raises(ManifestError, match="the manifest is damaged"):
        loaded.column("key")
    with pytest.raises(ManifestError, match="the manifest is damaged"):
        _ = loaded.table


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([1, 3, 100, 512, 5000, 8192, 9000]), min_size=1, max_size=8), st.booleans())
def test_rows_that_come_in_pieces_give_the_bytes_of_the_whole_table(sizes: list[int], long_captions: bool) -> None:
    """Captions of 200 letters fill more than one page of a row group, whose borders depend on the pieces."""
    pieces = []
    for number, size in enumerate(sizes):
        captions = [f"{number} {row} " * (25 if long_captions else 1) for row in range(size)]
        columns = {"key": captions, "caption": captions, "offset": list(range(size)), "split": ["train"] * size}
        absent = {name: [None] * size for name in SCHEMA.names if name not in columns}
        pieces.append(pa.table({name: (columns | absent)[name] for name in SCHEMA.names}, schema=SCHEMA))
    head = manifest("m").head
    whole = Manifest(uri="m", head=head, table=pa.concat_tables(pieces))
    buffer = io.BytesIO()
    text = json.dumps(head.to_json(), sort_keys=True, ensure_ascii=True).encode()
    table = whole.table.replace_schema_metadata({b"infinity.dataset": text})
    pq.write_table(table, buffer, compression="zstd", row_group_size=8192)
    with tempfile.TemporaryDirectory() as folder:
        written = Manifest.write(f"{folder}/m.parquet", head, iter(pieces))
        assert storage.read_bytes(written.uri) == whole.to_bytes() == buffer.getvalue()
        assert written.digest == whole.digest
        assert written.table.equals(whole.table)
