"""Rewritten prompts: from a file, all of them or an error."""

import json
from pathlib import Path

import pytest

from infinity.evaluation.prompts.rewriting import InstructRewriter, RewriteFile, describe
from infinity.perception.language.instruct import InstructConfig
from infinity.storage.pinned import PinnedFile


def rewriter(path: Path, *lines: object) -> RewriteFile:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return RewriteFile(file=PinnedFile(uri=str(path)))


def test_every_prompt_gets_its_own_rewriting(tmp_path: Path) -> None:
    file = rewriter(tmp_path / "r", {"prompt": "a", "rewritten": "an a"}, {"prompt": "b", "rewritten": "a b"})
    assert file.rewrite(["b", "a", "b"]) == ["a b", "an a", "a b"]


def test_prompts_without_a_rewriting_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 3 prompts, found none of 2, the first is 'b'"):
        rewriter(tmp_path / "r", {"prompt": "a", "rewritten": "x"}).rewrite(["a", "b", "c"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2: not valid JSON"),
        ({"prompt": "b"}, "line 2: expected"),
        ({"prompt": "b", "rewritten": " "}, "not empty"),
        ({"prompt": "a", "rewritten": "other"}, "a second, different rewriting of 'a'"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewriter(tmp_path / "r", {"prompt": "a", "rewritten": "x"}, line).read()


def test_protocol_says_who_rewrote() -> None:
    assert describe(None) == "prompts as they are"
    model = InstructRewriter(model=InstructConfig(model="org/model"))
    assert describe(model).startswith("prompts rewritten by org/model (instruction ")
    assert describe(model) != describe(model.replace(instruction="Rewrite."))
