"""A manifest comes back as it was saved, or says what is wrong with it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.manifest import SCHEMA, Manifest, ManifestError, ManifestHead, ShardInfo
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


def test_manifest_of_another_version_is_a_clear_error(tmp_path: Path) -> None:
    m = manifest(str(tmp_path / "m.parquet"))
    Manifest(uri=m.uri, head=m.head.replace(format=99), table=m.table).save()
    with pytest.raises(ManifestError, match="expected manifest format 2, found 99"):
        Manifest.load(m.uri)
