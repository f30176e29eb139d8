"""Print the table of layouts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

from benchmarks.layouts.cases import outcome
from benchmarks.layouts.labelled import ALL_LAYOUTS


def main() -> None:
    """Print the table; end with code 1 if a row was lost in silence or a layout does not do what it should."""
    wrong = 0
    print("| layout | rows | what happens |\n|---|---|---|")
    for layout in ALL_LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            layout.make(Path(folder))
            found = outcome(Path(folder), layout)
        mark = "" if found.is_as_expected(layout) else " **WRONG**"
        wrong += bool(mark)
        print(f"| {layout.name} | {layout.rows} | {found.told}{mark} |")
    print(f"\n{len(ALL_LAYOUTS)} layouts, {wrong} wrong")
    raise typer.Exit(int(wrong > 0))


if __name__ == "__main__":
    typer.run(main)
