"""Figures of the tokenizer, from small trainings on drawn scenes: one HTML page.

``python -m benchmarks.tokenizer_figures --out figures``: BSQ with 16 and 64 bits, memory of the entropy penalty over
the number of bits, what the entropy terms do for the use of codes, what a discriminator does for sharpness, and what
early scales say. Each training takes a few minutes of one core; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.entropy_memory import POSITIONS, Point, all_codes, bitwise
from benchmarks.tokenizer_runs import NUM_MEASURED, NUM_SHOWN, RUNS, SIZE_PX, scenes, sheet, train_one
from infinity.reporting.charts import line_chart
from infinity.reporting.curves import Points, Series
from infinity.reporting.figures import Figure, figures_html
from infinity.tokenizer.quantizer import MAX_BRUTE_FORCE_BITS

CODES_MEASURED = (4, 6, 8, 10, 12, 14, MAX_BRUTE_FORCE_BITS)
CODES_CALCULATED = (18, 20, 22, 24)
BITS = (4, 8, 16, 24, 32, 48, 64)


class Results:
    """What the trainings wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runs: dict[str, dict[str, Any]] = {
            run.name: json.loads(path.read_text()) for run in RUNS if (path := folder / f"{run.name}.json").exists()
        }

    def have(self, names: dict[str, str]) -> dict[str, str]:
        """Those of the trainings that there are."""
        return {run: label for run, label in names.items() if run in self.runs}

    def curve(self, run: str, figure: str, place: str = "curves") -> Points:
        """A figure over the steps of a training."""
        rows = self.runs[run][place][2:]  # the first ones, of a network that knows nothing, would set the axis
        return tuple((row["step"], row[figure]) for row in rows if figure in row)

    def last(self, run: str, figure: str) -> float:
        """Its value at the end."""
        return float(self.runs[run]["curves"][-1][figure])

    def lines(self, figure: str, names: dict[str, str], place: str = "curves") -> list[Series]:
        """The same figure of several trainings."""
        return [
            Series(label, self.curve(run, figure, place), f"tone-{tone}")
            for tone, (run, label) in enumerate(names.items(), start=1)
        ]

    def pictures(self, *runs: str) -> str:
        """Originals and, below, reconstructions of each training, as a ``data:`` URI."""
        rows = [scenes(NUM_SHOWN).numpy(), *(np.load(self._folder / f"{run}.npy") for run in runs)]
        return "data:image/png;base64," + base64.b64encode(sheet(rows)).decode("ascii")


def bits_figure(found: Results) -> Figure | None:
    """BSQ with 16 and 64 bits."""
    names = found.have({"d16": "d = 16", "d64": "d = 64"})
    if not names:
        return None
    rows = [
        (label, f"{found.last(run, 'psnr_db'):.2f}", f"{found.runs[run]['bits']['entropy']:.3f}",
         f"{found.runs[run]['bits']['dead']:.0%}", *(f"{value:.1f}" for value in found.runs[run]["by_scale"]))
        for run, label in names.items()
    ]  # fmt: skip
    return Figure(
        "BSQ with 16 and with 64 bits a position",
        "The same network, data and steps; only the channels of the latent differ. More bits give pictures back more "
        "exactly; the entropy says that the added bits are used. Below: originals, 16 bits, 64 bits.",
        (line_chart(found.lines("psnr_db", names), title="reconstruction of new pictures, PSNR", unit="dB"),),
        found.pictures(*names),
        (("", "PSNR, dB", "entropy of a bit", "dead bits", "1 scale, dB", "2", "3", "4"), *rows),
    )


def memory_figure() -> Figure:
    """LFQ's penalty over all codes against BSQ's bit by bit (paper Table 3 in small)."""
    torch.set_num_threads(1)
    exact = [all_codes(d, measure=True) for d in CODES_MEASURED] + [
        all_codes(d, measure=False) for d in CODES_CALCULATED
    ]
    factorised = [bitwise(d, measure=True) for d in BITS]

    def measured(points: list[Point]) -> Points:
        return tuple((p.num_bits, p.measured) for p in points if p.measured is not None and p.measured > 0)

    lines = [
        Series("all codes, calculated", tuple((p.num_bits, p.calculated) for p in exact), "tone-1"),
        Series("all codes, measured", measured(exact), "tone-2"),
        Series("bit by bit, calculated", tuple((p.num_bits, p.calculated) for p in factorised), "tone-3"),
        Series("bit by bit, measured", measured(factorised), "tone-4"),
    ]
    table = [
        (str(p.num_bits), kind, f"{p.calculated:,.2f}", "" if p.measured is None else f"{p.measured:,.2f}")
        for kind, points in (("all 2^d codes (LFQ)", exact), ("bit by bit (BSQ)", factorised))
        for p in points
    ]
    return Figure(
        "Memory of the entropy penalty over the number of bits",
        f"Both entropies and their gradient at the {POSITIONS} positions of one picture of 256 px, float32 on a "
        "processor, most memory beyond what was there before. Comparing every position with all codes doubles with "
        "every bit: a GPU with 8 such pictures needs 8 times what is shown. Bit by bit it grows with d alone.",
        (line_chart(lines, title="memory over d", unit="MiB", log=True),),
        None,
        (("d", "penalty", "calculated, MiB", "measured, MiB"), *table),
    )


def entropy_figure(found: Results) -> Figure | None:
    """What the entropy terms do for the use of codes."""
    names = found.have({"no-entropy": "no entropy terms", "d16": "weight 0.05", "strong-entropy": "weight 0.2"})
    if not names:
        return None
    rows = [
        (label, f"{found.runs[run]['bits']['entropy']:.3f}", f"{found.runs[run]['bits']['dead']:.0%}",
         f"{found.runs[run]['bits']['codes']:.0%}", f"{found.last(run, 'psnr_db'):.2f}")
        for run, label in names.items()
    ]  # fmt: skip
    return Figure(
        "What the entropy terms do for the use of codes",
        "The entropy of a bit over the pictures of a batch is 1 where both its values are equally common and 0 where "
        "it never changes. The terms ask every position to be sure and all positions together to be various. 16 bits.",
        (line_chart(found.lines("bit_entropy", names, "history"), title="entropy of a bit, all scales", unit="bit"),
         line_chart(found.lines("psnr_db", names), title="reconstruction of new pictures, PSNR", unit="dB")),
        None,
        (("weights of both terms", "entropy of a bit, last scale", "dead bits", "different codes", "PSNR, dB"), *rows),
    )  # fmt: skip


def sharpness_figure(found: Results) -> Figure | None:
    """What the discriminator does for sharpness."""
    names = found.have({"alone": "without", "weak-discriminator": "weight 0.005", "discriminator": "weight 0.02"})
    if not names:
        return None
    rows = [
        (label, f"{found.last(run, 'sharpness'):.3f}", f"{found.last(run, 'psnr_db'):.2f}",
         f"{found.runs[run]['processor_s']:.0f}")
        for run, label in names.items()
    ]  # fmt: skip
    return Figure(
        "What the discriminator does for sharpness",
        "All go on from one tokenizer, at the same low rate, without a discriminator and with one whose term weighs a "
        "little or more. Sharpness is the mean square of the differences of neighbouring pixels over that of the "
        "originals: blur lies below 1, noise and false edges above. Below: originals, then the trainings of the table.",
        (line_chart(found.lines("sharpness", names), title="sharpness over that of the originals"),
         line_chart(found.lines("psnr_db", names), title="reconstruction of new pictures, PSNR", unit="dB")),
        found.pictures(*names),
        (("", "sharpness", "PSNR, dB", "processor, s"), *rows),
    )  # fmt: skip


def scales_figure(found: Results) -> Figure | None:
    """What early scales say, with and without the pressure on them."""
    names = found.have({"d16": "whole pyramids alone", "reg": "truncated pyramids too"})
    if not names:
        return None
    lines = [
        Series(label, tuple(enumerate(found.runs[run]["by_scale"], start=1)), f"tone-{tone}")
        for tone, (run, label) in enumerate(names.items(), start=1)
    ]
    rows = [(label, *(f"{value:.2f}" for value in found.runs[run]["by_scale"])) for run, label in names.items()]
    return Figure(
        "What early scales say by themselves",
        "Decoded from the first 1, 2, 3 and 4 scales. Training on truncated pyramids as well moves what a picture "
        "shows into early scales, at some cost of the whole.",
        (line_chart(lines, title="reconstruction from the first scales, PSNR", unit="dB"),),
        None,
        (("", "1 scale", "2", "3", "4"), *rows),
    )


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the page and of what the trainings leave")
    parser.add_argument("--steps", type=int, default=800, help="updates of each training (800)")
    parser.add_argument("--runs", default=",".join(run.name for run in RUNS), help="only some of the trainings")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = set(args.runs.split(","))
    if unknown := wanted - {run.name for run in RUNS}:
        raise SystemExit(f"unknown {sorted(unknown)}; there are {', '.join(run.name for run in RUNS)}")
    for run in (run for run in RUNS if run.name in wanted):
        done = args.out / f"{run.name}.json"
        if not (done.exists() and json.loads(done.read_text())["num_steps"] == args.steps):
            train_one(run, args.steps, args.out, args.threads)
            print(f"trained {run.name}", flush=True)
    found = Results(args.out)
    drawn = (bits_figure(found), memory_figure(), entropy_figure(found), sharpness_figure(found), scales_figure(found))
    page = figures_html(
        "The tokenizer in figures",
        f"Trainings of {args.steps} updates on drawn scenes of {SIZE_PX} px, batches of 16, one seed; figures on "
        f"{NUM_MEASURED} pictures that were not trained on. One seed says which way a thing goes, not how far.",
        tuple(figure for figure in drawn if figure is not None),
    )
    (args.out / "tokenizer.html").write_text(page, encoding="utf-8")
    print(args.out / "tokenizer.html")


if __name__ == "__main__":
    main()
