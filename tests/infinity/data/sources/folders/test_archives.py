"""A zip archive gives what its unpacked folder gives; what cannot be read in it is a row or a count, never silence."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.layouts.cases import Layout, outcome
from benchmarks.layouts.labelled import ALL_LAYOUTS
from benchmarks.layouts.packed import BESIDE, PACKED, encrypted, zip_bytes
from benchmarks.layouts.writers import NAMES, TEXTS, lines, picture
from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.checking import fetch
from infinity.data.sources.folders.archives import below
from infinity.data.sources.opening import fingerprint, open_source, roots_of
from infinity.data.sources.samples import Record, SourceError
from tests.infinity.data.sources.test_opening import check_laws, records

FOLDERS = [layout for layout in ALL_LAYOUTS if not layout.source and layout not in PACKED]


def pack(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder).as_posix())


def test_an_archive_gives_what_its_folder_gives(tmp_path: Path, exhaustive: bool) -> None:
    for number, layout in enumerate(FOLDERS if exhaustive else FOLDERS[::4]):
        folder = tmp_path / str(number)
        folder.mkdir()
        check_archive(folder, layout)


def check_archive(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "made").mkdir()
    layout.make(tmp_path / "made")
    pack(tmp_path / "made", tmp_path / "a.zip")
    expected = outcome(tmp_path / "made", layout)
    shutil.rmtree(tmp_path / "made")
    for source in ("a.zip", ""):
        found = outcome(tmp_path, replace(layout, source=source))
        assert found.is_as_expected(layout), (layout.name, found)
        if not layout.refused:
            assert found.told == expected.told, layout.name
            check_laws(open_source(str(tmp_path / source), columns=layout.columns))


@pytest.mark.parametrize(
    "layout",
    [each for each in PACKED if each.kept == each.rows == 3 and not each.refused],
    ids=lambda layout: layout.name,
)
def test_every_packed_picture_has_its_own_caption(tmp_path: Path, layout: Layout) -> None:
    layout.make(tmp_path)
    found = records(open_source(str(tmp_path / layout.source)))
    assert {fetch(each): each.caption for each in found} == {picture(i): text for i, text in enumerate(TEXTS)}


def test_the_last_entry_of_a_name_counts_and_earlier_ones_are_counted(tmp_path: Path) -> None:
    layout = next(each for each in PACKED if each.name == "zip: two of one name")
    layout.make(tmp_path)
    source = open_source(str(tmp_path / "pictures.zip"))
    assert picture(9) in {fetch(each) for each in records(source)}
    assert [str(each) for each in source.not_read] == [
        "1 earlier entries of an archive of which a later one has the same name, for example 1.png"
    ]


def test_names_that_lead_out_are_rows_with_a_reason_and_nothing_outside_is_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(7))
    (tmp_path / "source").mkdir()
    rows = [{"file_name": name, "text": "x"} for name in ("../../secret.png", f"{tmp_path}/secret.png", "0.png")]
    rows += [{"file_name": f"zip://{tmp_path}/other.zip!/0.png", "text": "x"}]
    (tmp_path / "other.zip").write_bytes(zip_bytes(BESIDE))
    content = {"0.png": picture(0), "metadata.jsonl": lines(rows), "../secret.png": picture(8)}
    (tmp_path / "source/a.zip").write_bytes(zip_bytes(content))
    for place in ("source/a.zip", "source"):
        found = records(open_source(str(tmp_path / place)))
        problems = [each.problem.reason if each.problem else None for each in found]
        assert problems == ["outside_source", "outside_source", None, "outside_source", "outside_source"]
        assert found[-1].name.endswith("../secret.png")


def problem_of(record: Record) -> str:
    try:
        fetch(record)
    except UnreadableError as error:
        return str(error)
    return ""


def test_an_encrypted_entry_says_so_whatever_it_is(tmp_path: Path) -> None:
    for name, content in (
        ("0.png", BESIDE),
        ("metadata.jsonl", {"metadata.jsonl": lines([{"file_name": "0.png", "text": "x"}]), **BESIDE}),
        ("a.parquet", {"a.parquet": b"PAR1", **BESIDE}),
        ("a.tar", {"a.tar": b"tar", **BESIDE}),
        ("a.csv", {"a.csv": "image,caption\n0.png,x\n", **BESIDE}),
        ("all.json", {"all.json": "[]", **BESIDE}),
        ("list.txt", {"list.txt": "0.png\tx\n", **BESIDE}),
    ):
        (tmp_path / "a.zip").write_bytes(encrypted(zip_bytes(content), name))
        source = open_source(str(tmp_path / "a.zip"))
        told = [problem for each in records(source) if (problem := problem_of(each))]
        told += [each.why for each in source.not_read]
        assert len(told) == 1, (name, told)
        assert "encrypted" in told[0] or "cannot be read" in told[0], (name, told)
        assert len(records(source)) + sum(each.number for each in source.not_read) == 3 + (name != "0.png")


def test_another_archive_is_another_source_and_a_copy_is_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    first.write_bytes(zip_bytes(BESIDE))
    second.write_bytes(first.read_bytes())
    assert fingerprint(str(first)) == fingerprint(str(second))
    second.write_bytes(zip_bytes({**BESIDE, "3.txt": "x"}))
    assert fingerprint(str(first)) != fingerprint(str(second))
    assert roots_of(str(first), ()) == (f"zip://{first}!",)


def test_an_archive_in_s3_gives_what_it_gives_on_a_disk(tmp_path: Path, s3_server: str) -> None:
    archive = encrypted(zip_bytes(BESIDE), NAMES[2])
    for uri in (str(tmp_path / "a.zip"), f"{s3_server}/a.zip"):
        storage.write_bytes(uri, archive)
        found = records(open_source(uri))
        assert [each.caption for each in found] == list(TEXTS)
        assert fetch(found[0]) == picture(0)
        with pytest.raises(Exception, match="encrypted"):
            fetch(found[2])
    assert [each.caption for each in records(open_source(s3_server))] == list(TEXTS)


def test_what_is_no_archive_or_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        open_source(str(tmp_path / "a.zip"))
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises((SourceError, storage.StorageError), match="expected a zip archive"):
        open_source(str(tmp_path / "a.zip"))


def test_names_are_relative_to_the_folder_that_was_given() -> None:
    assert below("zip:///a.zip!", "zip:///a.zip!/b/c.png") == "b/c.png"
    assert below("/data/", "/elsewhere/c.png") == "/elsewhere/c.png"
