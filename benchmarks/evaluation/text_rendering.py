"""Word accuracy of the text-rendering benchmark on drawn words, as a curve over the size of letters."""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from infinity.evaluation.text_rendering.scoring import text_score, words_of
from infinity.perception.detection.ocr import TextArea, TextAreaConfig

WORDS = (
    "coffee", "window", "garden", "open", "river", "market", "school", "yellow", "summer", "bridge", "candle", "forest",
    "hotel", "museum", "orange", "pizza", "quiet", "station", "tiger", "violin",
)  # fmt: skip
SIZES_PX = (4, 6, 8, 10, 12, 16, 24, 32, 48)


def drawn_word(word: str, size_px: int, side_px: int = 256) -> Image.Image:
    """Return a word in black letters of a size on a white square."""
    picture = Image.new("RGB", (side_px, side_px), "white")
    font = ImageFont.load_default(size_px)
    ImageDraw.Draw(picture).text((side_px / 2, side_px / 2), word, fill="black", font=font, anchor="mm")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=len(WORDS), help="number of words per size")
    arguments = parser.parse_args()
    ocr = TextArea(TextAreaConfig(min_confidence=0.5))
    print("letters (px)  word accuracy  edit distance")
    for size in SIZES_PX:
        scores = []
        for word in WORDS[: arguments.words]:
            read = ocr.words(np.asarray(drawn_word(word, size)))
            scores.append(text_score([word], [part for each in read for part in words_of(each.text)]))
        accuracy, distance = (
            sum(getattr(score, name) for score in scores) / len(scores) for name in ("accuracy", "edit_distance")
        )
        print(f"{size:>12}  {accuracy:>13.2f}  {distance:>13.2f}")


if __name__ == "__main__":
    main()
