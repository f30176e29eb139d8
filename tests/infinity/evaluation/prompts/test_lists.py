"""Lists of prompts: the published forms, ids and categories, and every broken line by its number."""

import json
from pathlib import Path

import pytest

from infinity.evaluation.prompts.lists import PromptList, describe, read_lists
from infinity.storage import StorageError
from infinity.storage.pinned import PinnedFile, PinnedFileError


def prompt_list(path: Path, text: str | bytes, category: str | None = None) -> PromptList:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return PromptList(file=PinnedFile(uri=str(path)), category=category)


def test_text_json_lines_and_json_give_the_same_prompts(tmp_path: Path) -> None:
    prompts = ["a cup", "two\u2028dogs", "ein Hörnchen"]
    forms = {
        "a.txt": "\n".join(prompts) + "\n",
        "b.txt": "\r\n".join(prompts),
        "c.jsonl": "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts),
        "d.jsonl": "\n".join(json.dumps(prompt) for prompt in prompts),
        "e.json": json.dumps(prompts),
        "f.json": json.dumps([{"prompt": prompt, "more": 1} for prompt in prompts], indent=2),
        "G.JSONL": "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts),
        "h.ndjson": "".join(json.dumps(prompt) + "\n" for prompt in prompts),
        "I.Json": json.dumps(prompts),
        "l.txt": "\n".join(prompts) + "\n\n \n",
        "m.csv": "Prompts,Category\n" + "".join(f"{prompt},\n" for prompt in prompts),
        "n.csv": "prompt_en,class\n" + "".join(f"{prompt},x\n" for prompt in prompts),
        "o.tsv": "class\tprompt_cn\n" + "".join(f"x\t{prompt}\n" for prompt in prompts),
        "j.csv": "\ufeffPrompt;Challenge\r\n" + "".join(f"{prompt};Basic\r\n" for prompt in prompts),
        "K.TSV": "Note\tPrompt\n" + "".join(f"\t{prompt}\n" for prompt in prompts),
    }
    for name, text in forms.items():
        items = prompt_list(tmp_path / name, text).read()
        assert [item.prompt for item in items] == prompts
        assert [item.id for item in items] == ["00000", "00001", "00002"]


def test_ids_and_categories_are_kept_and_tell_files_apart(tmp_path: Path) -> None:
    one = prompt_list(tmp_path / "a.json", json.dumps([{"id": "x-1", "prompt": "cup"}, {"id": 7, "prompt": "dog"}]))
    assert [item.id for item in one.read()] == ["x-1", "7"]
    lines = '{"prompt": "cat", "category": "photo"}\n{"prompt": "bench"}\n'
    styles = [prompt_list(tmp_path / "b.jsonl", lines, "anime"), prompt_list(tmp_path / "c.txt", "cup", "concept-art")]
    items = read_lists(styles, None)
    assert [item.id for item in items] == ["photo/00000", "anime/00001", "concept-art/00000"]
    assert [item.about["category"] for item in items] == ["photo", "anime", "concept-art"]


def test_a_part_is_spread_over_every_category(tmp_path: Path) -> None:
    lists = [prompt_list(tmp_path / f"{name}.txt", "\n".join(f"{name} {n}" for n in range(9)), name) for name in "ab"]
    items = read_lists(lists, 3)
    assert [item.prompt for item in items] == ["a 0", "a 3", "a 6", "b 0", "b 3", "b 6"]
    assert describe(items) != describe(items[::-1])
    assert describe(items).startswith("6 prompts ")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "expected prompts, found none"),
        ("a.txt", " \n \n", "expected prompts, found none"),
        ("a.txt", "cup\n\ndog\n", r"a\.txt, line 2: expected a prompt, found an empty line"),
        ("a.txt", b"cup\nd\xffg", "expected UTF-8, found byte 0xff"),
        ("a.txt", '{"prompt": "cup"}\n{"prompt": "dog"}\n', r"a\.txt: expected one prompt per line, found JSON"),
        ("prompts", '[\n"cup", "dog"]', "found JSON; name the file .jsonl"),
        ("a.txt", b'\xef\xbb\xbf["cup", "dog"]', "found JSON"),
        ("a.csv", "title,more\ncup,1\n", r"a\.csv, row 1: expected a column prompt or caption"),
        ("a.csv", "prompt,more\n,1\n", r"a\.csv, row 1: expected a text as prompt, found ''"),
        ("a.jsonl", '{"prompt": "cup"}\n{"prompt": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"prompt": "cup"}\n{"text": "dog"}\n', r"a\.jsonl, line 2: expected a prompt"),
        ("a.jsonl", '{"prompt": " "}\n', r"a\.jsonl, line 1: expected a prompt"),
        ("a.jsonl", '{"prompt": "cup", "id": [1]}\n', r"a\.jsonl, line 1: expected texts as id"),
        ("a.jsonl", "3\n", r"a\.jsonl, line 1: expected .* or a text, found '3'"),
        ("a.json", "[]", "expected prompts, found none"),
        ("a.json", '["cup", null]', r"a\.json, entry 2: expected"),
        ("a.json", '{"prompt": "cup"}', r"a\.json: expected a list of prompts, .* found dict"),
        ("a.json", "[", r"a\.json: not valid JSON"),
        ("a.json", '[{"id": 1, "prompt": "a"}, {"id": "1", "prompt": "b"}]', r"entry 2: the id '1' is there twice"),
    ],
)
def test_broken_lists_are_named_by_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_list(tmp_path / name, text).read()


def test_files_that_are_not_there_or_clash_are_refused(tmp_path: Path) -> None:
    one, two = prompt_list(tmp_path / "a.txt", "cup"), prompt_list(tmp_path / "b.txt", "dog")
    with pytest.raises(ValueError, match=r"b\.txt: the id '00000' is in another list too"):
        read_lists([one, two], None)
    with pytest.raises(ValueError, match="names of their own, got 'overall'"):
        read_lists([one.replace(category="Overall")], None)
    with pytest.raises(ValueError, match="names of their own, got 'a_b'"):
        read_lists([one.replace(category="a b"), two.replace(category="a-b")], None)
    with pytest.raises(ValueError, match="at least one list"):
        read_lists([], None)
    with pytest.raises(StorageError, match=r"nowhere\.txt"):
        PromptList(file=PinnedFile(uri=str(tmp_path / "nowhere.txt"))).read()
    with pytest.raises(PinnedFileError, match="expected sha256 00000000"):
        one.replace(file=one.file.replace(sha256="00000000")).read()


def test_a_published_table_of_prompts_keeps_ids_and_categories(tmp_path: Path) -> None:
    text = 'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tx\n"a cup, red"\tFood\tBasic\t\n'
    items = prompt_list(tmp_path / "PartiPrompts.tsv", text).read()
    assert [(item.id, item.prompt) for item in items] == [("Abstract/00000", "bond"), ("Food/00001", "a cup, red")]
    assert [item.id for item in prompt_list(tmp_path / "a.csv", "ID,caption\nx-1,cup\nx-2,dog\n").read()] == [
        "x-1",
        "x-2",
    ]
    plain = prompt_list(tmp_path / "b.txt", "{a} [b]\n[tilted] cup\n{a: 1}\n").read()
    assert [item.prompt for item in plain] == ["{a} [b]", "[tilted] cup", "{a: 1}"]


def test_lists_of_other_benchmarks_are_read_as_they_are_published(tmp_path: Path) -> None:
    forms = {
        "genai.json": {
            "00007": {"id": "00007", "prompt": "a cup", "models": {"X": [4, 5]}},
            "9": {"prompt": "two dogs"},
        },
        "cvtg.json": {
            "name": "2-areas",
            "data_list": [{"id": "00007", "prompt": "a cup"}, {"id": 9, "prompt": "two dogs"}],
        },
        "wise.json": [{"prompt_id": "00007", "Prompt": "a cup"}, {"Prompt_ID": 9, "PROMPT": "two dogs"}],
        "by_id.json": {"00007": "a cup", "9": "two dogs"},
        "coco.json": [{"id": "00007", "caption": "a cup"}, {"id": 9, "caption": "two dogs"}],
    }
    for name, content in forms.items():
        items = prompt_list(tmp_path / name, json.dumps(content)).read()
        assert [(item.id, item.prompt) for item in items] == [("00007", "a cup"), ("9", "two dogs")], name


@pytest.mark.parametrize("text", ['{"a": 1}', '{"a": [], "b": []}', "{}", "3"])
def test_an_object_without_one_list_of_prompts_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="expected a list of prompts, an object with one such list, or objects with"):
        prompt_list(tmp_path / "a.json", text).read()


def test_two_fields_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one column prompt, found 2"):
        prompt_list(tmp_path / "a.json", '[{"prompt": "a", "Prompt": "b"}]').read()
