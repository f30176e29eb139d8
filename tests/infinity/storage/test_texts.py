"""The byte order mark that some editors put before a text is no part of it, whatever the text is for."""

import codecs
from pathlib import Path

import pytest

from infinity import storage
from infinity.config import ConfigError
from infinity.data.curation.decontamination import read_prompts
from infinity.data.curation.takedown import load_takedown
from infinity.generation.watermark.key import read_watermark_key

MARK = codecs.BOM_UTF8
HASH = "ab" * 32


def written(path: Path, text: str) -> str:
    """Write a text as an editor on Windows does, and return its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(MARK + text.replace("\n", "\r\n").encode())
    return str(path)


def test_one_mark_is_skipped_and_what_stands_inside_stays(tmp_path: Path) -> None:
    assert storage.read_text(written(tmp_path / "a", "\ufeffa\ufeff")) == "\ufeffa\ufeff"
    assert storage.read_text(written(tmp_path / "b", "")) == ""
    (tmp_path / "c").write_bytes(MARK + b"a\xff")
    with pytest.raises(storage.StorageError, match="found byte 0xff at offset 4"):
        storage.read_text(str(tmp_path / "c"))


@pytest.mark.parametrize("name", ["p.csv", "p.txt", "p.jsonl", "folder/p.txt"])
def test_prompts_that_must_not_be_trained_on(tmp_path: Path, name: str) -> None:
    text = {"p.csv": "prompt,id\na red cube,1\n", "p.jsonl": '{"prompt": "a red cube"}\n'}.get(name, "a red cube\n")
    place = written(tmp_path / name, text)
    assert read_prompts(str(tmp_path / "folder") if "/" in name else place) == ["a red cube"]


def test_lists_of_what_must_go(tmp_path: Path) -> None:
    lines = f"# on request\nsha256:{HASH.upper()}\nurl:http://example.com/a\u2028b.png\n"
    found = load_takedown(written(tmp_path / "list.txt", lines))
    assert (found.sha256, found.urls) == ((HASH,), ("http://example.com/a\u2028b.png",))
    assert load_takedown(written(tmp_path / "list.json", f'{{"sha256": ["{HASH}"]}}')).sha256 == (HASH,)
    with pytest.raises(ConfigError, match=r"odd\.txt line 2: expected one of sha256, phash, url, domain"):
        load_takedown(written(tmp_path / "odd.txt", "# a\nmd5:1\n"))


def test_keys_of_watermarks(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"sixteen letters.")
    assert read_watermark_key(written(tmp_path / "key", "sixteen letters.\n")) == read_watermark_key(
        str(tmp_path / "plain")
    )
