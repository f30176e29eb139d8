"""``infinity diagnose``: is a training healthy, and if not, why?"""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out


def diagnose(
    folder: Annotated[str, typer.Argument(help="Folder of a training: running, stopped or done.")],
    pictures: Annotated[bool, typer.Option(help="Encode pictures and try captions; takes some seconds.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Judge a training by its recipe's curves and name the likeliest of the known faults, with the evidence.

    The exit code is 2 where something speaks for a fault.
    """
    with clear_errors():
        from infinity import storage
        from infinity.diagnosis.diagnose import diagnose as diagnose_folder

        found = diagnose_folder(storage.absolute(folder), with_pictures=pictures)
        if as_json:
            out.print_json(found.dump())
        else:
            out.say(found.sentence)
            for number, each in enumerate(found.findings, start=1):
                out.say(f"{number}. {each.cause} ({each.certainty:.0%}): {each.evidence}")
    if not found.is_healthy:
        raise typer.Exit(2)
