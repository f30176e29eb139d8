"""Packed tables give the rows of the same tables unpacked, or say in a sentence why not."""

import bz2
import gzip
import json
import lzma
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.layouts.packed import zip_bytes
from benchmarks.layouts.trainers import zstd
from benchmarks.layouts.writers import NAMES, TEXTS, lines, picture, pictures, rows_of, separated
from infinity import storage
from infinity.data.sources.opening import fingerprint, open_source
from infinity.data.sources.samples import SourceError
from infinity.data.sources.tables.packed import ENDINGS
from tests.infinity.data.sources.test_opening import check_laws, records

PACKS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
TABLES = {
    "t.jsonl": "{broken\n" + lines(rows_of()),
    "t.ndjson": lines(rows_of("image", "caption")),
    "t.csv": separated(rows_of()) + "0.png\n",
    "t.tsv": separated(rows_of(), "\t"),
    "t.json": json.dumps({"data": rows_of("img", "prompt")}),
    "metadata.jsonl": lines(rows_of()),
    "metadata.csv": separated(rows_of()),
}


def told(folder: Path) -> list[tuple[str, str | None, str]]:
    return [
        (storage.name(str(each.image)), each.caption, str(each.problem).replace("\n", " "))
        for each in records(open_source(str(folder), rows_per_slice=2))
    ]


@pytest.mark.sweep(8)
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("pack", PACKS)
def test_a_packed_table_gives_the_rows_of_the_table(tmp_path: Path, name: str, pack: str) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    for folder in (plain, packed):
        pictures(folder, NAMES)
    (plain / name).write_text(TABLES[name])
    (packed / f"{name}{pack}").write_bytes(PACKS[pack](TABLES[name].encode()))
    assert told(packed) == told(plain)
    for place in (packed, packed / f"{name}{pack}"):
        source = open_source(str(place), rows_per_slice=2)
        check_laws(source)
        again = [record for piece in pickle.loads(pickle.dumps(source.slices)) for record in piece.read()]
        assert [(record.row, record.caption) for record in again] == [(r.row, r.caption) for r in records(source)]


def test_in_s3_and_in_an_archive_it_is_the_same(tmp_path: Path, s3_server: str) -> None:
    content = {name: picture(i) for i, name in enumerate(NAMES)} | {
        "t.jsonl.gz": gzip.compress(lines(rows_of()).encode())
    }
    (tmp_path / "in").mkdir()
    for name, data in content.items():
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "all.zip").write_bytes(zip_bytes(content))
    storage.upload_folder(tmp_path / "in", f"{s3_server}/packed")
    for place in (f"{s3_server}/packed", str(tmp_path / "all.zip")):
        assert [record.caption for record in records(open_source(place))] == list(TEXTS)


@pytest.mark.parametrize(
    ("pack", "change"),
    [(pack, "cut") for pack in PACKS] + [(pack, "damaged") for pack in PACKS if pack != ".zst"],
)  # Arrow writes Zstandard without checksums
def test_a_table_that_cannot_be_unpacked_whole_is_no_table(tmp_path: Path, pack: str, change: str) -> None:
    text = lines([{"file_name": f"{i}.png", "text": f"{i * 7919 % 1009} and {i * 104729 % 9973}"} for i in range(400)])
    data = PACKS[pack](text.encode())
    data = data[: len(data) // 2] if change == "cut" else data[:400] + bytes([data[400] ^ 255]) + data[401:]
    (tmp_path / f"t.jsonl{pack}").write_bytes(data)
    for place in (tmp_path, tmp_path / f"t.jsonl{pack}"):
        with pytest.raises(SourceError, match=rf"t\.jsonl{pack}: cut off or damaged .*; unpack it, or fetch it again"):
            open_source(str(place))


def test_a_table_that_unpacks_to_too_much_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity.data.sources.tables.packed.MAX_DOCUMENT_BYTES", 1000)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(separated(rows_of() * 100).encode()))
    with pytest.raises(SourceError, match=r"t\.csv\.gz: .* unpack to more than 1,000; unpack it"):
        open_source(str(tmp_path / "t.csv.gz"))


def test_what_is_wrong_with_a_packed_table_names_the_packed_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    for place in (tmp_path, tmp_path / "t.csv.gz"):
        with pytest.raises(SourceError, match=f"^{tmp_path}/t.csv.gz: expected columns for a picture .*found a,b"):
            open_source(str(place))


def test_a_table_that_is_not_packed_in_spite_of_its_name_is_read(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    (tmp_path / "t.jsonl.gz").write_text(lines(rows_of()))
    assert [record.caption for record in records(open_source(str(tmp_path)))] == list(TEXTS)


def test_a_fingerprint_follows_the_pictures_that_a_packed_table_names(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines(rows_of()).encode()))
    before = fingerprint(str(tmp_path / "t.jsonl.gz"))
    (tmp_path / "1.png").write_bytes(picture(9))
    assert fingerprint(str(tmp_path / "t.jsonl.gz")) != before


def test_every_ending_is_tried_here() -> None:
    assert set(ENDINGS) == {f".{name.rpartition('.')[2]}{pack}" for name in TABLES for pack in PACKS}
