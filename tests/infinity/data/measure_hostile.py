"""Measure hostile sources as a worker does, in a process of its own: ``python measure_hostile.py <uri> ...``.

Prints JSON: for each source the problem of every row (null where there is none), or the message with which it was
refused; the rows in quarantine; and the largest memory that the process ever had.
"""

import json
import sys
from pathlib import Path

from infinity.data.facts import measure_slice
from infinity.data.filters import FilterConfig
from infinity.data.samples import SourceError
from infinity.data.sources import open_source


def main() -> None:
    """Measure the sources named on the command line."""
    found: dict[str, object] = {}
    for uri in sys.argv[1:]:
        try:
            parts = [measure_slice(piece, FilterConfig().max_pixels) for piece in open_source(uri).slices]
        except SourceError as error:
            found[uri] = {"refused": str(error)}
            continue
        found[uri] = {
            "names": [name for part in parts for name in part.facts["name"].to_pylist()],
            "problems": [problem for part in parts for problem in part.facts["problem"].to_pylist()],
            "quarantined": sum(part.quarantine.num_rows for part in parts),
        }
    json.dump({"found": found, "peak_bytes": peak_bytes()}, sys.stdout)


def peak_bytes() -> int:
    """Of this program alone; ``getrusage`` would count what the parent had when it started us."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
