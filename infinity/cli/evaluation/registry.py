"""``infinity registry``: the champion of every model family, its history, and rollback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import clear_errors, out, show_table

if TYPE_CHECKING:
    from infinity.evaluation.promotion.champions import Champions

app = typer.Typer(no_args_is_help=True, help="Champions of the model families: show, and roll back.")

Root = Annotated[
    str | None,
    typer.Option(
        "--registry",
        envvar="INFINITY_REGISTRY",
        help="Folder or s3:// URI of the registry; by default 'registry' in INFINITY_RUNS, or in runs.",
    ),
]


@app.command()
def show(
    family: Annotated[str | None, typer.Argument(help="Family to show; by default all champions.")] = None,
    registry: Root = None,
) -> None:
    """Show the champions, or the history of one family."""
    with clear_errors():
        from infinity.evaluation.promotion.rolled_back import not_promoted

        champions = _open(registry)
        if family is None:
            records = [record for name in champions.families() if (record := champions.champion(name)) is not None]
            if not records:
                out.say(f"no champions in {champions.root}")
                return
        else:
            records = list(champions.history(family))
            if not records:
                known = ", ".join(champions.families()) or "none"
                raise ValueError(f"{champions.root}: no champion of {family!r}; families: {known}")
        rows = [
            (each.family, str(each.number), each.when, each.who, each.action, each.model_digest, each.model, each.why)
            for each in records
        ]
        columns = ("family", "record", "when", "who", "what", "digest", "model", "why")
        show_table(columns, rows, notes=("model", "why"))
        for digest, by in not_promoted(records).items() if family is not None else ():
            line = f"{digest} is not promoted again automatically: rolled back by {by.who} at {by.when} ({by.why})"
            out.say(line)


@app.command()
def rollback(
    family: Annotated[str, typer.Argument(help="Name of the family.")],
    to: Annotated[
        int | None, typer.Option(help="Record to go back to; by default the last one with a model not set aside.")
    ] = None,
    why: Annotated[str, typer.Option(help="Reason, which is kept in the history.")] = "",
    registry: Root = None,
) -> None:
    """Make an earlier champion the champion again; the history gains a record and loses none."""
    with clear_errors():
        record = _open(registry).rollback(family, to=to, why=why)
        out.say(f"{family}: {record.model} (digest {record.model_digest}) is champion again, record {record.number}")


def _open(root: str | None) -> Champions:
    from infinity import storage
    from infinity.evaluation.promotion.champions import Champions

    return Champions(storage.absolute(root or storage.join(os.environ.get("INFINITY_RUNS") or "runs", "registry")))
