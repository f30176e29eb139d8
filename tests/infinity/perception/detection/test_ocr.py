"""Text in pictures, read for real: drawn words, turned, small, many, none."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from infinity.perception.detection import ocr
from infinity.perception.detection.ocr import TextArea, TextAreaConfig


@pytest.fixture(scope="module")
def reader() -> TextArea:
    return TextArea(TextAreaConfig())


def _picture(text: str, size_px: int = 40, degrees: int = 0, noisy: bool = False) -> tuple[np.ndarray, float]:
    """A picture of 320 x 480 pixels and the share that the frame of its text covers."""
    background = np.full((320, 480, 3), 200, np.uint8)
    if noisy:
        background = np.random.default_rng(0).integers(90, 220, (40, 60, 3), dtype=np.uint8)
        background = np.asarray(Image.fromarray(background).resize((480, 320), Image.Resampling.BICUBIC))
    font = ImageFont.load_default(size_px)
    left, top, right, bottom = (int(side) for side in font.getbbox(text))
    layer = Image.new("L", (480, 480))
    ImageDraw.Draw(layer).text(((480 - right) // 2, (480 - bottom) // 2), text, fill=255, font=font)
    mask = layer.rotate(degrees, Image.Resampling.BICUBIC).crop((0, 80, 480, 400))
    picture = Image.composite(Image.new("RGB", (480, 320), (20, 20, 60)), Image.fromarray(background), mask)
    return np.asarray(picture), (right - left) * (bottom - top) / (480 * 320)


def test_words_are_read_where_they_stand(reader: TextArea) -> None:
    picture, _ = _picture("SPECIAL OFFER")
    (word,) = reader.words(picture)
    assert word.text.replace(" ", "") == "SPECIALOFFER"
    xs, ys = zip(*word.corners, strict=True)
    assert min(xs) > 40
    assert max(xs) < 440
    assert 120 < min(ys) < max(ys) < 200


@pytest.mark.parametrize(("size_px", "degrees"), [(60, 0), (40, 0), (40, 15), (40, -35), (40, 90), (16, 0)])
def test_the_share_is_about_that_of_the_frame_of_the_text(reader: TextArea, size_px: int, degrees: int) -> None:
    text = "WATER" if degrees == 90 else "SPECIAL OFFER"
    picture, share = _picture(text, size_px, degrees, noisy=size_px > 20)
    (found,) = reader([picture])
    assert 0.8 * share < found < 2.2 * share, f"expected about {share:.4f}, got {found:.4f}"


def test_more_text_covers_more(reader: TextArea) -> None:
    none, small, large = (_picture(text, size)[0] for text, size in ((" ", 40), ("offer", 24), ("OFFER", 110)))
    scores = reader([none, small, large])
    assert scores[0] == 0
    assert 0 < scores[1] < 0.03 < 0.15 < scores[2] < 0.6


def test_pictures_without_text_score_nothing(reader: TextArea) -> None:
    random = np.random.default_rng(1)
    shapes = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(shapes).rectangle((20, 60, 90, 130), fill="red")
    ImageDraw.Draw(shapes).ellipse((110, 40, 190, 120), fill="blue")
    noise = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert reader([np.asarray(shapes), noise, np.zeros((8, 8, 3), np.uint8)]).tolist() == [0, 0, 0]


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise ocr.PackageNotFoundError(name)

    monkeypatch.setattr(ocr, "version", missing)
    with pytest.raises(ValueError, match=r"pip install 'infinity-t2i\[ocr\]'"):
        TextAreaConfig().weights_digest()
    monkeypatch.setitem(__import__("sys").modules, "rapidocr", None)
    with pytest.raises(ValueError, match=r"pip install 'infinity-t2i\[ocr\]'"):
        TextArea(TextAreaConfig())
