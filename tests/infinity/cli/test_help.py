"""What ``infinity --help`` shows: every command in a group, every option with words."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
import typer
from typer.testing import CliRunner

from infinity.cli import app

GROUPS = {
    "Model": (
        "generate",
        "edit",
        "redo",
        "pull",
        "serve",
        "reconstruct",
        "info",
        "card",
        "adapter",
        "watermark",
        "published",
    ),
    "Train": ("run", "finetune", "estimate", "tokenizer-spec", "transformer-specs", "redraw", "track", "diagnose"),
    "Evaluate": (
        "evaluate", "sweep", "savings", "compare", "leaderboard", "standing", "statistics", "distance", "report",
        "study", "registry", "rate",
    ),
    "Operate": ("doctor", "fleet", "compare-runs", "metrics", "gc"),
    "Data": ("data",),
}  # fmt: skip


def commands(group: click.Group, path: str = "infinity") -> Iterator[tuple[str, click.Command]]:
    """Every command and sub-command with the words that call it."""
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


ALL = dict(commands(typer.main.get_command(app)))


def test_every_command_stands_in_its_group() -> None:
    found = {name: command.rich_help_panel for name, command in ALL.items() if name.count(" ") == 1}
    assert set(found) == {f"infinity {name}" for names in GROUPS.values() for name in names}
    for group, names in GROUPS.items():
        assert all(found[f"infinity {name}"].startswith(group) for name in names), group


def test_the_page_of_help_shows_the_groups() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert [shown.index(f"─ {group}") for group in GROUPS]


@pytest.mark.parametrize("name", ALL)
def test_every_option_says_what_it_does(name: str) -> None:
    command = ALL[name]
    assert command.help, name
    silent = [each.name for each in command.params if each.name != "help" and not getattr(each, "help", None)]
    assert not silent, f"{name}: no help for {', '.join(silent)}"


def test_guidance_and_top_p_have_the_names_of_the_field() -> None:
    shown = {each.name: each for each in ALL["infinity generate"].params}
    assert "classifier-free guidance" in shown["guidance"].help
    assert shown["top_p"].opts == ["--top-p", "--nucleus"]
