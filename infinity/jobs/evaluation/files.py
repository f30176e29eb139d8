"""Files of an evaluation: sheets of pictures, records of verdicts, values per item."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain

from infinity import storage
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.reporting.summary import Sheet

SHEETS_FOLDER = "sheets"
ITEMS_FILE = "items.jsonl"


def write_sheets(folder: str, results: Sequence[BenchmarkResult]) -> dict[str, Sheet]:
    """Write the sheets; return them by name."""
    sheets = {}
    for name, sheet in chain.from_iterable(result.sheets.items() for result in results):
        uri = storage.join(folder, SHEETS_FOLDER, f"{name}.png")
        storage.write_bytes(uri, sheet.png)
        sheets[name] = Sheet(image=uri, title=sheet.title, captions=sheet.captions)
    return sheets


def write_records(folder: str, results: Sequence[BenchmarkResult]) -> dict[str, str]:
    """Write the records; return their URIs by file name."""
    written = {}
    for name, records in chain.from_iterable(result.records.items() for result in results):
        uri = storage.join(folder, name)
        storage.write_text(uri, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        written[name] = uri
    return written


def write_items(folder: str, results: Sequence[BenchmarkResult]) -> str | None:
    """Write one line per metric and item; values without a JSON number, such as an infinite PSNR, become null."""
    lines = [
        {"metric": metric, "id": name, "value": value if math.isfinite(value) else None}
        for result in results
        for metric, values in result.items.items()
        for name, value in values.items()
    ]
    return write_lines(folder, ITEMS_FILE, lines)


def write_lines(folder: str, name: str, lines: Sequence[Mapping[str, object]]) -> str | None:
    """Write a file of JSON lines and return its URI; write no file for no lines."""
    if not lines:
        return None
    uri = storage.join(folder, name)
    storage.write_text(uri, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return uri
