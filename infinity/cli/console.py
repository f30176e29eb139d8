"""What all commands share: consoles, common options, errors as one line, a progress bar."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from infinity.jobs.progress import Progress as JobProgress
from infinity.reporting.terminal.table import WIDTH, folded, table_lines
from infinity.reporting.terminal.text import escaped


class EscapingConsole(Console):
    """Shows commands to the terminal that are hidden in a text instead of sending them; its own styles it sends."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, escaped before anything is measured and aligned."""
        return super().render_str(escaped(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield whatever comes another way than as a plain text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)

    def say(self, text: str, **options: Any) -> None:
        """Print a text as it is, in lines that a terminal breaks itself; elsewhere a path must stay whole."""
        self.print(text, markup=False, highlight=False, soft_wrap=True, **options)


out = EscapingConsole()
err = EscapingConsole(stderr=True)

Checkpoint = Annotated[str, typer.Option("--checkpoint", "-c", help="Model folder: a path or s3:// URI.")]
Cluster = Annotated[
    str | None, typer.Option(envvar="RAY_ADDRESS", help="Address of a Ray cluster; without one a local Ray starts.")
]
Device = Annotated[str | None, typer.Option(help="Where to compute, such as cpu or cuda:1; by default the fastest.")]
WorkersDevice = Annotated[str, typer.Option(help="Where the workers compute, cpu or cuda.")]


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, notes: Collection[str] = (), title: str = ""
) -> None:
    """Print a table that fits the terminal, and 100 columns where there is none.

    Args:
        columns: Names of the columns; all empty for a table without a head.
        rows: Cells of the rows, one per column.
        notes: Names of the columns of long texts, which may stand below the table.
        title: Words above the table.
    """
    width = min(WIDTH, max(40, out.width)) if out.is_terminal else WIDTH
    lines = table_lines(columns, list(rows), notes=notes, width=width)
    for line in (folded(title, width) if title else []) + lines:
        out.say(line)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can get wrong becomes one line and exit code 1; a fault of ours keeps its trace."""
    try:
        yield
    except (ValueError, OSError) as error:
        err.say(f"error: {_sentence(error)}", style="red")
        raise typer.Exit(1) from error


def _sentence(error: Exception) -> str:
    """Return the words of an error; of one by the operating system its file and reason, without its number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[float], None]]:
    """Show a progress bar; the block gets a function that takes the share that is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@contextlib.contextmanager
def following(title: str, pause_s: float = 30.0) -> Iterator[Callable[[JobProgress], None]]:
    """Show a job's progress: a bar with its last message, or a line every half minute where there is no terminal.

    Args:
        title: Words before the bar.
        pause_s: Shortest time between two lines.
    """
    if err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[message]}"), console=err, transient=True) as progress:
            task = progress.add_task(title, total=1.0, message="")
            yield lambda each: progress.update(task, completed=each.fraction, message=each.message)
        return
    started = last = time.monotonic()

    def show(each: JobProgress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < pause_s:
            return
        last = now
        left = (now - started) * (1 - each.fraction) / each.fraction if each.fraction else math.inf
        told = f", about {left / 60:.0f} min left" if math.isfinite(left) else ""
        err.say(f"{title}: {each.fraction:.0%}, {each.message}{told}")

    yield show


def numbers(name: str, text: str) -> float | tuple[float, ...]:
    """Return one number, or several joined by commas; ``name`` is the option's."""
    values = tuple(number(name, part) for part in text.split(","))
    return values[0] if len(values) == 1 else values


def number(name: str, text: str) -> float:
    """Return the finite number that a text spells; ``name`` is the option's."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"--{name}: expected a number, got {text!r:.80}") from None
    if not math.isfinite(value):
        raise ValueError(f"--{name}: expected a finite number, got {text!r:.80}")
    return value


def whole(name: str, text: str) -> int:
    """Return the whole number that a text spells; ``name`` is the option's."""
    value = number(name, text)
    if not value.is_integer() or abs(value) >= 2**53:
        raise ValueError(f"--{name}: expected a whole number, got {text!r:.80}")
    return int(value)
