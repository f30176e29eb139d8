"""Pictures fit into a run page, and captions cannot break it."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from flows.pages.pictures import embedded, figure, inline
from infinity.reporting.summary import Sheet


def _decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_small_png_goes_in_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "red").save(path)
    uri = embedded(str(path))
    assert uri == f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_a_large_picture_becomes_a_thumbnail_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    uri = embedded(str(path))
    assert uri.startswith("data:image/webp;base64,")
    assert len(base64.b64decode(uri.partition(",")[2])) <= 12_000
    assert abs(_decoded(uri).width / _decoded(uri).height - 900 / 700) < 0.02


def test_captions_mean_nothing_but_themselves() -> None:
    assert inline("a\nb") == "a b"
    assert inline("![x](javascript:1) <b> | `c`") == r"\!\[x\]\(javascript:1\) \<b\> \| \`c\`"


def test_a_figure_has_title_picture_and_numbered_captions(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    text = figure(Sheet(image=str(tmp_path / "a.png"), title="step 4", captions=("one", "two")))
    assert text.startswith("### step 4\n\n![step 4](data:image/png;base64,")
    assert text.endswith(f"The whole picture: `{tmp_path / 'a.png'}`\n\n1. one\n2. two\n")
