"""Columns are guessed from a documented list, may be named, and hold one caption or several."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity.data.sources.checking import fetch
from infinity.data.sources.columnar.rows import FORMAT_COLUMNS
from infinity.data.sources.columns import LONG_COLUMNS, PICTURE_COLUMNS, SHORT_COLUMNS, SourceColumns
from infinity.data.sources.opening import URL_LIST, open_source
from infinity.data.sources.samples import Record, SourceError
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise
from tests.infinity.data.sources.test_opening import check_laws, records

PNG = encoded(noise())


def only(tmp_path: Path, row: dict[str, Any], columns: SourceColumns | None = None) -> Record:
    (record,) = records(open_source(str(image_folder(tmp_path, {"x.png": PNG}, [row])), columns=columns))
    return record


@pytest.mark.parametrize("column", [*SHORT_COLUMNS, *LONG_COLUMNS, "TEXT", "Prompt"])
def test_captions_are_found_under_every_guessed_name(tmp_path: Path, column: str) -> None:
    assert only(tmp_path, {"file_name": "x.png", column: "a cat"}).caption == "a cat"


@pytest.mark.parametrize("column", [*PICTURE_COLUMNS, "FileName", "Image"])
def test_pictures_are_found_under_every_guessed_name(tmp_path: Path, column: str) -> None:
    record = only(tmp_path, {column: "x.png", "text": "a cat"})
    assert (record.problem, fetch(record)) == (None, PNG)


WITHIN = {"caption": "about.caption", "picture": "about.file"}


@pytest.mark.parametrize(
    ("about", "caption", "further"),
    [
        ({"file": "x.png", "caption": "a cat"}, "a cat", ()),
        ('{"file": "x.png", "caption": ["a cat", "the cat"]}', "a cat", ("the cat",)),
        ([{"file": "x.png", "caption": "a cat"}, {"caption": "the cat"}], "a cat", ("the cat",)),
        ({"file": "x.png", "other": "a cat"}, None, ()),
        ({"file": "x.png", "caption": {"other": "a cat"}}, "bad_row", ()),
    ],
)
def test_a_name_may_lead_into_an_object(
    tmp_path: Path, about: object, caption: str | None, further: tuple[str, ...]
) -> None:
    record = only(tmp_path, {"about": about}, SourceColumns(**WITHIN))
    assert (record.problem.reason if record.problem else record.caption, record.further) == (caption, further)
    assert str(record.image).endswith("/x.png")


@pytest.mark.parametrize("text", ["a plain text", "7", "[1]", "null"])
def test_what_a_name_does_not_lead_into_is_no_caption(tmp_path: Path, text: str) -> None:
    record = only(tmp_path, {"file_name": "x.png", "about": text}, SourceColumns(caption="about.caption"))
    assert (record.problem, record.caption) == (None, None)


def test_a_struct_of_captions_is_read_by_its_field(tmp_path: Path) -> None:
    rows = {"image": [PNG], "about": [{"caption": {"short": "a cat", "long": "a cat on a mat"}}]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    columns = SourceColumns(caption="about.caption.short", long_caption="about.caption.long")
    (record,) = records(open_source(str(tmp_path), columns=columns))
    assert (record.caption, record.caption_long, record.caption_short) == ("a cat on a mat", "a cat on a mat", "a cat")
    with pytest.raises(SourceError, match="no captions at all"):
        open_source(str(tmp_path))


def test_an_object_in_the_place_of_a_caption_says_what_is_in_it(tmp_path: Path) -> None:
    record = only(tmp_path, {"file_name": "x.png", "caption": {"blip": "a cat", "llava": "the cat"}})
    assert "found an object of blip, llava; name the one that is meant" in str(record.problem)


def test_columns_may_be_named_and_the_message_says_which_there_are(tmp_path: Path) -> None:
    row = {"pic": "x.png", "blurb": "a cat", "note": "?"}
    record = records(open_source(str(image_folder(tmp_path, {"x.png": PNG}, [row]))))[0]
    assert record.problem is not None
    assert "found the columns pic, blurb, note; name the columns (--image-column, --caption-column" in str(
        record.problem
    )
    assert only(tmp_path, row, SourceColumns(picture="pic", caption="blurb")).caption == "a cat"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a cat", "the cat"], "a cat"),
        (["", " ", None, "the cat"], "the cat"),
        ([3, "the cat"], "the cat"),
        ([], None),
        ([None], None),
        (None, None),
        ([1, 2], "bad_row"),
        ([["a cat"]], "bad_row"),
        ({"a": "cat"}, "bad_row"),
        (7, "bad_row"),
    ],
)
def test_of_several_captions_the_first_that_is_not_blank_is_taken(tmp_path: Path, value: Any, expected: Any) -> None:
    for column in ("text", "captions", "long_caption"):
        record = only(tmp_path, {"file_name": "x.png", column: value})
        assert (record.problem.reason if record.problem else record.caption) == expected


LISTS = [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 2)]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_lists_of_captions_in_parquet_give_one(tmp_path: Path, kind: pa.DataType) -> None:
    captions = pa.array([["a cat", "the cat"], [None, "a dog"], None], kind)
    pq.write_table(pa.table({"image": [PNG] * 3, "caption": captions}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path))
    assert [record.caption for record in records(source)] == ["a cat", "a dog", None]
    check_laws(source)


IMAGES = {
    "struct": pa.array([{"bytes": PNG, "path": None}]),
    "list of struct": pa.array([[{"bytes": PNG, "path": "x.png"}]]),
    "list of bytes": pa.array([[PNG]]),
    "large": pa.array([PNG], pa.large_binary()),
    "view": pa.array([PNG], pa.binary_view()),
    "dictionary": pa.array([PNG]).dictionary_encode(),
    "path": pa.array(["x.png"]),
    "path view": pa.array(["x.png"], pa.string_view()),
}


@pytest.mark.parametrize("form", IMAGES)
def test_pictures_in_parquet_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    pq.write_table(pa.table({"image": IMAGES[form], "prompt": ["a cat"]}), tmp_path / "x.parquet")
    (record,) = records(open_source(str(tmp_path / "x.parquet")))
    assert (fetch(record), record.caption) == (PNG, "a cat")


@pytest.mark.parametrize("column", FORMAT_COLUMNS)
def test_what_a_downloader_wrote_is_read_and_its_failures_are_counted(tmp_path: Path, column: str) -> None:
    rows = [
        {"url": "https://example.com/0", "caption": "a", "status": "success", "error_message": None, column: PNG},
        {"url": "https://example.com/1", "caption": "b", "status": "failed_to_download", "error_message": "404"},
        {"url": "https://example.com/2", "caption": "c", "status": "failed_to_resize", "error_message": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    source = open_source(str(tmp_path))
    first, second, third = records(source)
    assert (source.kind, fetch(first), first.url) == ("Parquet", PNG, "https://example.com/0")
    assert second.problem is not None
    assert third.problem is not None
    assert second.problem.detail == "its downloader says failed_to_download: 404"
    assert (second.problem.reason, third.problem.reason) == ("not_accessible", "not_accessible")
    check_laws(source)


@pytest.mark.parametrize("note", ["filename", "path", "image", "img", "jpg"])
def test_a_note_beside_an_address_does_not_make_it_a_file(tmp_path: Path, note: str) -> None:
    (tmp_path / "list.csv").write_text(f"url,{note},text\nhttps://example.com/x.jpg,x.jpg,a cat\n")
    assert open_source(str(tmp_path)).kind == URL_LIST


@pytest.mark.parametrize("column", ["image", "file_name", "picture"])
def test_addresses_under_the_name_of_a_picture_are_a_list_of_addresses(tmp_path: Path, column: str) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({column: "https://example.com/x.jpg", "text": "a cat"}) + "\n")
    source = open_source(str(tmp_path / "list.jsonl"))
    assert source.kind == URL_LIST
    assert records(source)[0].url == "https://example.com/x.jpg"


def test_parquet_without_its_columns_names_file_and_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [PNG], "blurb": ["a cat"]}), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"x\.parquet: no captions at all.*found the columns image, blurb; name"):
        open_source(str(tmp_path))
    (record,) = records(open_source(str(tmp_path), columns=SourceColumns(caption="blurb")))
    assert record.caption == "a cat"


@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
@pytest.mark.parametrize("header", ["file_name,text,text", "text,file_name,file_name", "url,url,text", "text,text,url"])
def test_a_header_that_names_a_used_column_twice_is_refused(tmp_path: Path, header: str, name: str) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    text = f"{header}\nx.png,x.png,x.png\n"
    (tmp_path / name).write_text(text.replace(",", "\t") if name.endswith("tsv") else text)
    with pytest.raises(SourceError, match="more than once; give each a name of its own"):
        open_source(str(tmp_path / name))


def test_other_columns_may_share_a_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    (tmp_path / "list.csv").write_text("file_name,,,text\nx.png,1,2,a cat\n")
    assert [record.caption for record in records(open_source(str(tmp_path / "list.csv")))] == ["a cat"]


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ('["a cat", "the cat"]', ("a cat", "the cat")),
        ("['a cat', \"it isn't\"]", ("a cat", "it isn't")),
        ("['a cat' 'the cat']", ("a cat", "the cat")),
        ("['a cat'\n 'the cat']", ("a cat", "the cat")),
        ('[{"raw": "a cat"}, {"caption": "the cat"}]', ("a cat", "the cat")),
        ('{"text": "a cat"}', ("a cat",)),
        (" [ 'a cat' ] ", ("a cat",)),
        ("[]", ()),
        ("[sic] a cat [x]", ("[sic] a cat [x]",)),
        ("[a cat]", ("[a cat]",)),
        ("[1, 2]", ("[1, 2]",)),
        ("['a', 1]", ("['a', 1]",)),
        ("[b'a']", ("[b'a']",)),
        ("[f'a']", ("[f'a']",)),
        ("['a' + 'b']", ("['a' + 'b']",)),
        ("['\\d']", ("\\d",)),
        ("['a", ("['a",)),
        ("{'a': 1}", ("{'a': 1}",)),
        ("[" * 5000 + "]" * 5000, ("[" * 5000 + "]" * 5000,)),
    ],
)
def test_lists_that_a_table_holds_as_text_are_captions(tmp_path: Path, cell: str, captions: tuple[str, ...]) -> None:
    record = only(tmp_path, {"file_name": "x.png", "text": cell})
    assert record.problem is None
    assert tuple(filter(None, (record.caption, *record.further))) == captions


def test_rows_with_very_many_columns_are_read(tmp_path: Path) -> None:
    row = {"file_name": "x.png", **{f"c{i}": 1 for i in range(20_000)}, "text": "a cat"}
    (tmp_path / "x.png").write_bytes(PNG)
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(3)))
    assert records(open_source(str(tmp_path)))[0].caption == "a cat"


def test_a_row_without_a_caption_says_which_columns_it_has(tmp_path: Path) -> None:
    record = only(tmp_path, {"file_name": "x.png", "tags": "1girl", "rating": "g"})
    assert record.found.startswith(
        "no caption in the columns file_name, tags, rating; name the columns (--image-column"
    )
    assert only(tmp_path, {"file_name": "x.png", "text": ""}).found == ""
    assert only(tmp_path, {"file_name": "x.png", "text": "a cat"}).found == ""


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["photo_file_name", "text"], ("photo_file_name",)),
        (["photoFileName", "url"], ("photoFileName",)),
        (["input_file_name", "edited_file_name"], ()),  # nobody knows which
        (["file_name", "mask_file_name"], ("file_name",)),
        (["filepath", "mask_file_name"], ("filepath",)),
        (["profile_name", "text"], ()),
    ],
)
def test_the_one_column_that_ends_as_hubs_let_it_end_is_the_picture(names: list[str], found: tuple[str, ...]) -> None:
    assert SourceColumns().pictures(names) == found


def test_lists_of_tags_are_one_caption_where_their_column_is_named() -> None:
    fields = {"tags": ["a cat", "red"], "keywords": ["one"], "text": ["a", "b"]}
    for name, caption, further in (("tags", "a cat, red", ()), ("keywords", "one", ()), ("text", "a", ("b",))):
        told = SourceColumns(caption=name).captions_of(fields, "long")
        assert (told.caption, told.further) == (caption, further)
    assert SourceColumns().captions_of({"tags": ["a cat"]}, "long").caption is None
