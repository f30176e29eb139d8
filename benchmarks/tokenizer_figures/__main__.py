"""Figures of the tokenizer, from small trainings on drawn scenes and on emoji: one HTML page.

``python -m benchmarks.tokenizer_figures --out figures --emoji ../shared/data/noto_emoji``: BSQ with 16 and 64 bits,
memory of the entropy penalty over the number of bits, what the entropy terms do for the use of codes, what a
discriminator does for sharpness, and what early scales say. Each training takes one to five minutes of one core;
finished ones are not repeated. Without ``--emoji`` the figure of the discriminator is left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.tokenizer_figures.entropy_memory import POSITIONS, Point, all_codes, bitwise
from benchmarks.tokenizer_figures.runs import (
    NUM_SHOWN,
    RUNS,
    SEEDS,
    SPECTRUM_BANDS,
    WEIGHTS,
    Pictures,
    drawn_scenes,
    emoji,
    sharpening,
    sheet,
    train_one,
)
from infinity.reporting.figures import Figure, figures_html
from infinity.reporting.plots.charts import line_chart
from infinity.reporting.plots.curves import Points, Series
from infinity.reporting.templates import data_uri
from infinity.tokenizer.quantizer import MAX_BRUTE_FORCE_BITS

CODES_MEASURED = (4, 6, 8, 10, 12, 14, MAX_BRUTE_FORCE_BITS)
CODES_CALCULATED = (18, 20, 22, 24)
BITS = (4, 8, 16, 24, 32, 48, 64)


class FigureResults:
    """What the trainings wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runs: dict[str, dict[str, Any]] = {
            run.name: json.loads(path.read_text()) for run in RUNS if (path := folder / f"{run.name}.json").exists()
        }

    def have(self, names: dict[str, str]) -> dict[str, str]:
        """Return the given names and labels of trainings that were run."""
        return {run: label for run, label in names.items() if run in self.runs}

    def curve(self, run: str, figure: str, place: str = "curves") -> Points:
        """Return a figure over the steps of a training."""
        rows = self.runs[run][place]
        rows = rows[len(rows) // 8 :]  # the first ones, of a network that knows nothing, would set the axis
        return tuple((row["step"], row[figure]) for row in rows if figure in row)

    def last(self, run: str, figure: str) -> float:
        """Return the value at the end."""
        return float(self.runs[run]["curves"][-1][figure])

    def lines(self, figure: str, names: dict[str, str], place: str = "curves") -> list[Series]:
        """Return the same figure of several trainings."""
        return [
            Series(label, self.curve(run, figure, place), f"tone-{tone}")
            for tone, (run, label) in enumerate(names.items(), start=1)
        ]

    def pictures(self, shown: Pictures, *runs: str) -> str:
        """Return originals and, below, reconstructions of each training, as a ``data:`` URI."""
        rows = [shown.measured[:NUM_SHOWN].numpy(), *(np.load(self._folder / f"{run}.npy") for run in runs)]
        return data_uri(sheet(rows))

    def over_seeds(self, weight: float | None) -> list[str]:
        """Trainings with a discriminator of this weight, or without, that there are."""
        return [name for seed in SEEDS if (name := sharpening(weight, seed).name) in self.runs]

    def mean_curve(self, runs: list[str], figure: str) -> Points:
        """Return a figure over the steps, the mean of trainings that were logged at the same steps."""
        curves = np.array([self.curve(run, figure) for run in runs])
        return tuple((float(step), float(value)) for step, value in curves.mean(axis=0))


def bits_figure(found: FigureResults) -> Figure | None:
    """Compare BSQ with 16 and 64 bits."""
    names = found.have({"d16": "d = 16", "d64": "d = 64"})
    if not names:
        return None
    rows = [
        (label, f"{found.last(run, 'psnr_db'):.2f}", f"{found.runs[run]['bits']['entropy']:.3f}",
         f"{found.runs[run]['bits']['dead']:.0%}",
         f"{found.runs[run]['bits']['codes']:.0%}", *(f"{value:.1f}" for value in found.runs[run]["by_scale"]))
        for run, label in names.items()
    ]  # fmt: skip
    return Figure(
        "BSQ with 16 and with 64 bits a position",
        "The same network, data and steps; only the channels of the latent differ. More bits give pictures back more "
        "exactly. Entropy (of a bit over all positions of the last scale, 1 at most), dead bits (below 0.03) and "
        "different codes (over the number of positions) say whether the added bits are used. Below: originals, 16 "
        "bits, 64 bits.",
        (line_chart(found.lines("psnr_db", names), title="PSNR of new pictures in dB, by step", unit="dB"),),
        found.pictures(drawn_scenes(), *names),
        (
            (
                "",
                "PSNR, dB",
                "entropy of a bit, bits",
                "dead bits",
                "codes a position",
                "PSNR of 1 scale, dB",
                "2 scales",
                "3",
                "4",
            ),
            *rows,
        ),
    )


def memory_figure() -> Figure:
    """Compare LFQ's penalty over all codes with BSQ's per bit (paper Table 3 in small)."""
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
        (line_chart(lines, title="most memory in MiB, by number of bits d", unit="MiB", log=True),),
        None,
        (("d", "penalty", "calculated, MiB", "measured, MiB"), *table),
    )


def entropy_figure(found: FigureResults) -> Figure | None:
    """Return what the entropy terms do for the use of codes."""
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
        "it never changes. The terms ask every position to be sure and all positions together to be various. 16 bits; "
        "the first chart is the mean of all scales, a batch of 16 a point.",
        (line_chart(found.lines("bit_entropy", names, "history"), title="entropy of a bit, in bits, by step"),
         line_chart(found.lines("psnr_db", names), title="PSNR of new pictures in dB, by step", unit="dB")),
        None,
        (("weights of both terms", "entropy of a bit, last scale", "dead bits", "codes a position", "PSNR, dB"),
         *rows),
    )  # fmt: skip


def sharpness_figure(found: FigureResults, shown: Pictures) -> Figure | None:
    """Return what the discriminator does for sharpness."""
    runs = {weight: found.over_seeds(weight) for weight in (None, *WEIGHTS)}
    runs = {weight: names for weight, names in runs.items() if names}
    if None not in runs or len(runs) < 2:
        return None
    labels = {weight: "without" if weight is None else f"weight {weight:g}" for weight in runs}
    tones = {weight: f"tone-{number}" for number, weight in enumerate(runs, start=1)}

    def lines(figure: str) -> list[Series]:
        return [Series(labels[w], found.mean_curve(names, figure), tones[w]) for w, names in runs.items()]

    middles = (np.arange(SPECTRUM_BANDS) + 0.5) / (2 * SPECTRUM_BANDS)
    spectra = {w: np.array([found.runs[name]["spectrum"] for name in names]) for w, names in runs.items()}
    power = [
        Series(labels[w], tuple(zip(middles.tolist(), values.mean(axis=0).tolist(), strict=True)), tones[w])
        for w, values in spectra.items()
    ]
    rows = [
        (labels[w], str(len(names)), _spread([found.last(name, "sharpness") for name in names], 3),
         _spread(list(spectra[w][:, SPECTRUM_BANDS // 2 :].mean(axis=1)), 3),
         _spread([found.last(name, "psnr_db") for name in names], 2),
         "" if w is None else _spread([found.runs[name]["balance"] for name in names], 3))
        for w, names in runs.items()
    ]  # fmt: skip
    return Figure(
        "What the discriminator does for sharpness",
        f"Emoji of 48 px, {len(shown.measured)} of which are measured on. All go on from one tokenizer that learned "
        "without a discriminator, with the same rate that falls to zero, without a discriminator or with one whose "
        "term has this weight; the seeds differ in batches and discriminator. 1 is what the originals have, blur lies "
        "below it: in the first chart by spatial frequency, where 0.5 is a change from pixel to pixel; in the second "
        "for the mean square of the differences of neighbouring pixels. What is sharp without knowing where exactly an "
        "edge is lies further from the original pixel by pixel: pictures that look like originals throughout may cost "
        "up to 3 dB (arXiv:1711.06077). The last column is the weight at which the term would pull at the decoder's "
        "last layer as hard as the pixels' terms do. Lines and numbers are means over the seeds, in brackets the "
        "smallest and the largest. Below: originals, then one training of each row.",
        (line_chart(power, title="power over that of the originals, by cycles a pixel", log=True),
         line_chart(lines("sharpness"), title="edges over those of the originals, by step"),
         line_chart(lines("psnr_db"), title="PSNR of new pictures in dB, by step", unit="dB")),
        found.pictures(shown, *(names[0] for names in runs.values())),
        (("", "seeds", "edges over originals'", "power of the upper half of frequencies", "PSNR, dB",
          "weight of equal pull"), *rows),
    )  # fmt: skip


def _spread(values: list[float], digits: int) -> str:
    """Return mean, smallest and largest value."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def scales_figure(found: FigureResults) -> Figure | None:
    """Return what early scales say, with and without the pressure on them."""
    names = found.have({"d16": "whole pyramids alone", "reg": "truncated pyramids too"})
    if len(names) < 2:
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
        (line_chart(lines, title="PSNR of new pictures in dB, by number of scales", unit="dB"),),
        None,
        (("PSNR in dB from", "1 scale", "2 scales", "3", "4"), *rows),
    )


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the page and of what the trainings leave")
    parser.add_argument("--steps", type=int, default=800, help="updates of each training (800)")
    parser.add_argument("--emoji", type=Path, help="folder of emoji as PNG files, for the figure of the discriminator")
    parser.add_argument("--runs", default=",".join(run.name for run in RUNS), help="only some of the trainings")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    wanted = set(args.runs.split(","))
    if unknown := wanted - {run.name for run in RUNS}:
        raise SystemExit(f"unknown {sorted(unknown)}; there are {', '.join(run.name for run in RUNS)}")
    for run in (run for run in RUNS if run.name in wanted and (run.world == "scenes" or args.emoji)):
        done = args.out / f"{run.name}.json"
        if not (done.exists() and json.loads(done.read_text())["num_steps"] == args.steps):
            train_one(run, args.steps, args.out, drawn_scenes() if run.world == "scenes" else emoji(args.emoji))
            print(f"trained {run.name}", flush=True)
    found = FigureResults(args.out)
    sharpness = sharpness_figure(found, emoji(args.emoji)) if args.emoji else None
    drawn = (bits_figure(found), memory_figure(), entropy_figure(found), sharpness, scales_figure(found))
    page = figures_html(
        "The tokenizer in figures",
        f"Small trainings (a share of 1 is {args.steps} updates of 16 pictures), measured on pictures that were not "
        "trained on. Where nothing else is said: drawn scenes of 32 px, 128 of which are measured on, and one seed, "
        "which says which way a thing goes, not how far.",
        tuple(figure for figure in drawn if figure is not None),
    )
    (args.out / "tokenizer.html").write_text(page, encoding="utf-8")
    print(args.out / "tokenizer.html")


if __name__ == "__main__":
    main()
