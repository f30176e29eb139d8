"""Tables of prompt and picture, in every form, and what is wrong in them by its row."""

import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity.evaluation.pictures.table import has_pictures, is_table, prompt_rows, read_table
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


@pytest.mark.parametrize(
    "content",
    [
        {"1.png": "a cat, red", "sub/2.jpg": "zwei Hündchen", "3.png": "a cat, red"},
        {"a cat, red": ["1.png", "3.png"], "zwei Hündchen": "sub/2.jpg"},
    ],
)
def test_an_object_by_file_or_by_prompt_is_a_table(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / "table.json").write_text(json.dumps(content))
    found = {(row.prompt, row.uri.removeprefix(f"{tmp_path}/")) for row in read_table(str(tmp_path / "table.json"))}
    assert found == {("a cat, red", "1.png"), ("a cat, red", "3.png"), ("zwei Hündchen", "sub/2.jpg")}


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
        ([*ROWS, {"prompt": "b", "file": " HTTPS://x.org/1.png"}], "row 3: expected the path of a file, found ' HTTPS"),
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


BEYOND_PYTHON = {
    "zone": pa.array([5], pa.timestamp("s", "nowhere")),
    "date": pa.array([2**31 - 1], pa.date32()),
    "duration": pa.array([2**62], pa.duration("s")),
    "text": pa.array([b"\xff"]).view(pa.string()),
}
"""Cells that a Parquet file can hold and Python cannot."""


@pytest.mark.parametrize("kind", BEYOND_PYTHON)
def test_a_cell_that_python_cannot_hold_is_one_sentence(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["a"], "file": ["a.png"], "taken": BEYOND_PYTHON[kind]}), file)
    with pytest.raises(ValueError, match="expected a table of prompt and file"):
        read_table(str(file))
    with pytest.raises(ValueError, match="expected a table of prompt and file"):
        PromptList(file=PinnedFile(uri=str(file))).read()


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_an_object_with_two_names_for_the_prompt_is_refused_as_a_header_is(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": "a cat"}, {"Prompt": "a dog", "prompt ": "a cow"}]
    text = json.dumps(rows) if ending == ".json" else "\n".join(map(json.dumps, rows))
    with pytest.raises(ValueError, match="expected one column prompt, found 2"):
        list(prompt_rows(text.encode(), f"p{ending}"))


def test_lists_of_prompts_alone_stay_lists() -> None:
    assert not has_pictures(b'["a", "b"]', "x.json")
    assert not has_pictures(b'{"prompt": "a", "id": 1}\n', "x.jsonl")
    assert not has_pictures(b"a cat\n", "x.txt")
    assert not has_pictures(b"{broken", "x.json")


def read(folder: Path, text: str, name: str = "table.csv") -> list[tuple[str, str]]:
    (folder / name).write_text(text, encoding="utf-8")
    start = len(str(folder)) + 1
    return [(row.prompt, row.uri[start:]) for row in read_table(str(folder / name))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,prompt\n1.png,a cup, red\n", "row 1: expected 2 cells as in the header, found 3; put texts that hold"),
        ("file,prompt\n1.png,a cup\n2.png,one, two, three\n", "row 2: expected 2 cells"),
        ("prompt,file,prompt\na,1.png,b\n", "line 1: expected one column prompt, found 2"),
        ("Prompt, prompt ,file\na,b,1.png\n", "line 1: expected one column prompt, found 2"),
        ("prompt,file\na,1.png\nb,./1.png\n", "row 2: the file './1.png' is there twice"),
        ("prompt,file\na,1.png\nb,x/../1.png\n", "row 2: the file 'x/../1.png' is there twice"),
        ('prompt,file\n"a,1.png\n', "line 2: expected a table of prompt and file"),
        ("prompt,file\na\n", "row 1: expected a text as file, found None"),
    ],
)
def test_no_text_is_cut_and_no_file_counts_twice(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(tmp_path, text)


def test_commas_quotes_and_line_breaks_in_quotation_marks_are_part_of_a_prompt(tmp_path: Path) -> None:
    text = 'prompt,file,seed\n"a cup, ""big"" and red",1.png,3,,\n"two\nlines",2.png,4\n\n'
    assert read(tmp_path, text) == [('a cup, "big" and red', "1.png"), ("two\nlines", "2.png")]


def test_a_file_is_found_by_any_usual_spelling_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    decomposed = unicodedata.normalize("NFD", "café.png")
    for name in ("x/1.png", decomposed, "2.png"):
        (tmp_path / name).write_bytes(b"")
    composed = unicodedata.normalize("NFC", "café.png")
    found = read(tmp_path, f"prompt\tfile\na\tx\\1.png\nb\t{composed}\nc\t 2.png \n", "table.tsv")
    assert [name for _, name in found] == ["x/1.png", decomposed, "2.png"]


def test_other_encodings_and_pictures_inside_a_table_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("prompt,file\nä,1.png\n".encode("utf-16"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        read_table(str(tmp_path / "t.csv"))
    pq.write_table(
        pa.table({"prompt": ["a"], "image": [{"bytes": b"x" * 9999, "path": "1.png"}]}), tmp_path / "t.parquet"
    )
    with pytest.raises(ValueError, match=r"found a picture inside the table; write it as a file$"):
        read_table(str(tmp_path / "t.parquet"))


def test_one_prompt_in_two_unicode_forms_is_one_prompt(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "a café") for form in ("NFC", "NFD"))
    read(tmp_path, f"prompt,file\n{one},1.png\n{other},2.png\n")
    assert [item.prompt for item in PromptList(file=PinnedFile(uri=str(tmp_path / "table.csv"))).read()] == [one]


@pytest.mark.parametrize(
    "text",
    [
        "prompt;file\na, b;1.png\n", 'sep=;\r\nprompt;file\r\n"a, b";1.png\r\n', "file\tprompt\n1.png\ta, b\n",
        '"sep=|"\nPrompt|Image Path\na, b|1.png\n', "Image-Path;Caption\n1.png;a, b\n",
    ],
)  # fmt: skip
def test_cells_are_separated_as_the_header_has_it_or_as_the_first_line_tells(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [("a, b", "1.png")]


def test_a_cell_too_many_is_told_with_semicolons_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1: expected 2 cells as in the header, found 3"):
        read(tmp_path, "file;prompt\n1.png;a cup; red\n")


def test_tables_of_prompts_alone_are_lists() -> None:
    assert not has_pictures(b"Prompt\tCategory\nbond\tAbstract\n", "PartiPrompts.tsv")
    assert has_pictures(b"Prompt;Image Path\na;1.png\n", "x.CSV")
    assert has_pictures(b'{"prompt": "a", "file": "1.png"}\n', "x.NDJSON")
