"""Shards hold what the manifest says, byte for byte the same whoever writes them."""

import hashlib
import io
import json
import os
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from infinity import storage
from infinity.data.curation.facts import measure_slice
from infinity.data.dataset.dealing import ShardLimits
from infinity.data.dataset.layout import ShardPlan, plan_shards
from infinity.data.dataset.shards import WrittenShard, write_shard
from infinity.data.sources.opening import open_source
from infinity.data.sources.samples import SourceError
from infinity.storage import StorageError
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise

LIMIT = 10**8
LIMITS = ShardLimits(samples=99, num_bytes=10**9)


def folder_of_formats(folder: Path) -> Path:
    clear = Image.fromarray(noise(seed=3)).convert("RGBA")
    clear.putalpha(128)
    pictures = {
        "a.jpg": encoded(noise(seed=0), "JPEG"),
        "b.png": encoded(noise(seed=1)),
        "c.webp": encoded(noise(seed=2), "WEBP"),
        "d.png": encoded(clear),
        "e.gif": encoded(noise(seed=4), "GIF"),
    }
    return image_folder(folder, pictures, [{"file_name": name, "text": f"the {name} é"} for name in pictures])


def write(source_uri: str, folder: str, rows_per_slice: int = 2) -> WrittenShard:
    source = open_source(source_uri, rows_per_slice=rows_per_slice)
    tables = [measure_slice(piece, LIMIT).facts for piece in source.slices]
    (plan,) = plan_shards(pa.concat_tables(tables), aspect_ratios=(1.0,), validation_share=0, limits=LIMITS, seed=0)
    assert isinstance(plan, ShardPlan)
    return write_shard(plan, source.slices, folder, LIMIT)


def test_offsets_lead_to_the_pictures_and_originals_are_kept(tmp_path: Path) -> None:
    source = folder_of_formats(tmp_path / "in")
    written = write(str(source), str(tmp_path / "out"))
    tar_bytes = (tmp_path / "out" / written.info.path).read_bytes()
    assert written.info.num_bytes == len(tar_bytes)
    assert written.info.sha256 == hashlib.sha256(tar_bytes).hexdigest()
    rows = written.rows.to_pylist()
    for row, name in zip(rows, ("a.jpg", "b.png", "c.webp", "d.png", "e.gif"), strict=True):
        data = tar_bytes[row["offset"] : row["offset"] + row["num_bytes"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert row["source"] == name
        original = (source / name).read_bytes()
        assert (data == original) == (name in ("a.jpg", "b.png", "c.webp"))
        assert Image.open(io.BytesIO(data)).size == (row["width_px"], row["height_px"])
    half = np.asarray(Image.open(io.BytesIO(tar_bytes[rows[3]["offset"] :])), np.float64)
    np.testing.assert_allclose(half, noise(seed=3) * (128 / 255) + 127, atol=1.01)


def test_any_reader_of_tar_files_finds_picture_text_and_facts(tmp_path: Path) -> None:
    written = write(str(folder_of_formats(tmp_path / "in")), str(tmp_path / "out"))
    with tarfile.open(tmp_path / "out" / written.info.path) as tar:
        members = tar.getmembers()
        key = written.rows["key"][0].as_py()
        assert [m.name for m in members[:3]] == [f"{key}.jpg", f"{key}.txt", f"{key}.json"]
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}
        text = tar.extractfile(f"{key}.txt")
        facts = tar.extractfile(f"{key}.json")
        assert text is not None
        assert facts is not None
        assert text.read().decode() == "the a.jpg é"
        assert json.loads(facts.read()) == {"height_px": 40, "source": "a.jpg", "width_px": 40}


def test_webdataset_reads_the_shard(tmp_path: Path) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    written = write(str(folder_of_formats(tmp_path / "in")), str(tmp_path / "out"))
    with (tmp_path / "out" / written.info.path).open("rb") as stream:
        samples = list(group_by_keys(tar_file_expander([{"url": written.info.path, "stream": stream}])))
    assert [sample["__key__"] for sample in samples] == written.rows["key"].to_pylist()
    assert samples[0]["txt"].decode() == "the a.jpg é"


def test_pickled_members_are_not_executed(tmp_path: Path) -> None:
    """A stranger's shard with a pickle that would make a folder; the field's reader runs it unless told not to."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(canary),)

    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for name, data in (("0.pyd", pickle.dumps(Bomb())), ("0.png", encoded(noise())), ("0.txt", b"a caption")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    records = [record for piece in open_source(str(tmp_path / "evil.tar")).slices for record in piece.read()]
    assert len(records) == 1
    assert not canary.exists()

    from webdataset.autodecode import decoders

    assert os.environ["WDS_SECURE"] == "1"  # infra/env.sh, read before any test; webdataset looks at its import
    with pytest.raises(Exception, match="Unpickling is not allowed"):
        decoders["pyd"](pickle.dumps(Bomb()))
    assert not canary.exists()


def test_bytes_do_not_depend_on_how_the_source_was_cut(tmp_path: Path) -> None:
    source = str(folder_of_formats(tmp_path / "in"))
    shards = [write(source, str(tmp_path / f"out-{n}"), rows_per_slice=n) for n in (1, 2, 64)]
    assert len({shard.info.sha256 for shard in shards}) == 1


def test_finished_shard_is_not_written_again(tmp_path: Path) -> None:
    source, out = str(folder_of_formats(tmp_path / "in")), str(tmp_path / "out")
    first = write(source, out)
    path = tmp_path / "out" / first.info.path
    before = path.stat().st_mtime_ns
    again = write(source, out)
    assert path.stat().st_mtime_ns == before
    assert again.info == first.info
    assert again.rows.equals(first.rows)
    opened = open_source(source)
    facts = pa.concat_tables([measure_slice(piece, LIMIT).facts for piece in opened.slices])
    (plan,) = plan_shards(facts, aspect_ratios=(1.0,), validation_share=0, limits=LIMITS, seed=0)
    assert isinstance(plan, ShardPlan)
    assert write_shard(plan, (), out, LIMIT).info == first.info, "what is written already needs no source"
    storage.delete_tree(storage.join(out, "shards", "index"))  # the writer was killed before its mark
    assert write(source, out).info == first.info
    assert path.stat().st_mtime_ns == before  # the same name was there already
    path.unlink()  # somebody collected it
    assert write(source, out).info == first.info
    assert path.exists()


def test_shards_in_s3_equal_local_ones(tmp_path: Path, s3_server: str) -> None:
    source = str(folder_of_formats(tmp_path / "in"))
    here, there = write(source, str(tmp_path / "out")), write(source, f"{s3_server}/out")
    assert here.info == there.info
    assert storage.sha256(f"{s3_server}/out/{there.info.path}") == here.info.sha256


def test_source_that_changes_meanwhile_is_a_clear_error(tmp_path: Path) -> None:
    source_folder = folder_of_formats(tmp_path / "in")
    source = open_source(str(source_folder))
    table = measure_slice(source.slices[0], LIMIT).facts
    (plan,) = plan_shards(table, aspect_ratios=(1.0,), validation_share=0, limits=LIMITS, seed=0)
    assert isinstance(plan, ShardPlan)
    (source_folder / "b.png").write_bytes(encoded(noise(seed=9)))
    with pytest.raises(SourceError, match=r"b.png: changed since it was measured"):
        write_shard(plan, source.slices, str(tmp_path / "out"), LIMIT)
    (source_folder / "b.png").unlink()
    with pytest.raises(SourceError, match=r"b.png: could be read at first, then no longer"):
        write_shard(plan, source.slices, str(tmp_path / "out"), LIMIT)
    assert not storage.list_files(str(tmp_path / "out"))


def test_no_space_left_is_a_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(folder_of_formats(tmp_path / "in"))

    def full(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infinity.data.dataset.shards._HashedFile.write", full)
    with pytest.raises(StorageError, match=r"cannot write a file in .*shards: no space left on the disk"):
        write(source, str(tmp_path / "out"))
    assert not storage.list_files(str(tmp_path / "out"))


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    size = 2**20
    files = {f"{index}.png": encoded(noise(seed=index)) + bytes(size) for index in range(24)}  # padded behind its end
    source = image_folder(tmp_path / "in", files, [{"file_name": name, "text": name} for name in files])
    pieces = open_source(str(source)).slices
    facts = pa.concat_tables(measure_slice(piece, LIMIT).facts for piece in pieces)
    (plan,) = plan_shards(facts, aspect_ratios=(1.0,), validation_share=0, limits=LIMITS, seed=0)
    assert isinstance(plan, ShardPlan)
    tracemalloc.start()
    written = write_shard(plan, pieces, str(tmp_path / "out"), LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written.info.num_bytes > 24 * size
    assert peak < 5 * size
