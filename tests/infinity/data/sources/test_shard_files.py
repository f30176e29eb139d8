"""Shards as people pack them: compressed, in another order, with hidden files and second pictures."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity import storage
from infinity.data.sources import shard_files
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import open_source
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.fixtures.faults.hostile_sources import tar_of
from tests.infinity.data.sources.test_opening import check_laws, records

PNG = [encoded(noise(seed=i)) for i in range(4)]
MEMBERS = [(f"f/{i}.png", PNG[i]) for i in range(4)], [(f"f/{i}.txt", b"caption %d" % i) for i in range(4)]
SORTED = [member for pair in zip(*MEMBERS, strict=True) for member in pair]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar.gz": gzip.compress,
    "tgz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstd,
    "tar": bytes,
}


def check(source: str) -> None:
    opened = open_source(source)
    assert opened.kind == "webdataset"
    found = records(opened)
    assert [record.caption for record in found] == [f"caption {i}" for i in range(4)]
    assert [fetch(record) for record in found] == PNG
    check_laws(opened)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", ["{}", "tar", "TAR"])
def test_compressed_shards_are_read_whatever_their_name(tmp_path: Path, packing: str, name: str) -> None:
    path = tmp_path / f"0.{name.format(packing)}"
    path.write_bytes(PACK[packing](tar_of(*SORTED)))
    check(str(tmp_path))
    check(str(path))


def test_compressed_shards_in_s3_are_read(s3_server: str) -> None:
    storage.write_bytes(f"{s3_server}/0.tar.gz", gzip.compress(tar_of(*SORTED)))
    check(s3_server)


def test_a_compressed_shard_that_breaks_off_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    data = gzip.compress(tar_of(*SORTED), 0)
    (tmp_path / "0.tar.gz").write_bytes(data[: len(data) * 3 // 4])
    found = records(open_source(str(tmp_path)))
    assert [record.caption for record in found if record.problem is None][:2] == ["caption 0", "caption 1"]
    assert found[-1].problem is not None


def test_a_bomb_is_one_row_and_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "FREE_BYTES", 2**16)
    (tmp_path / "0.tar.gz").write_bytes(gzip.compress(bytes(2**24), 9))
    (record,) = records(open_source(str(tmp_path)))
    assert record.problem is not None
    assert "unpack to more than" in record.problem.detail


@settings(max_examples=25, deadline=None)
@given(st.permutations(SORTED))
def test_samples_are_whole_in_whatever_order_their_files_lie(
    tmp_path_factory: pytest.TempPathFactory, order: list[tuple[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    (folder / "0.tar").write_bytes(tar_of(*order))
    source = open_source(str(folder))
    found = records(source)
    assert {(record.caption, fetch(record)) for record in found} == {(f"caption {i}", PNG[i]) for i in range(4)}
    assert [record.caption for record in found] == [
        f"caption {key}" for key in dict.fromkeys(name[2] for name, _ in order)
    ]
    check_laws(source)


def test_pictures_first_and_then_texts_as_plain_tar_packs_them(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(*MEMBERS[0], *MEMBERS[1]))
    check(str(tmp_path))


def test_a_shard_in_another_order_that_is_too_large_to_be_joined_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infinity.data.sources.webdataset._MAX_JOINED", 6)
    (tmp_path / "a.tar").write_bytes(tar_of(*MEMBERS[0], *MEMBERS[1]))
    (record,) = records(open_source(str(tmp_path)))
    assert record.problem is not None
    assert "pack the shard with tar --sort=name" in record.problem.detail


def test_hidden_files_and_second_pictures_are_no_samples(tmp_path: Path) -> None:
    odd = [(name.replace("f/", "f/._"), b"Mac OS X") for name, _ in SORTED]
    members = [each for pair in zip(odd, SORTED, strict=True) for each in pair]
    members += [("f/.DS_Store", b"x")]
    masks = [member for name, data in members for member in [(name, data), *_mask(name)]]
    (tmp_path / "a.tar").write_bytes(tar_of(*masks))
    check(str(tmp_path))


def _mask(name: str) -> list[tuple[str, bytes]]:
    return [(name.replace(".png", ".mask.png"), b"mask")] if name.endswith(".png") and "._" not in name else []
