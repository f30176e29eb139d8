"""Time the parts of the system: one JSON line per item, added to the ledger of results over time.

``python -m benchmarks.run --items c,d --threads 2 --repeats 9``: group letters or names; all items without ``--items``.
At the end it names what became slower and the page of the ledger (``benchmarks.ledger``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch

from benchmarks.ledger import records
from benchmarks.ledger.__main__ import tell
from benchmarks.measuring.timing import Item, largest_mb, measure
from benchmarks.run import tokenizer, transformer
from infinity.kernels.measured import processor


def all_items() -> list[Item]:
    """Return every item, in the order of their letters."""
    return sorted([*transformer.items(), *tokenizer.items()], key=lambda item: item.group)


def chosen(names: str | None) -> list[Item]:
    """Return the items with these letters or names.

    Raises:
        SystemExit: A name that no item has.
    """
    items = all_items()
    if names is None:
        return items
    wanted = names.split(",")
    if unknown := set(wanted) - {item.group for item in items} - {item.name for item in items}:
        raise SystemExit(f"unknown {sorted(unknown)}; there are {[f'{i.group}: {i.name}' for i in items]}")
    return [item for item in items if item.group in wanted or item.name in wanted]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, and print and record a line for each item."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", help="letters or names, separated by commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch (all processors)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each item (5)")
    parser.add_argument("--ledger", type=Path, default=records.DEFAULT, help=f"file of records ({records.DEFAULT})")
    parser.add_argument("--no-ledger", action="store_true", help="print the lines only")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of products (float32)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    machine = {"threads": args.threads, "dtype": args.dtype, "torch": torch.__version__, "cpu": processor()}
    for item in chosen(args.items):
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16"):
            record = measure(item, repeats=args.repeats) | machine | records.stamp()
        record |= {"load": os.getloadavg()[0], "maxrss_mb": largest_mb()}
        if not args.no_ledger:
            records.add(args.ledger, record)
        print(json.dumps(record), flush=True)
    if args.no_ledger:
        return
    try:
        told = tell(args.ledger)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    print("\n".join([*told, f"page: {args.ledger.with_suffix('.html')}"]), file=sys.stderr)


if __name__ == "__main__":
    main()
