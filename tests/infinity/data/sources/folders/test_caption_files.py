"""Captions in files beside pictures are read, a table counts more, and what is wrong with one is a row's reason."""

import json
from pathlib import Path

import pytest

from infinity import storage
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import open_source
from infinity.data.sources.samples import Record, SourceError
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise
from tests.infinity.data.sources.test_opening import check_laws, records


def pictures(folder: Path, files: dict[str, str | bytes]) -> Path:
    """A folder with these files; what ends like a picture is one, unlike the others."""
    for number, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = name.lower().endswith((".png", ".jpg"))
        data = encoded(noise(seed=number)) if picture else content
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def told(folder: Path) -> dict[str, str | None]:
    """Caption of each picture, or the reason of its problem."""
    source = open_source(str(folder))
    check_laws(source)
    return {record.name: record.problem.reason if record.problem else record.caption for record in records(source)}


def test_folders_of_finetuning_tools_are_read(tmp_path: Path) -> None:
    files = {f"10_cat/{number}.png": "" for number in range(3)} | {f"10_cat/{n}.txt": f"a cat {n}\n" for n in range(2)}
    folder = pictures(tmp_path, files)
    assert told(folder) == {"10_cat/0.png": "a cat 0\n", "10_cat/1.png": "a cat 1\n", "10_cat/2.png": None}
    assert [fetch(record) for record in records(open_source(str(folder)))] == [encoded(noise(seed=i)) for i in range(3)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.txt", "a cat", "a cat"),
        ("x.TXT", "a cat", "a cat"),
        ("x.caption", "a cat", "a cat"),
        ("x.text", "a cat", "a cat"),
        ("x.json", '{"caption": "a cat"}', "a cat"),
        ("x.json", '{"prompt": ["a cat", "the cat"], "width": 7}', "a cat"),
        ("x.png.txt", "a cat", "a cat"),
        ("x.txt", b"\xef\xbb\xbfa cat", "a cat"),
        ("x.txt", "a cat".encode("utf-16"), "a cat"),
        ("x.txt", b"\xff\xfea", "bad_row"),
        ("x.txt", b"caf\xe9", "bad_row"),
        ("x.json", "{", "bad_row"),
        ("x.json", "[1]", "bad_row"),
        ("x.json", '{"caption": 7}', "bad_row"),
        ("x.json", "[" * 100_000, "bad_row"),
        ("x.txt", b"x" * 2**21, "row_too_large"),
        ("x.txt", "", None),
    ],
)
def test_every_kind_of_caption_file_gives_a_caption_or_a_reason(
    tmp_path: Path, name: str, content: str | bytes, expected: str | None
) -> None:
    found = told(pictures(tmp_path, {"x.png": "", name: content, "y.png": "", "y.txt": "a dog"}))
    assert (found["x.png"] or "").strip() == (expected or "")
    assert found["y.png"] == "a dog"


def test_the_text_counts_more_than_the_json_and_a_long_caption_of_that_more_than_both(tmp_path: Path) -> None:
    files = {
        "x.png": "",
        "x.txt": "text",
        "x.caption": "caption",
        "x.json": '{"caption": "json", "url": "https://a/x"}',
    }
    (record,) = records(open_source(str(pictures(tmp_path, files))))
    assert (record.caption, record.url) == ("text", "https://a/x")
    (tmp_path / "x.json").write_text('{"long_caption": "a long one"}')
    (record,) = records(open_source(str(tmp_path)))
    assert (record.caption, record.caption_short) == ("a long one", "text")


def test_a_table_counts_more_than_a_file_and_a_file_helps_where_it_says_nothing(tmp_path: Path) -> None:
    pictures(tmp_path, {"a.png": "", "b.png": "", "c.png": "", "a.txt": "file", "b.txt": "file", "c.txt": "file"})
    rows = [{"file_name": "a.png", "text": "table"}, {"file_name": "b.png", "text": None}]
    image_folder(tmp_path, {}, rows)
    assert told(tmp_path) == {"a.png": "table", "b.png": "file", "c.png": "file"}


def test_a_caption_file_that_is_a_link_out_of_the_source_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    folder = pictures(tmp_path / "in", {"x.png": "", "y.png": "", "y.txt": "a dog"})
    (folder / "x.txt").symlink_to("../secret.txt")
    assert told(folder) == {"x.png": None, "y.png": "a dog", "x.txt": "outside_source"}


def test_pictures_without_any_caption_are_a_clear_error(tmp_path: Path) -> None:
    folder = pictures(tmp_path, {"x.png": "", "notes.txt": "not of x"})
    with pytest.raises(
        SourceError, match=r"found 1 pictures but no metadata\.jsonl.*and no \.txt, \.caption or \.json"
    ):
        open_source(str(folder))


def test_caption_files_in_s3_equal_local_ones(tmp_path: Path, s3_server: str) -> None:
    folder = pictures(tmp_path, {"a/x.png": "", "a/x.txt": "a cat", "a/y.jpg": "", "a/y.json": '{"text": "a dog"}'})
    storage.upload_folder(folder, s3_server)
    here, there = records(open_source(str(folder))), records(open_source(s3_server))
    assert [(r.name, r.caption) for r in here] == [(r.name, r.caption) for r in there]
    assert [r.caption for r in here] == ["a cat", "a dog"]


def mixed(folder: Path) -> tuple[Path, int]:
    """Tables, pictures with and without files, a shard, Parquet and a list of addresses; and the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.infinity.data.sources.test_source_forms import shard

    pictures(folder, {"a.png": "", "b.png": "", "b.txt": "beside", "c.png": ""})
    image_folder(folder, {}, [{"file_name": "a.png", "text": "table"}])
    pictures(folder, {"d.png": "", "more.csv": "file_name,text\nd.png,csv\n"})
    shard(folder / "0.tar", *({"png": encoded(noise(seed=20 + i)), "txt": b"shard"} for i in range(2)))
    pq.write_table(pa.table({"image": [encoded(noise(seed=30))], "text": ["parquet"]}), folder / "p.parquet")
    (folder / "list.csv").write_text("url,text\nhttps://example.com/x.jpg,web\n")
    (folder / "0.parquet").write_bytes(b"")
    pq.write_table(pa.table({"url": ["https://example.com/y.jpg"], "caption": ["shard"]}), folder / "0.parquet")
    return folder, 1 + 1 + 1 + 1 + 2 + 1 + 1


def test_a_folder_of_many_forms_is_read_whole(tmp_path: Path) -> None:
    folder, number = mixed(tmp_path)
    source = open_source(str(folder))
    found: list[Record] = records(source)
    assert len(found) == number
    captions = ["table", "shard", "shard", "parquet", "csv", "beside", None, "web"]
    assert [record.caption for record in found] == captions
    check_laws(source)
    assert json.dumps(sorted(source.kind.split(" and "))) == json.dumps(
        ["CSV", "Parquet", "URL list", "image folder", "webdataset"]
    )
