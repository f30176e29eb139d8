"""Commands of docs/questions.md that print an answer here print what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from tests.fixtures.documents import REPOSITORY

TEXT = (REPOSITORY / "docs" / "questions.md").read_text(encoding="utf-8")
ANSWERS = re.findall(r"^```bash\n(.*?)^```\n\n```text\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_every_question_has_an_answer_and_most_a_command() -> None:
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert len(sections) >= 14
    assert all(len(section.split()) > 20 for section in sections)
    assert sum("```" in section for section in sections) >= 10
    assert len(ANSWERS) >= 2


@pytest.mark.parametrize(("commands", "expected"), ANSWERS, ids=[each[0].splitlines()[0] for each in ANSWERS])
def test_a_command_prints_what_the_page_says(
    commands: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    printed = ""
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "infinity":
            done = CliRunner().invoke(app, words[1:])
            assert done.exit_code == 0, done.output
            printed += done.output
    for line in expected.splitlines():
        assert line.strip() in " ".join(printed.split("\n")) or line in printed, f"{line!r} not in:\n{printed}"
