"""Tables of prompt and picture, in every form, and what is wrong in them by its row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity.evaluation.pictures.table import has_pictures, is_table, read_table
from infinity.evaluation.prompts.lists import PromptList
from infinity.storage.pinned import PinnedFile

ROWS = [{"prompt": "a cat, red", "file": "1.png"}, {"prompt": "zwei Hündchen", "file": "sub/2.jpg"}]


def write(folder: Path, ending: str, rows: list[dict[str, str]]) -> str:
    path = folder / f"table{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == ".json":
        path.write_text(json.dumps(rows))
    else:
        comma = "," if ending == ".csv" else "\t"
        lines = [comma.join(rows[0]), *(comma.join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_form_says_the_same_and_is_a_list_of_prompts_too(tmp_path: Path, ending: str) -> None:
    uri = write(tmp_path, ending, [*ROWS, {"prompt": "a cat, red", "file": "3.png"}])
    assert is_table(uri)
    assert [(row.prompt, row.uri) for row in read_table(uri)] == [
        ("a cat, red", str(tmp_path / "1.png")),
        ("zwei Hündchen", str(tmp_path / "sub/2.jpg")),
        ("a cat, red", str(tmp_path / "3.png")),
    ]
    items = PromptList(file=PinnedFile(uri=uri)).read()
    assert [(item.id, item.prompt) for item in items] == [("00000", "a cat, red"), ("00001", "zwei Hündchen")]


@pytest.mark.parametrize("names", [("caption", "path"), ("Text", "image"), ("prompt", "file_name")])
def test_usual_names_of_columns_will_do(tmp_path: Path, names: tuple[str, str]) -> None:
    uri = write(tmp_path, ".csv", [dict(zip(names, ("a dog", "/elsewhere/1.png"), strict=True))])
    assert read_table(uri)[0].uri == "/elsewhere/1.png"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"prompt": "a", "score": "1"}], "row 1: expected a column file or path or image, found prompt, score"),
        ([{"title": "a", "file": "1.png"}], "expected a column prompt or caption or text"),
        ([*ROWS, {"prompt": "", "file": "x.png"}], "row 3: expected a text as prompt"),
        ([*ROWS, {"prompt": "other", "file": "1.png"}], "row 3: the file '1.png' is there twice"),
    ],
)
def test_what_is_wrong_is_named_by_its_row(tmp_path: Path, rows: list[dict[str, str]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_table(write(tmp_path, ".csv", rows))


@pytest.mark.parametrize(
    ("ending", "text"), [(".json", '{"prompt": "a"}'), (".parquet", "x"), (".json", "[3]"), (".csv", "")]
)
def test_what_is_no_table_is_refused(tmp_path: Path, ending: str, text: str) -> None:
    (tmp_path / f"t{ending}").write_text(text)
    with pytest.raises(ValueError, match=r"expected (a table|rows|an object)"):
        read_table(str(tmp_path / f"t{ending}"))


def test_lists_of_prompts_alone_stay_lists() -> None:
    assert not has_pictures(b'["a", "b"]', "x.json")
    assert not has_pictures(b'{"prompt": "a", "id": 1}\n', "x.jsonl")
    assert not has_pictures(b"a cat\n", "x.txt")
    assert not has_pictures(b"{broken", "x.json")
