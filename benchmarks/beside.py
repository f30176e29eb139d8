"""Time this project beside the published code: alternating processes, medians, spread, and the processor's name.

``python -m benchmarks.beside --published <checkout> --tool ../shared/tools/reference_bench/bench_upstream.py``. Each
round runs one process of each kind; the next round runs them in the reverse order, so that a machine that gets slower
disturbs both alike. A ratio is taken within a round. The checkout has to lie outside of this project; its
cross-attention must not cast to bfloat16 by itself (see the tool's README).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring.timing import spread
from infinity.jobs.cluster.heap import HEAP

ITEMS: Mapping[str, tuple[str, str, Any]] = {
    "transformer_forward_backward": ("train_fwd_bwd", "pn", "0.06M"),
    "generation_7_scales": ("infer_cfg", "pn", "0.06M"),
    "generation_10_scales": ("infer_cfg", "pn", "0.25M"),
    "quantizer_16x16": ("bsq_forward", "hw", 16),
    "quantizer_64x64": ("bsq_forward", "hw", 64),
    "self_correction_16x16": ("flip_requant", "hw", 16),
    "self_correction_64x64": ("flip_requant", "hw", 64),
    "decoder_256px": ("vae_decode", "px", 256),
    "encoder_256px": ("vae_encode", "px", 256),
}
"""Our items by name, and the published tool's item with the field and value that tell it apart."""

LETTERS = {"a": "train", "b": "infer", "c": "bsq", "d": "bsc", "e": "vae"}
"""Groups of our items, and the published tool's names for them."""

MEMORY_OF = "transformer_forward_backward"
"""Item whose process's largest memory is compared; it runs first, so that no other item has a part in it."""

_AUTOCAST = "import runpy,sys,torch; torch.autocast('cpu', torch.bfloat16).__enter__(); sys.argv=sys.argv[1:]; "
_AUTOCAST += "runpy.run_path(sys.argv[0], run_name='__main__')"
_MACHINE = (
    "import json; from benchmarks.measuring.machine import rates; from infinity.kernels.measured import processor; "
)
_MACHINE += "import torch; torch.set_num_threads({threads}); "
_MACHINE += "print(json.dumps({{'processor': processor(), 'gflops': rates(3)}}))"

Lines = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BesideSetting:
    """What is run.

    Attributes:
        published: Checkout of the published code.
        tool: Script that times it.
        groups: Letters of the items.
        repeats: Timed runs of an item within a process.
        bfloat16: Whether both also run under autocast to bfloat16.
    """

    published: Path
    tool: Path
    groups: str
    threads: int
    repeats: int
    bfloat16: bool

    def commands(self) -> dict[str, list[str]]:
        """Return the command of each kind of process by name."""
        numbers = ["--threads", str(self.threads), "--repeats", str(self.repeats)]
        items = ["--items", ",".join(LETTERS[letter] for letter in self.groups)]
        ours = [sys.executable, "-m", "benchmarks.run", "--no-ledger", "--items", ",".join(self.groups), *numbers]
        found = {"published": [sys.executable, str(self.tool), *items, *numbers], "ours": ours}
        if self.bfloat16:
            found["published_bfloat16"] = [sys.executable, "-c", _AUTOCAST, str(self.tool), *items, *numbers]
            found["ours_bfloat16"] = [*ours, "--dtype", "bfloat16"]
        return found


def run(command: Sequence[str], published: Path | None = None) -> Lines:
    """Run one process, of the published code if its checkout is given, and return the JSON lines that it printed.

    Raises:
        SystemExit: The process failed; the message holds the end of what it said.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "UPSTREAM_DIR": str(published)} if published else {**HEAP, **os.environ},
        cwd=published,  # "python -c" finds packages in its folder, and both are called infinity
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)[:120]} ended with {done.returncode}: {done.stderr[-500:].strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def of_item(lines: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """Return the line of one of our items, from our lines or from the published tool's."""
    theirs, field, value = ITEMS[name]
    for line in lines:
        if line["item"] == name or (line["item"] == theirs and line.get(field) == value):
            return line
    return None


def compare(rounds: Sequence[Mapping[str, Lines]]) -> list[dict[str, Any]]:
    """Return a row for each item that all kinds of processes measured, and one for the largest memory.

    Args:
        rounds: Lines by kind of process; "published" and "ours", and the same in bfloat16 where that was run.

    Returns:
        Rows with medians of seconds by kind and, over "published" and over "published_bfloat16", the median ratio and
        the distance of the quartiles, for the clock and for processor time.
    """
    rows = []
    for name in ITEMS:
        found = [{kind: of_item(lines, name) for kind, lines in each.items()} for each in rounds]
        if any(line is None for each in found for line in each.values()):
            continue
        row: dict[str, Any] = {"item": name, "rounds": len(rounds)}
        for which in ("median_s", "median_cpu_s"):
            row |= _row([{kind: line[which] for kind, line in each.items() if line} for each in found], which)
        rows.append(row)
        if name == MEMORY_OF:
            memory = [{kind: line["maxrss_mb"] for kind, line in each.items() if line} for each in found]
            rows.append({"item": "largest memory of a step, MB", "rounds": len(rounds)} | _row(memory, "mb"))
    return rows


def _row(values: Sequence[Mapping[str, float]], which: str) -> dict[str, float]:
    row = {f"{kind}_{which}": statistics.median(each[kind] for each in values) for kind in values[0]}
    for kind in values[0]:
        for base in ("published", "published_bfloat16"):
            if kind.startswith("ours") and base in values[0]:
                ratios = [each[kind] / each[base] for each in values]
                row[f"{kind}/{base}_{which}"] = statistics.median(ratios)
                row[f"{kind}/{base}_{which}_spread"] = spread(ratios)
    return row


def table(rows: Sequence[Mapping[str, Any]], bfloat16: bool) -> str:
    """Return the ratios of processor seconds, or of memory, as a Markdown table; the spread in brackets."""
    pairs = [("ours", "published")]
    if bfloat16:
        pairs += [("ours_bfloat16", "published"), ("ours_bfloat16", "published_bfloat16")]
    lines = ["| item | published | " + " | ".join(f"{ours} / {base}" for ours, base in pairs) + " |"]
    lines.append("|---" * (2 + len(pairs)) + "|")
    for row in rows:
        which = "mb" if "published_mb" in row else "median_cpu_s"
        cells = [
            f"{row[f'{ours}/{base}_{which}']:.2f} ({row[f'{ours}/{base}_{which}_spread']:.2f})" for ours, base in pairs
        ]
        lines.append(f"| {row['item']} | {row[f'published_{which}']:.4g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run the rounds, and write the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of FoundationVision/Infinity")
    parser.add_argument("--tool", type=Path, required=True, help="script that times the published code")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of an item within a process (3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--groups", default="abcde", help="letters of the items (abcde)")
    parser.add_argument("--bfloat16", action="store_true", help="both under autocast to bfloat16 as well")
    parser.add_argument("--output", type=Path, default=Path("beside.json"), help="file of figures (beside.json)")
    args = parser.parse_args(arguments)
    if not (args.published / "infinity" / "models").is_dir():
        parser.error(f"--published: expected a checkout of FoundationVision/Infinity, got {args.published}")
    if not args.tool.is_file():
        parser.error(f"--tool: expected a script, got {args.tool}")
    if args.rounds < 1 or args.repeats < 1 or args.threads < 1 or not set(args.groups) <= set(LETTERS):
        parser.error(f"expected positive numbers and letters of {''.join(LETTERS)}, got {vars(args)}")
    setting = BesideSetting(
        published=args.published.resolve(), tool=args.tool.resolve(), groups=args.groups, threads=args.threads,
        repeats=args.repeats, bfloat16=args.bfloat16,
    )  # fmt: skip
    machine = run([sys.executable, "-c", _MACHINE.format(threads=args.threads)])[0]
    rounds: list[dict[str, Lines]] = []
    loads = []
    for number in range(args.rounds):
        kinds = list(setting.commands().items())
        measured = {
            kind: run(command, setting.published if kind.startswith("published") else None)
            for kind, command in (kinds, kinds[::-1])[number % 2]
        }
        rounds.append({kind: measured[kind] for kind, _ in kinds})
        loads.append(round(os.getloadavg()[0], 1))
        rows = compare(rounds)
        args.output.write_text(json.dumps({**machine, "threads": args.threads, "loads": loads, "rows": rows}, indent=1))
    print(json.dumps({**machine, "threads": args.threads, "loads": loads}))
    print(table(rows, args.bfloat16))


if __name__ == "__main__":
    main()
