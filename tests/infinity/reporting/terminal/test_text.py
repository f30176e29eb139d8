"""What strangers wrote is shown on a terminal, and never obeyed by it."""

import io
import json
import logging
import sys

import pytest
from rich.table import Table
from rich.text import Text

from infinity.cli.console import EscapingConsole, clear_errors
from infinity.reporting.terminal.text import EscapingFormatter, escaped

COMMANDS = [chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x2028)]


@pytest.mark.parametrize("text", ["plain", "Zürich 東京 👩‍🚀", "two\nlines\tand a tab", "a \\u001b that was typed"])
def test_other_texts_stay_what_they_are(text: str) -> None:
    assert escaped(text) == text


def test_every_command_is_spelled_out_as_in_json() -> None:
    for command in COMMANDS:
        assert json.loads(f'"{escaped(command)}"') == command
        assert escaped(command).isascii()


@pytest.mark.parametrize("colours", [False, True])
def test_a_console_sends_its_own_styles_and_no_others(colours: bool) -> None:
    hostile = "".join(COMMANDS) + "\x1b[31mred\x1b]0;title\x07"
    file = io.StringIO()
    console = EscapingConsole(
        file=file, force_terminal=colours, width=2000, color_system="truecolor" if colours else None
    )
    table = Table("caption", show_header=False)
    table.add_row(hostile)
    table.add_row(Text(hostile))
    for what in (hostile, Text(hostile), table):
        console.print(what, style="green", markup=False, highlight=False)
    console.print_json(json.dumps({"caption": hostile}), highlight=False)
    shown = file.getvalue()
    assert ("\x1b[32m" in shown) == colours
    own = shown.replace("\x1b[32m", "").replace("\x1b[0m", "")
    assert not [command for command in COMMANDS if command in own]
    assert shown.count("red") == 5


def test_a_table_with_escapes_stays_straight() -> None:
    file = io.StringIO()
    table = Table("caption")
    for caption in ("a\x1b[2J", "\x9b1A", "plain"):
        table.add_row(caption)
    EscapingConsole(file=file, width=80).print(table)
    lines = file.getvalue().splitlines()
    assert len({len(line) for line in lines}) == 1


def test_an_error_with_a_hostile_name_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from infinity.cli import console

    monkeypatch.setattr(console, "err", EscapingConsole(file=sys.stdout, width=200))
    import typer

    with pytest.raises(typer.Exit), clear_errors():
        raise ValueError("a\x1b[2Jb.png: cannot be read")
    assert "error: a\\u001b[2Jb.png: cannot be read" in capsys.readouterr().out


def test_a_line_of_the_log_is_escaped() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "made %s", ("a\x1b[2Jb",), None)
    assert EscapingFormatter("%(message)s").format(record) == "made a\\u001b[2Jb"
