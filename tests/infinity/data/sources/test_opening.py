"""Every form of source gives the same records, cut into slices that can be read alone."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.sources import opening as sources
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Source, fingerprint, open_source, scene_source
from infinity.data.sources.samples import Record, SourceError
from infinity.scenes.drawing import ScenesConfig
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, image_folder, noise


def records(source: Source) -> list[Record]:
    return [record for piece in source.slices for record in piece.read()]


def check_laws(source: Source) -> None:
    """Rows ascend over all slices; a slice read in part gives the same records."""
    rows = [record.row for record in records(source)]
    assert rows == sorted(set(rows))
    for piece in source.slices:
        whole = list(piece.read())
        assert whole[0].row >= piece.first_row
        chosen = frozenset(record.row for record in whole[::2])
        assert [r.row for r in piece.read(chosen)] == [r.row for r in whole[::2]]


@pytest.mark.parametrize("rows_per_slice", [1, 5, 64])
def test_image_folder_gives_its_rows_in_order(tmp_path: Path, rows_per_slice: int) -> None:
    source = open_source(str(good_folder(tmp_path, 12)), rows_per_slice=rows_per_slice)
    assert len(source.slices) == -(-12 // rows_per_slice)
    assert [(r.row, r.name, r.caption) for r in records(source)] == [
        (i, f"images/{i:03d}.png", f"picture {i}") for i in range(12)
    ]
    assert [fetch(r) for r in records(source)] == [encoded(noise(seed=i)) for i in range(12)]
    check_laws(source)


def test_metadata_in_sub_folders_names_pictures_relative_to_itself(tmp_path: Path) -> None:
    for part in ("a", "b/deep"):
        image_folder(tmp_path / part, {"x.png": encoded(noise())}, [{"file_name": "x.png", "text": part}])
    source = open_source(str(tmp_path))
    assert [(r.caption, r.image) for r in records(source)] == [
        ("a", f"{tmp_path}/a/x.png"),
        ("b/deep", f"{tmp_path}/b/deep/x.png"),
    ]
    check_laws(source)


def test_picture_of_a_folder_without_a_row_has_no_caption(tmp_path: Path) -> None:
    good_folder(tmp_path, 2)
    (tmp_path / "images" / "extra.JPG").write_bytes(b"")
    (tmp_path / "images" / "._extra.JPG").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [(r.name, r.caption) for r in records(open_source(str(tmp_path)))][2:] == [("images/extra.JPG", None)]


def test_picture_of_a_row_with_a_bad_caption_is_not_listed_once_more(tmp_path: Path) -> None:
    rows = [{"file_name": "x.png", "text": [1, 2]}, {"file_name": "../y.png", "text": "outside"}]
    image_folder(tmp_path, {"x.png": encoded(noise()), "y.png": encoded(noise())}, rows)
    found = records(open_source(str(tmp_path)))
    assert [(r.name, r.problem and r.problem.reason) for r in found] == [
        ("x.png", "bad_row"),
        ("../y.png", "outside_source"),
        ("y.png", None),
    ]


def test_broken_lines_are_records_with_a_problem(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "x.png", "text": "fine"}',
        "",
        "{not json",
        "[1]",
        '{"text": "no name"}',
        '{"file_name": 7}',
    ]
    lines += ['{"file_name": "x.png", "text": 7}', '{"file_name": "x.png"}', '{"file_name": "x.png", "text": null}']
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\n\xff\xfe{\n")
    found = records(open_source(str(tmp_path)))
    assert [r.problem.reason if r.problem else r.caption for r in found] == [
        "fine",
        *["bad_row"] * 5,
        None,
        None,
        "bad_row",
    ]


def test_reference_lines_prefer_the_wanted_caption(tmp_path: Path) -> None:
    rows = [
        {"image_path": "x.jpg", "h_div_w": 1.0, "long_caption": "long text", "long_caption_type": "m", "text": "short"},
        {"image_path": "/abs/x.jpg", "long_caption": " ", "text": "short"},
        {"image_path": "s3://bucket/x.jpg", "long_caption": "long text", "text": None},
    ]
    uri = tmp_path / "1.000_000003.jsonl"
    uri.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for source in (str(uri), str(tmp_path), uri.as_uri()):
        found = records(open_source(source, roots=("/abs", "s3://bucket")))
        assert [r.caption for r in found] == ["long text", "short", "long text"]
        assert [r.image for r in found] == [f"{tmp_path}/x.jpg", "/abs/x.jpg", "s3://bucket/x.jpg"]
        refused = records(open_source(source))
        assert [r.problem and r.problem.reason for r in refused] == [None, "outside_source", "outside_source"]
        assert [r.caption for r in records(open_source(source, captions="short"))] == ["short", "short", "long text"]


def test_reference_folder_with_photographs_is_recognised(shared: Path) -> None:
    source = open_source(str(shared / "data" / "infinity_toy"))
    found = records(source)
    assert sum(record.caption is not None for record in found) == 5
    assert len(found) == 10
    check_laws(source)


@pytest.mark.parametrize("form", ["struct", "bytes", "columns", "paths"])
def test_parquet_gives_the_same_records_in_every_form(tmp_path: Path, form: str) -> None:
    data = [encoded(noise(seed=i)) for i in range(7)]
    paths = [f"{i}.png" for i in range(7)]
    for path, content in zip(paths, data, strict=True):
        (tmp_path / path).write_bytes(content)
    columns = {
        "struct": {"image": [{"bytes": content, "path": path} for content, path in zip(data, paths, strict=True)]},
        "bytes": {"image": data},
        "columns": {"bytes": data, "path": paths},
        "paths": {"path": paths},
    }[form]
    table = pa.table({**columns, "text": [None, *(f"picture {i}" for i in range(1, 7))], "other": list(range(7))})
    pq.write_table(table, tmp_path / "train-0.parquet", row_group_size=3)
    source = open_source(str(tmp_path / "train-0.parquet"))
    assert len(source.slices) == 3
    assert [record.caption for record in records(source)] == table["text"].to_pylist()
    assert [fetch(record) for record in records(source)] == data
    check_laws(source)


def test_large_row_group_is_dealt_to_several_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity.data.sources.columnar.parquet._SPLIT_ROWS", 20)
    table = pa.table({"image": [str(i).encode() for i in range(50)], "caption": [str(i) for i in range(50)]})
    pq.write_table(table, tmp_path / "x.parquet")
    source = open_source(str(tmp_path))
    assert [piece.first_row for piece in source.slices] == [0, 20, 40]
    assert [(r.row, r.image, r.caption) for r in records(source)] == [(i, str(i).encode(), str(i)) for i in range(50)]
    check_laws(source)


def test_sources_in_s3_equal_local_ones(tmp_path: Path, s3_server: str) -> None:
    good_folder(tmp_path / "folder", 5)
    table = pa.table({"image": [encoded(noise(seed=i)) for i in range(5)], "text": [f"picture {i}" for i in range(5)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    storage.upload_folder(tmp_path, s3_server)
    for name in ("folder", "x.parquet"):
        here, there = open_source(str(tmp_path / name)), open_source(f"{s3_server}/{name}")
        assert [(r.row, r.caption) for r in records(here)] == [(r.row, r.caption) for r in records(there)]
        assert [fetch(r) for r in records(here)] == [fetch(r) for r in records(there)]
        assert fingerprint(f"{s3_server}/{name}") == fingerprint(f"{s3_server}/{name}")


def test_scenes_are_drawn_alike_in_any_slice() -> None:
    config = ScenesConfig(count=10, size_px=24, seed=1)
    source = scene_source(config, rows_per_slice=4)
    assert [r.image for r in records(source)] == [r.image for r in records(scene_source(config, rows_per_slice=10))]
    check_laws(source)


def test_fingerprint_follows_pictures_and_captions(tmp_path: Path) -> None:
    good_folder(tmp_path, 3)
    seen = {fingerprint(str(tmp_path)), fingerprint(str(tmp_path))}
    assert len(seen) == 1
    (tmp_path / "images" / "000.png").write_bytes(encoded(noise(seed=99)))
    seen.add(fingerprint(str(tmp_path)))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"image_path": "images/001.png", "text": "a"}\n')
    seen |= {fingerprint(str(lines)), fingerprint(str(lines))}
    change_one_byte(tmp_path / "images" / "001.png")
    seen.add(fingerprint(str(lines)))
    (tmp_path / "images" / "001.png").unlink()
    seen.add(fingerprint(str(lines)))
    assert len(seen) == 5


def change_one_byte(path: Path) -> None:
    """Size and time of change stay."""
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("source", ["", "lines.jsonl", "lines.csv"])
def test_fingerprint_of_a_copy_is_that_of_the_original(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a small one whatever happened to its times; of a large one if they were kept."""
    folder = good_folder(tmp_path / "here", 3)
    (folder / "lines.jsonl").write_text('{"image_path": "images/001.png", "text": "a"}\n')
    (folder / "lines.csv").write_text("file_name,text\nimages/001.png,a\nimages/absent.png,b\n")
    fresh, kept = tmp_path / "fresh", tmp_path / "kept"
    shutil.copytree(folder, kept)
    shutil.copytree(folder, fresh)
    for path in fresh.rglob("*"):
        os.utime(path, ns=(1, 1))

    def of(place: Path) -> str:
        return fingerprint(storage.join(str(place), source))

    assert of(folder) == of(fresh) == of(kept)
    change_one_byte(fresh / "images" / "001.png")
    assert of(folder) != of(fresh)
    monkeypatch.setattr(sources, "_BYTES_READ", 10)
    assert of(folder) == of(kept)
    os.utime(kept / "images" / "001.png", ns=(1, 1))
    assert of(folder) != of(kept)


def test_fingerprint_of_what_cannot_be_read_is_still_one(tmp_path: Path) -> None:
    folder = good_folder(tmp_path, 1)
    os.mkfifo(folder / "pipe.png")
    assert fingerprint(str(folder)) == fingerprint(str(folder))


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ({}, "", "found no files; expected an image folder"),
        ({}, "absent", "found no files; expected an image folder"),
        ({}, "absent.jsonl", "there is no such file"),
        (
            {"a.png": b"", "b.jpg": b""},
            "",
            "no captions at all: found 2 pictures but no metadata.jsonl or metadata.csv",
        ),
        ({"a.png": b"", "metadata.csv": b""}, "", "expected a header with the names of the columns"),
        ({"a.png": b"", "metadata.parquet": b""}, "", "expected a Parquet file"),
        ({"a.txt": b"", "other.jsonl": b"{}"}, "", "found 2 files, but no pictures and no table of pictures"),
        ({"x.jsonl": b""}, "x.jsonl", "found no rows"),
        ({"x.parquet": b"not parquet"}, "x.parquet", "expected a Parquet file"),
    ],
)
def test_useless_source_is_a_clear_error(tmp_path: Path, files: dict[str, bytes], source: str, message: str) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        open_source(storage.join(str(tmp_path), source))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["a"]},
            r"no pictures: expected a column image, bytes or path, or url, found the columns text; name the columns \(",
        ),
        (
            {"image": [b""]},
            "no captions at all: expected a column text, caption or long_caption, found the columns image",
        ),
        ({"image": [b""], "text": [[1]]}, "column text: expected texts, found list"),
    ],
)
def test_parquet_without_its_columns_is_a_clear_error(tmp_path: Path, columns: dict[str, list], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path))
