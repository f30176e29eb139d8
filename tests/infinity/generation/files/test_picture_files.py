"""Drawings say how they were drawn, and none hides another."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity import storage
from infinity.generation import DrawingSettings, PyramidGuidance, SamplingConfig, read_drawing
from infinity.generation.files.picture_files import WatermarkUse, to_png, write_drawing
from infinity.generation.watermark.key import write_new_key

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


@pytest.mark.sweep(8)
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


@pytest.mark.parametrize("uri", ["s3://bucket/out", "file:///tmp/x", "https://example.com/x"])
def test_pictures_go_into_folders_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="expected a folder on this machine for the pictures, found a URI"):
        write_drawing(Path(uri), 0, to_png(image(), drawing()), drawing())
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OSError, match=r"out: expected a folder for the pictures, found something else"):
        write_drawing(tmp_path / "out", 0, to_png(image(), drawing()), drawing())
    assert (tmp_path / "out").read_text() == "x"


def test_a_pipe_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    usual = write_drawing(tmp_path / "a", 0, to_png(image(), drawing()), drawing()).name
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / usual)
    other = write_drawing(tmp_path / "b", 0, to_png(image(), drawing()), drawing())
    assert other.name != usual
    assert read_drawing(other) == drawing()


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """What a disk that is nearly full does: a write ends in the middle with an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_gets_no_half_a_picture_and_is_named(tmp_path: Path) -> None:
    png = to_png(image(), drawing())
    with (
        files_of_at_most(len(png) // 2),
        pytest.raises(storage.StorageError, match=rf"cannot write {tmp_path}/out/000"),
    ):
        write_drawing(tmp_path / "out", 0, png, drawing())
    assert list((tmp_path / "out").iterdir()) == []
    assert write_drawing(tmp_path / "out", 0, png, drawing()).read_bytes() == png


def test_half_a_watermark_key_is_no_key(tmp_path: Path) -> None:
    with files_of_at_most(10), pytest.raises(storage.StorageError, match=rf"cannot write the key {tmp_path}/key"):
        write_new_key(tmp_path / "key")
    assert not (tmp_path / "key").exists()


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(storage.StorageError, match=r"cannot make the folder .*file/out for .*; choose another place"):
        write_drawing(tmp_path / "file" / "out", 0, to_png(image(), drawing()), drawing())


def test_a_watermark_is_in_the_settings_of_marked_pictures_alone() -> None:
    """Files of pictures without one keep the bytes that they had before there were watermarks."""
    plain, use = drawing(), WatermarkUse(key_id="3e022888be9b", strength=2.0)
    assert "watermark" not in plain.to_json()
    assert plain.replace(watermark=use).to_json()["watermark"] == use.to_json()
    assert DrawingSettings.parse(plain.replace(watermark=use).dump()).watermark == use
