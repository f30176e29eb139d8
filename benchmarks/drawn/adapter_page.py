"""What an adapter changes: drawings with and without it, of captions that it learned and of captions that it did not.

    python -m benchmarks.drawn.adapter_page MODEL MANIFEST --pictures new --prior known
    infinity finetune new --base MODEL --prior known --output runs/mine
    python -m benchmarks.drawn.adapter_page MODEL MANIFEST --adapter ADAPTER --sheet page.png

The first command writes pictures of the validation split, which the model never saw, with their captions, and some of
the training split. The last one draws the new captions and as many of the training split, with the same seeds, without
the adapter and with it. It prints
the PSNR of the drawings against the pictures that were captioned so, and of the drawings with the adapter against those
without it; the sheet shows original, without and with it.
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring.scenes import drawing_parser, sampling_of
from infinity import InfinityPipeline
from infinity.data.dataset.manifest import Manifest, Split
from infinity.data.images.contact_sheet import compose_sheet
from infinity.data.loading.batches import load_images


def chosen(manifest: Manifest, split: Split, count: int, seed: int) -> list[int]:
    """Return rows of a split, drawn at random.

    Raises:
        SystemExit: The split has fewer.
    """
    rows = [int(row) for row in manifest.rows(split)]
    if len(rows) < count:
        raise SystemExit(f"{manifest.uri}: {count} pictures of {split} were asked for, there are {len(rows)}")
    return random.Random(seed).sample(rows, count)


def write_pictures(manifest: Manifest, rows: Sequence[int], folder: Path) -> None:
    """Write the pictures of some rows with a text file of the same stem beside each."""
    folder.mkdir(parents=True)
    for row, caption in zip(rows, manifest.captions(rows), strict=True):
        Image.open(io.BytesIO(manifest.read_image(row))).save(folder / f"{row}.png")
        (folder / f"{row}.txt").write_text(caption + "\n", encoding="utf-8")


def psnr_db(some: np.ndarray, others: np.ndarray) -> float:
    """Return the median over pictures of the PSNR in decibels; 99 for equal pictures."""
    errors = ((some.astype(np.float64) - others.astype(np.float64)) ** 2).mean(axis=(1, 2, 3))
    return float(np.median(10 * np.log10(255**2 / np.maximum(errors, 255**2 / 10**9.9))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures, or draw without and with the adapter and print what it changes."""
    parser = drawing_parser(__doc__, guidance=3.0, temperature=0.4)
    parser.add_argument("manifest", help="manifest of the data set on which the model was trained")
    parser.add_argument("--pictures", type=Path, help="new folder for the pictures to learn")
    parser.add_argument("--prior", type=Path, help="new folder for as many pictures of the training split")
    parser.add_argument("--adapter", help="folder of a trained adapter")
    parser.add_argument("--sheet", type=Path, help="PNG: learned captions, then others; original, without, with")
    parser.add_argument("--count", type=int, default=30, help="pictures of each kind (30)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice and of the drawings (0)")
    given = parser.parse_args(arguments)
    manifest = Manifest.load(given.manifest)
    new = chosen(manifest, "validation", given.count, given.seed)
    # Others than the pictures of the prior, which have the same seed.
    known = chosen(manifest, "train", 2 * given.count, given.seed)
    for folder, rows in ((given.pictures, new), (given.prior, known[given.count :])):
        if folder:
            write_pictures(manifest, rows, folder)
    if given.adapter is None:
        return 0
    pipe = InfinityPipeline.from_pretrained(given.model, device="cpu")
    sampling = sampling_of(given)
    cells: list[np.ndarray] = []
    for kind, rows in (("learned", new), ("other", known[: given.count])):
        seeds = [given.seed] * len(rows)
        without = pipe.draw(manifest.captions(rows), seeds, sampling).pixels()
        pipe.load_lora_weights(given.adapter)
        with_it = pipe.draw(manifest.captions(rows), seeds, sampling).pixels()
        pipe.unload_lora_weights()
        originals = load_images(manifest, rows, without.shape[1:3])
        print(
            f"{kind} captions, {len(rows)}: to the captioned picture {psnr_db(without, originals):.1f} dB without and "
            f"{psnr_db(with_it, originals):.1f} dB with the adapter; between both {psnr_db(without, with_it):.1f} dB"
        )
        cells += [each for three in zip(originals, without, with_it, strict=True) for each in three]
    if given.sheet:
        given.sheet.write_bytes(compose_sheet(cells, columns=30))
    return 0


if __name__ == "__main__":
    sys.exit(main())
