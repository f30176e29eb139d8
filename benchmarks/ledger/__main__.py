"""Write the page of benchmark results over time and say what became slower.

``python -m benchmarks.ledger`` reads what ``make bench`` recorded; with ``--check`` a slowdown ends with status 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.ledger import records
from benchmarks.ledger.judging import judge
from benchmarks.ledger.page import page


def tell(path: Path) -> list[str]:
    """Write the page beside the records and return a sentence for every item whose newest run is slower.

    Raises:
        ValueError: A line of the file is no record.
    """
    found = records.read(path)
    path.with_suffix(".html").write_text(page(found), encoding="utf-8")
    sentences = []
    for (item, where), entries in found.items():
        verdict = judge(entries[:-1], entries[-1])
        if verdict.kind == "slower":
            sentences.append(
                f"{item}: {verdict.ratio:.2f} times the processor seconds of the best runs before (95 % interval "
                f"{verdict.low:.2f} to {verdict.high:.2f}; {where})"
            )
    return sentences


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, write the page and print the sentences; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=records.DEFAULT, help=f"records ({records.DEFAULT})")
    parser.add_argument("--check", action="store_true", help="end with status 1 where an item is slower")
    parser.add_argument("--accept", metavar="ITEM", help="compare later runs with the newest one and those after it")
    parser.add_argument("--reason", help="reason of --accept, for the page")
    args = parser.parse_args(arguments)
    if (args.accept is None) != (args.reason is None):
        parser.error("--accept and --reason: expected both or none")
    if not args.file.exists():
        parser.error(f"{args.file}: expected a file of records, found none; run make bench first")
    try:
        if args.accept is not None:
            records.accept(args.file, args.accept, args.reason)
        slower = tell(args.file)
    except ValueError as error:
        parser.error(str(error))
    print("\n".join([*slower, f"page: {args.file.with_suffix('.html')}"]))
    return 1 if slower and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
