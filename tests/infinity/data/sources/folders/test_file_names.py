"""Names that another system wrote are matched with the files that are there, where exactly one fits."""

import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import open_source
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.infinity.data.sources.test_opening import check_laws, records

DATA = encoded(noise(seed=1))
ACCENTS = "Crème Brûlée"


def found(folder: Path, table: str = "metadata.jsonl") -> list[tuple[str | None, bytes | None]]:
    source = open_source(str(folder if table.startswith("metadata") else folder / table))
    check_laws(source)
    return [
        (record.caption, fetch(record) if Path(str(record.image)).is_file() else None) for record in records(source)
    ]


def laid(folder: Path, file: str, name: str, table: str = "metadata.jsonl") -> Path:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(DATA)
    row = {"file_name": name, "text": "a cat"}
    if table.endswith(".jsonl"):
        (folder / table).write_text(json.dumps(row) + "\n")
    elif table.endswith(".csv"):
        (folder / table).write_text(f"file_name,text\n{name},a cat\n")
    else:
        pq.write_table(pa.table({"path": [name], "text": ["a cat"]}), folder / table)
    return folder


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv", "rows.jsonl", "rows.csv", "rows.parquet"])
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/b/x.png", "a\\b\\x.png"),
        ("a/x.png", ".\\a\\x.png"),
        ("a/x.png", "a\\b\\..\\x.png"),
        ("a\\x.png", "a\\x.png"),
    ],
)
def test_backslashes_separate_folders_unless_a_file_has_the_name(
    tmp_path: Path, table: str, file: str, name: str
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert found(laid(tmp_path, file, name, table), table) == [("a cat", DATA)]


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize(
    ("file", "name"),
    [
        (unicodedata.normalize("NFD", f"{ACCENTS}.png"), f"{ACCENTS}.png"),
        (f"{ACCENTS}.png", unicodedata.normalize("NFD", f"{ACCENTS}.png")),
        (f"{ACCENTS}/X.PNG", unicodedata.normalize("NFD", f"{ACCENTS}/x.png")),
        ("Images/Cat.JPG", "images/cat.jpg"),
        ("images/cat.jpg", "IMAGES\\CAT.JPG"),
        ("Straße.png", "STRASSE.png"),
    ],
)
def test_accents_and_capitals_match_where_one_file_fits(tmp_path: Path, table: str, file: str, name: str) -> None:
    assert found(laid(tmp_path, file, name, table), table) == [("a cat", DATA)]


def test_a_name_that_fits_two_files_fits_none(tmp_path: Path) -> None:
    laid(tmp_path, "Cat.png", "CAT.png")
    (tmp_path / "cat.png").write_bytes(DATA)
    assert [caption for caption, _ in found(tmp_path)] == ["a cat", None, None]
    assert found(tmp_path)[0] == ("a cat", None)


def test_an_exact_name_counts_more_than_a_likeness(tmp_path: Path) -> None:
    laid(tmp_path, "cat.png", "cat.png")
    (tmp_path / "Cat.png").write_bytes(encoded(noise(seed=2)))
    assert found(tmp_path)[0] == ("a cat", DATA)


def test_backslashes_that_climb_lead_out_like_slashes(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(DATA)
    folder = laid(tmp_path / "in", "x.png", "..\\secret.png")
    assert [r.problem and r.problem.reason for r in records(open_source(str(folder)))] == ["outside_source", None]


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv", "rows.parquet"])
@pytest.mark.parametrize(
    ("file", "name"),
    [("my cat.png", "my%20cat.png"), ("a/b#c.png", "a/b%23c.png"), ("50%.png", "50%25.png"), ("é.png", "%C3%A9.png"),
     ("x.png", "x.png "), ("a/x.png", "a/x.png  "), ("Cat.PNG", "cat.png ")],
)  # fmt: skip
def test_names_quoted_as_addresses_and_with_blanks_behind_them_match(
    tmp_path: Path, table: str, file: str, name: str
) -> None:
    laid(tmp_path, file, name, table)
    (record,) = records(open_source(str(tmp_path)))
    assert (record.problem, fetch(record), record.caption) == (None, DATA, "a cat")


def test_a_file_that_has_the_quoted_name_counts_more(tmp_path: Path) -> None:
    laid(tmp_path, "a%20b.png", "a%20b.png")
    (tmp_path / "a b.png").write_bytes(b"another")
    assert found(tmp_path)[0] == ("a cat", DATA)


def test_file_addresses_name_files_of_the_source_alone(tmp_path: Path) -> None:
    laid(tmp_path / "in", "my cat.png", f"file://{tmp_path}/in/my%20cat.png")
    (tmp_path / "secret.png").write_bytes(b"secret")
    assert found(tmp_path / "in") == [("a cat", DATA)]
    (tmp_path / "in" / "metadata.jsonl").write_text(
        json.dumps({"file_name": f"file://{tmp_path}/secret.png", "text": "a cat"}) + "\n"
    )
    first = records(open_source(str(tmp_path / "in")))[0]
    assert first.problem is not None
    assert first.problem.reason == "outside_source"


def test_of_files_that_end_with_a_name_the_one_below_a_folder_of_the_tables_name_is_meant(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "images" / split / "0.png").write_bytes(encoded(noise(seed=number)))
        (tmp_path / f"captions_{split}.csv").write_text(f"file_name,text\n0.png,{split}\n")
    (tmp_path / "captions.csv").write_text("file_name,text\n0.png,neither\n")
    told = {record.caption: record.image for record in records(open_source(str(tmp_path)))}
    assert told["train"] == f"{tmp_path}/images/train/0.png"
    assert told["val"] == f"{tmp_path}/images/val/0.png"
    assert told["neither"] == f"{tmp_path}/0.png"
