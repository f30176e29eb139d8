"""Drawings say how they were drawn, and none hides another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.generation import DrawingSettings, PyramidGuidance, SamplingConfig, read_drawing
from infinity.generation.picture_files import to_png, write_drawing

PROMPTS = ["a red cube", "красный куб", "赤い立方体", "🎈", "", "a/b\\c", "x" * 5000, "two\nlines\x00", "A RED CUBE!"]
SAMPLINGS = [
    SamplingConfig(),
    SamplingConfig(guidance=PyramidGuidance(start=1.0, end=4.0), temperature=(1.0, 0.5), negative_prompt="灰色"),
    SamplingConfig(guidance=(1.0, 2.0), guide_logits=False, guided_blocks=(-1,), greedy=True, nucleus=0.5),
]


def drawing(
    prompt: str = "a red cube", seed: int = 0, sampling: SamplingConfig = SAMPLINGS[0], **more: str
) -> DrawingSettings:
    return DrawingSettings.of(
        prompt, seed, sampling, aspect_ratio=1.0, size=(3, 2), model=more.get("model", "0123456789abcdef")
    )


def image(level: int = 0) -> np.ndarray:
    return np.full((2, 3, 3), level, dtype=np.uint8)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_settings_come_back_from_the_file(tmp_path: Path, prompt: str, sampling: SamplingConfig) -> None:
    about = drawing(prompt, -7, sampling)
    path = write_drawing(tmp_path / "out", 3, to_png(image(9), about), about)
    assert read_drawing(path) == about
    assert about.sampling == sampling
    with Image.open(path) as found:
        assert np.array_equal(np.asarray(found), image(9))


def test_no_two_drawings_share_a_name_and_the_same_one_stays_one_file(tmp_path: Path) -> None:
    paths = set()
    drawings = [drawing(prompt, 0, sampling) for prompt in PROMPTS for sampling in SAMPLINGS]
    drawings += [drawing(model="fedcba9876543210"), drawing(seed=1)]
    for level, about in enumerate(drawings):
        path = write_drawing(tmp_path, 0, to_png(image(level), about), about)
        assert write_drawing(tmp_path, 0, to_png(image(level), about), about) == path
        paths.add(path)
    assert len(paths) == len(drawings) == len(list(tmp_path.iterdir()))
    assert [read_drawing(path) for path in sorted(paths)]
    assert all(len(path.name.encode()) < 200 for path in paths)


def test_other_pixels_with_the_same_settings_are_kept_beside_the_first(tmp_path: Path) -> None:
    about = drawing()
    paths = [write_drawing(tmp_path, 0, to_png(image(level), about), about) for level in range(4)]
    assert len(set(paths)) == 4
    for level, path in enumerate(paths):
        with Image.open(path) as found:
            assert np.array_equal(np.asarray(found), image(level))


def test_files_without_settings_are_clear_errors(tmp_path: Path) -> None:
    Image.fromarray(image()).save(tmp_path / "plain.png")
    (tmp_path / "notes.png").write_text("no picture")
    Image.fromarray(image()).save(tmp_path / "photo.jpg")
    for name, message in (("plain.png", "text chunk"), ("notes.png", "PNG"), ("photo.jpg", "PNG")):
        with pytest.raises(ValueError, match=message):
            read_drawing(tmp_path / name)
