"""A page of prompts with one drawing each, for people to look at: how many could be named?

``python -m benchmarks.drawn.prompt_page <model folder> <manifest> --output page.jpg``: captions of the training
pictures, drawn at random, with their numbers under the drawings and their words beside the sheet.
"""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.measuring.scenes import drawing_parser, sampling_of
from infinity.data.dataset.manifest import Manifest
from infinity.generation.pipeline import Pipeline

CELL_PX, COLUMNS, TEXT_PX = 132, 8, 48


def chosen(manifest: Manifest, count: int, seed: int) -> list[str]:
    """Return different captions of training pictures, drawn at random.

    Raises:
        SystemExit: Fewer captions there.
    """
    splits, captions = (manifest.table[name].to_pylist() for name in ("split", "caption"))
    there = sorted({caption for split, caption in zip(splits, captions, strict=True) if split == "train"})
    if len(there) < count:
        raise SystemExit(f"{manifest.uri}: {count} captions were asked for, there are {len(there)} different ones")
    return random.Random(seed).sample(there, count)


def page(prompts: list[str], pictures: np.ndarray) -> Image.Image:
    """Return drawings in rows, each with its number and prompt below."""
    rows = -(-len(prompts) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, rows * (CELL_PX + TEXT_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        left, top = (number % COLUMNS) * CELL_PX, (number // COLUMNS) * (CELL_PX + TEXT_PX)
        drawn = Image.fromarray(picture).resize((CELL_PX - 8, CELL_PX - 8), Image.Resampling.NEAREST)
        sheet.paste(drawn, (left + 4, top + 4))
        words = "\n".join(textwrap.wrap(f"{number + 1}: {prompt}", 21)[:4])
        pen.multiline_text((left + 4, top + CELL_PX - 2), words, fill="black", spacing=1)
    return sheet


def main() -> None:
    """Draw and write the page."""
    parser = drawing_parser(__doc__, guidance=3.0, temperature=0.4)
    parser.add_argument("manifest", help="manifest of the data set, for its captions")
    parser.add_argument("--output", type=Path, default=Path("page.png"), help="picture to write (page.png)")
    parser.add_argument("--count", type=int, default=64, help="prompts (64)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of prompts and of the drawings (0)")
    args = parser.parse_args()
    prompts = chosen(Manifest.load(args.manifest), args.count, args.seed)
    drawn = Pipeline.load(args.model).generate(prompts, seeds=[args.seed] * len(prompts), sampling=sampling_of(args))
    page(prompts, drawn.images_BHW3.numpy()).save(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
