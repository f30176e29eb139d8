"""Time the parts of the system: one JSON line per item.

``python -m benchmarks.run --items c,d --threads 2 --repeats 9``: group letters or names; all items without ``--items``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform

import torch

from benchmarks.measuring.timing import Item, measure
from benchmarks.run import tokenizer, transformer


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


def main() -> None:
    """Parse the command line and print a line for each item."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", help="letters or names, separated by commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch (all processors)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each item (5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = {"threads": args.threads, "dtype": "float32", "torch": torch.__version__, "cpu": platform.processor()}
    for item in chosen(args.items):
        print(json.dumps({**measure(item, repeats=args.repeats), **machine, "load": os.getloadavg()[0]}), flush=True)


if __name__ == "__main__":
    main()
