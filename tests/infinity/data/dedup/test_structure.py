"""Thumbnails without structure merge no pictures; of two versions the one without a frame stays."""

from bisect import bisect_right
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.duplicates import near_duplicates
from infinity.data.dedup.near_duplicates import thumbnails_in
from infinity.data.dedup.structure import told_by
from tests.fixtures.data.drawn_sets import drawing
from tests.fixtures.data.facts_builder import facts_of
from tests.infinity.data.dedup.test_duplicates import facts_of_picture


def night_sky(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    sky = random.normal(12, 2, (480, 640, 3))
    for _ in range(150):
        sky[random.integers(480), random.integers(640)] = random.uniform(120, 255)
    return Image.fromarray(sky.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def page_of_text(seed: int, margin: int = 50, step: int = 17, size: int = 12) -> Image.Image:
    random, font = np.random.default_rng(seed), ImageFont.load_default(size)
    page = Image.new("RGB", (600, 800), (252, 252, 250))
    canvas = ImageDraw.Draw(page)
    for y in range(margin, 800 - margin, step):
        words = ["".join(chr(97 + int(c)) for c in random.integers(0, 26, random.integers(2, 9))) for _ in range(30)]
        text = " ".join(words)
        most = bisect_right(range(len(text)), 600 - 2 * margin, key=lambda end: font.getlength(text[: end + 1]))
        text = text[:most]
        canvas.text((margin, y), text, fill=(20, 20, 20), font=font)
    return page


def dense_page(seed: int) -> Image.Image:
    return page_of_text(seed, 20, 12, 10)


def wide_margins(seed: int) -> Image.Image:
    return page_of_text(seed, 100, 24, 18)


def lawn(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.normal((70, 120, 50), 35, (400, 400, 3)).clip(0, 255).astype(np.uint8))


def fog(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(196, 208, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((400, 300), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", [night_sky, page_of_text, dense_page, wide_margins, lawn, fog])
def test_different_pictures_without_structure_all_stay(kind: Callable[[int], Image.Image]) -> None:
    facts = facts_of([facts_of_picture(kind(seed), f"{seed}") for seed in range(6)])
    assert near_duplicates(facts, NearDuplicates()) == []


def test_drawings_have_structure_and_no_frame() -> None:
    facts = facts_of([facts_of_picture(drawing(seed), f"{seed}") for seed in range(200)])
    structured, framed = told_by(facts, thumbnails_in(facts), NearDuplicates().difference)
    assert structured.mean() > 0.98
    assert framed.mean() < 0.02


@pytest.mark.parametrize("colour", ["white", "black", "#a03020"])
@pytest.mark.parametrize("share", [0.03, 0.045])
def test_of_a_picture_and_the_same_in_a_frame_the_picture_stays(colour: str, share: float) -> None:
    """Whatever has more pixels; and of two without a frame the one with more pixels."""
    wrong = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        small = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        original = Image.fromarray(small).resize((300, 240), Image.Resampling.BICUBIC)
        framed = ImageOps.expand(original, int(share * 300), colour)
        larger = original.resize((600, 480), Image.Resampling.BICUBIC)
        rows = [
            facts_of_picture(original, "original"),
            facts_of_picture(framed, "framed"),
            facts_of_picture(larger, "larger"),
        ]
        facts = facts_of(rows)
        dropped = {facts["name"][match.index].as_py() for match in near_duplicates(facts, NearDuplicates())}
        wrong += "larger" in dropped
        assert "original" in dropped
        alone = facts_of(rows[:2])
        wrong += any(match.index == 0 for match in near_duplicates(alone, NearDuplicates()))
    assert wrong <= 1  # a side of the picture may have the colour of the frame
