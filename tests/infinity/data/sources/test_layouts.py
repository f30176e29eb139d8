"""Every layout that people have is read or refused in a sentence, and no row is lost in silence, however forms mix."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.layouts.addressed import ADDRESSED
from benchmarks.layouts.cases import Layout, outcome
from benchmarks.layouts.further import FURTHER
from benchmarks.layouts.labelled import ALL_LAYOUTS
from benchmarks.layouts.odd import ODD
from benchmarks.layouts.published import PUBLISHED
from benchmarks.layouts.tools import TOOLS
from benchmarks.layouts.trainers import TRAINERS
from benchmarks.layouts.writers import NAMES, TEXTS, arrow, lines, picture, pictures, separated, shard, structs
from infinity import storage
from infinity.data.curation.decisions import decide
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import FilterConfig
from infinity.data.sources.checking import fetch
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.opening import fingerprint, open_source
from infinity.data.sources.samples import SourceError
from tests.infinity.data.sources.test_opening import check_laws, records


@pytest.mark.parametrize("layout", ALL_LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_is_read_or_refused_in_a_sentence(tmp_path: Path, layout: Layout) -> None:
    layout.make(tmp_path)
    found = outcome(tmp_path, layout)
    assert found.is_as_expected(layout), found
    if not layout.refused:
        check_laws(open_source(str(tmp_path / layout.source), columns=layout.columns))


OTHER_WORDS = (
    "hub: Parquet of classes, the column named",
    "gallery-dl: JSON of tags, the column named",
    "hydrus: a tag per line",
    "prompts in PNG texts",
)
"""Layouts whose captions are not those of the others."""


@pytest.mark.parametrize(
    "layout",
    [
        each
        for each in (*ODD, *TOOLS, *PUBLISHED, *TRAINERS, *ADDRESSED, *FURTHER)
        if each.kept == each.rows == 3 and not each.refused and each.name not in OTHER_WORDS
    ],
    ids=lambda layout: layout.name,
)
def test_every_picture_has_its_own_caption(tmp_path: Path, layout: Layout) -> None:
    layout.make(tmp_path)
    source = open_source(str(tmp_path / layout.source), columns=layout.columns)
    found = [each for each in records(source) if each.caption and not each.problem]
    wanted = {picture(i, format): text for i, text in enumerate(TEXTS) for format in ("PNG", "JPEG")}
    assert len({fetch(each) for each in found}) == 3
    for each in found:
        assert all(text.startswith(wanted[fetch(each)]) for text in (str(each.caption), *each.further))


def test_there_are_enough_layouts_and_each_has_a_name_of_its_own() -> None:
    assert len({layout.name for layout in ALL_LAYOUTS}) == len(ALL_LAYOUTS) >= 45


Part = Callable[[Path, str], int]
"""Writes rows of a form, whose files have a name of their own; the number of rows that lie there then."""


def _jsonl(folder: Path, name: str) -> int:
    pictures(folder, [f"{name}.png"])
    rows = [{"file_name": f"{name}.png", "text": "one"}, {"file_name": f"{name}.png", "text": "two"}, {"file_name": 7}]
    (folder / f"{name}.jsonl").write_text(lines(rows))
    return 3


def _csv(folder: Path, name: str) -> int:
    pictures(folder, [f"{name}.png"])
    rows = [{"image": f"{name}.png", "caption": "one"}, {"image": "absent.png", "caption": "two"}]
    (folder / f"{name}.csv").write_bytes(separated(rows).encode("utf-16"))
    return 2


def _array(folder: Path, name: str) -> int:
    pictures(folder, [f"{name}.png"])
    (folder / f"{name}s.json").write_text(json.dumps([{"image": f"{name}.png", "caption": "one"}, "no object"]))
    return 2


def _beside(folder: Path, name: str) -> int:
    pictures(folder, [f"{name}.png", f"{name}b.png"])
    (folder / f"{name}.txt").write_text("a caption")
    return 2


def _shard(folder: Path, name: str) -> int:
    shard(f"{name}.tar", extra=[("zz.txt", b"no picture")])(folder)
    return 4


def _arrow(folder: Path, name: str) -> int:
    arrow("stream", {"image": structs(), "text": list(TEXTS)}, name)(folder)
    return 5


def _notes(folder: Path, name: str) -> int:
    (folder / f"{name}.md").write_text("about the pictures")
    (folder / f"{name}.txt").write_text("a text of no picture")
    (folder / f"{name}.jsonl").write_text('{"score": 1}\n')
    (folder / f"._{name}.png").write_bytes(b"")
    return 4


def _broken(folder: Path, name: str) -> int:
    (folder / f"{name}.parquet").write_bytes(b"no Parquet")
    (folder / f"{name}.arrow").write_bytes(b"no Arrow")
    (folder / f"{name}.json").write_text("{no JSON")
    return 3


PARTS: tuple[Part, ...] = (_jsonl, _csv, _array, _beside, _shard, _arrow, _notes, _broken)


@settings(max_examples=20, deadline=None)
@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=6),
    deep=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_rows_read_and_rows_named_as_not_read_are_all_rows_that_lie_there(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Part], deep: list[bool]
) -> None:
    folder, number = tmp_path_factory.mktemp("mixed"), 0
    for index, (part, is_deep) in enumerate(zip(parts, deep, strict=False)):
        place = folder / f"deep{index}" if is_deep else folder
        place.mkdir(exist_ok=True)
        number += part(place, f"p{index}")
    try:
        source = open_source(str(folder), rows_per_slice=2)
    except SourceError:
        assert set(parts) <= {_notes, _broken}  # nothing there can be read
        return
    assert len(records(source)) + sum(each.number for each in source.not_read) == number
    check_laws(source)


def test_captions_in_rows_of_their_own_are_captions_of_one_picture(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    rows = [{"file_name": "1.png", "text": text} for text in ("a", "b", "a", "c")]
    rows.insert(2, {"file_name": "./0.png", "text": "other"})
    (tmp_path / "t.csv").write_text(separated(rows))
    for source in (open_source(str(tmp_path), rows_per_slice=2), open_source(str(tmp_path / "t.csv"))):
        told = [(storage.name(str(r.image)), r.caption, r.further) for r in records(source) if r.caption]
        assert told == [("1.png", "a", ("b", "c")), ("0.png", "other", ()), ("1.png", "a", ())]
        assert source.not_read[0].number == 2  # the row that repeats one stays, as a duplicate
        check_laws(source)
    apart = records(open_source(str(tmp_path / "t.csv"), joins=False))
    assert [(r.caption, r.further) for r in apart] == [(text, ()) for text in ("a", "b", "other", "a", "c")]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_files_give_the_rows_of_all_batches_from_disk_and_s3(tmp_path: Path, s3_server: str, kind: str) -> None:
    content = {"image": structs() * 2, "text": pa.array([*TEXTS, *TEXTS]).dictionary_encode(), "other": range(6)}
    plain = {"image": [each["bytes"] for each in structs()], "prompt": list(TEXTS)}
    arrow(kind, content, "a")(tmp_path)
    arrow(kind, plain, "b")(tmp_path)
    storage.upload_folder(tmp_path, f"{s3_server}/{kind}")
    for place in (str(tmp_path), f"{s3_server}/{kind}"):
        source = open_source(place)
        assert source.kind == "Arrow"
        assert [record.caption for record in records(source)] == [*TEXTS, *TEXTS, *TEXTS]
        assert [fetch(record) for record in records(source)] == [picture(i) for i in (0, 1, 2) * 3]
        check_laws(source)


@pytest.mark.parametrize("cut", [1, 60, 400])
def test_a_damaged_arrow_file_is_named(tmp_path: Path, cut: int) -> None:
    arrow("stream", {"image": structs(), "text": list(TEXTS)})(tmp_path)
    path = tmp_path / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-cut] if cut > 1 else b"\0" * 100)
    with pytest.raises(SourceError, match=r"\.arrow: expected an Arrow file"):
        open_source(str(path))


def test_names_are_looked_for_elsewhere_only_where_the_whole_table_lies_elsewhere(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/0.png", "a/1.png", "b/2.png"])
    (tmp_path / "a" / "t.csv").write_text("file_name,text\n0.png,zero\n2.png,two\n")
    found = {record.caption: record.image for record in records(open_source(str(tmp_path)))}
    assert found["two"] == f"{tmp_path}/a/2.png"  # which is missing, and not the picture of another folder
    (tmp_path / "a" / "t.csv").unlink()
    (tmp_path / "t.csv").write_text("file_name,text\n0.png,zero\n2.png,two\n")
    found = {record.caption: record.image for record in records(open_source(str(tmp_path)))}
    assert (found["zero"], found["two"]) == (f"{tmp_path}/a/0.png", f"{tmp_path}/b/2.png")


def test_a_name_that_several_files_end_with_is_none_of_them(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/0.png", "b/0.png", "b/1.png"])
    (tmp_path / "t.csv").write_text("file_name,text\n0.png,zero\n1.png,one\n")
    found = {record.caption: record.image for record in records(open_source(str(tmp_path)))}
    assert (found["zero"], found["one"]) == (f"{tmp_path}/0.png", f"{tmp_path}/b/1.png")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("rows_per_slice", [1, 64])
def test_tables_in_utf_16_give_their_rows_from_any_slice(tmp_path: Path, encoding: str, rows_per_slice: int) -> None:
    marks = {"utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
    captions = ["ein Kätzchen", "猫\u0a0aਊ", 'two\nlines, "quoted"', "🦆" * 40]  # U+0A0A holds the bytes of a line feed
    rows = [{"file_name": f"{i}.png", "text": text} for i, text in enumerate(captions)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_bytes(marks[encoding] + text.encode(encoding))
    quoted = ['"' + text.replace('"', '""') + '"' for text in captions]
    table = "file_name,text\r\n" + "".join(f"{i}.png,{text}\r\n" for i, text in enumerate(quoted))
    (tmp_path / "rows.csv").write_bytes(marks[encoding] + table.encode(encoding))
    for name in ("rows.jsonl", "rows.csv"):
        source = open_source(str(tmp_path / name), rows_per_slice=rows_per_slice)
        assert [record.caption for record in records(source)] == captions
        check_laws(source)


def test_a_fingerprint_follows_the_pictures_that_a_document_names(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    document = tmp_path / "data.json"
    document.write_text(json.dumps([{"image": name, "caption": "x"} for name in NAMES]))
    before = fingerprint(str(document))
    (tmp_path / "1.png").write_bytes(picture(9))
    assert fingerprint(str(document)) != before


def test_a_document_of_other_columns_is_read_where_they_are_named(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    (tmp_path / "data.json").write_text(json.dumps([{"pic": name, "blurb": "x"} for name in NAMES]))
    with pytest.raises(SourceError, match=r"data\.json: expected an array of captioned pictures"):
        open_source(str(tmp_path / "data.json"))
    source = open_source(str(tmp_path / "data.json"), columns=SourceColumns(picture="pic", caption="blurb"))
    assert [record.caption for record in records(source)] == ["x"] * 3


def test_a_document_that_is_too_large_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity.data.sources.tables.held_rows.MAX_DOCUMENT_BYTES", 10)
    (tmp_path / "data.json").write_text(json.dumps([{"image": "0.png", "caption": "x"}], indent=1))
    with pytest.raises(SourceError, match="write it as JSON lines"):
        open_source(str(tmp_path / "data.json"))


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".git/old", "@eaDir", "__MACOSX", "$RECYCLE.BIN"])
def test_what_lies_in_a_hidden_folder_is_named_and_takes_no_part(tmp_path: Path, hidden: str) -> None:
    root = tmp_path / ".cache" / "set"  # where the source itself lies does not matter
    pictures(root, [*NAMES, f"{hidden}/0.png"])
    (root / "t.csv").write_text(separated([{"image": name, "caption": "new"} for name in NAMES]))
    (root / hidden / "a.csv").write_text(separated([{"image": name, "caption": "old"} for name in NAMES]))
    source = open_source(str(root))
    assert [record.caption for record in records(source)] == ["new"] * 3
    assert [(each.why, each.number) for each in source.not_read] == [("hidden files", 2)]
    (root / "t.csv").write_text(separated([{"image": f"{hidden}/0.png", "caption": "wanted"}]))
    assert [r.caption for r in records(open_source(str(root / "t.csv")))] == ["wanted"]


def test_lists_of_addresses_beside_what_was_downloaded_are_named_and_not_read_twice(tmp_path: Path) -> None:
    (layout,) = (each for each in PUBLISHED if each.name == "DataComp: metadata beside shards")
    layout.make(tmp_path)
    source = open_source(str(tmp_path))
    assert [record.caption for record in records(source)] == list(TEXTS)
    told = {each.why: (each.number, each.example) for each in source.not_read}
    assert told["lists of addresses whose pictures were downloaded and lie beside them"] == (1, "metadata/0a1b.parquet")
    for shard_file in (tmp_path / "shards").iterdir():
        shard_file.unlink()
    assert open_source(str(tmp_path)).kind == "URL list"  # without the pictures the list is the source


@pytest.mark.parametrize("name", ["urls.jsonl", "urls.json"])
def test_addresses_without_captions_are_refused_before_any_is_asked(tmp_path: Path, name: str) -> None:
    rows = [{"url": f"https://example.com/{i}.jpg", "width": 9} for i in range(3)]
    (tmp_path / name).write_text(lines(rows) if name.endswith("l") else json.dumps(rows))
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(
            SourceError, match=f"{name}: no captions at all: .*the columns url, width; name the columns"
        ):
            open_source(str(place))
    rows[2]["caption"] = "a cat"
    (tmp_path / name).write_text(lines(rows) if name.endswith("l") else json.dumps(rows))
    assert open_source(str(tmp_path)).kind == "URL list"


@pytest.mark.parametrize(("name", "text"), [("t.csv", "file_name,text\n0.png,{}\n"), ("0.txt", "{}"),
                                            ("t.jsonl", '{{"file_name": "0.png", "text": "{}"}}\n')])  # fmt: skip
@pytest.mark.parametrize(
    ("encoding", "caption"), [("cp1252", "schöne Katze"), ("shift_jis", "赤い猫"), ("gb18030", "红猫")]
)
def test_texts_in_other_encodings_say_where_and_what_to_do(
    tmp_path: Path, name: str, text: str, encoding: str, caption: str
) -> None:
    pictures(tmp_path, ["0.png"])
    (tmp_path / name).write_bytes(text.format(caption).encode(encoding))
    problems = [str(each.problem) for each in records(open_source(str(tmp_path))) if each.problem]
    assert len(problems) == 1
    assert "not UTF-8: byte 0x" in problems[0]
    assert problems[0].endswith("; save it as UTF-8")


def test_classes_without_a_number_have_no_caption(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    content = pa.table({"image": [picture(i) for i in range(4)], "label": [1, -1, None, 7]})
    pq.write_table(content.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "t.parquet")
    source = open_source(str(tmp_path), columns=SourceColumns(caption="label"))
    assert [record.caption for record in records(source)] == ["dog", None, None, None]


def test_a_link_to_nothing_is_a_row_with_a_reason(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    (tmp_path / "t.csv").write_text(separated([{"image": name, "caption": "x"} for name in NAMES]))
    (tmp_path / "gone.png").symlink_to(".git/annex/objects/gone")
    (tmp_path / "gone.txt").write_text("a caption")
    *good, link = records(open_source(str(tmp_path)))
    assert [record.problem for record in good] == [None] * 3
    assert (link.name, link.problem.reason) == ("gone.png", "outside_source")  # type: ignore[union-attr]
    assert "or to nothing" in str(link.problem)


def test_pictures_beside_a_list_of_addresses_are_named(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    (tmp_path / "list.csv").write_text("url,caption\nhttps://example.com/0.png,a cat\n")
    source = open_source(str(tmp_path))
    assert source.kind == "URL list"
    assert [(each.why, each.number) for each in source.not_read] == [
        ("pictures without a caption beside a list of addresses", 3)
    ]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.csv", "x.zip", "x.tar"])
def test_a_pointer_of_git_lfs_says_how_to_get_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"
    )
    told = "a pointer of Git LFS in the place of the file; fetch the files with git lfs pull"
    for source in (tmp_path, tmp_path / name):
        if name == "x.tar":
            assert str(records(open_source(str(source)))[0].problem) == f"bad file: {told}"
        elif not (name == "x.zip" and source != tmp_path):
            with pytest.raises(SourceError, match=f"{name}: {told}"):
                open_source(str(source))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("webdataset with packed texts", "0.png (40 x 40): '', no caption in 0.png, 0.txt.gz"),
        ("webdataset with classes", "0.png (40 x 40): '', no caption in 0.png, 0.cls"),
        ("JSON of tags by name", "0.png (40 x 40): '', no caption in the columns tags, rating, file_name; name the"),
    ],
)
def test_a_picture_without_a_caption_tells_what_lies_in_its_place(tmp_path: Path, name: str, told: str) -> None:
    (layout,) = (each for each in TOOLS if each.name == name)
    layout.make(tmp_path)
    facts = pa.concat_tables([measure_slice(piece, 10**6).facts for piece in open_source(str(tmp_path)).slices])
    decisions = decide(facts, FilterConfig())
    assert told in decisions.tally.examples["caption_missing"][0]
    assert all(detail.startswith("no caption in ") for detail in decisions.dropped["detail"].to_pylist())
