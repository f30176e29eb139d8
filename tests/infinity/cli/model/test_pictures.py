"""`infinity generate` and `infinity reconstruct` say what is wrong with a place, a picture or a number."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity import InfinityPipeline
from infinity.cli import app
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.fixtures.data.small_world import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def text(path: Path) -> None:
    path.write_text("not a picture")


def cut(path: Path) -> None:
    path.write_bytes(encoded(noise(16, 16))[:200])


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (text, r"a\.png: expected a picture, found not a picture: begins with"),
        (cut, r"a\.png: expected a picture, found"),
        (pipe, r"a\.png: expected a file, found a pipe"),
        (Path.mkdir, r"a\.png: it is a folder"),
        (Path, r"a\.png: there is no such file"),
    ],
)
def test_what_is_no_picture_is_named(model: str, tmp_path: Path, make: Callable[[Path], object], found: str) -> None:
    wrong, good, common = tmp_path / "a.png", tmp_path / "good.png", ["-c", model, "-o", tmp_path / "out"]
    make(wrong)
    good.write_bytes(encoded(noise(24, 24)))
    edit = ["-p", "a", *common]
    for arguments in (
        ["reconstruct", wrong, *common], ["edit", wrong, "--mask", good, *edit], ["edit", good, "--mask", wrong, *edit],
        ["edit", wrong, "--keep-scales", 1, *edit], ["edit", wrong, "--outpaint", 2, *edit],
    ):  # fmt: skip
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 1
        assert re.search(found, " ".join(result.output.split())), result.output


def test_a_schedule_that_ends_at_one_position_is_refused_by_name(model: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(16, 16)))
    command = ["reconstruct", str(tmp_path / "a.png"), "-c", model, "--sides", "1,1", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "--sides: expected a finest side of at least 2, got 1,1" in result.output


def test_the_folder_of_the_pictures_is_looked_at_before_the_model(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    command = ["generate", "-c", str(tmp_path / "no model"), "-p", "a cube", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "expected a folder for the pictures, found something else" in " ".join(result.output.split())


def test_every_copy_of_every_prompt_has_its_seed_in_every_batch_size(model: str, tmp_path: Path) -> None:
    for size in (1, 2, 3, 8):
        command = ["generate", "-c", model, "-p", "a", "-p", "b", "--count", "3", "--seed", "5", f"--batch-size={size}"]
        assert CliRunner().invoke(app, [*command, "-o", str(tmp_path / str(size))]).exit_code == 0
        assert sorted(path.name for path in (tmp_path / str(size)).iterdir()) == [
            f"{index:03d}-{word}-seed{seed}.png"
            for index, (word, seed) in enumerate((word, seed) for word in "ab" for seed in (5, 6, 7))
        ]


def test_a_prompt_that_is_given_again_goes_on_with_the_next_seeds_as_in_python(model: str, tmp_path: Path) -> None:
    command = ["generate", "-c", model, "-p", "a", "-p", "b", "-p", "a", "--count", "2", "--batch-size", "3"]
    assert CliRunner().invoke(app, [*command, "-o", str(tmp_path)]).exit_code == 0
    drawn = sorted(tmp_path.iterdir())
    seeds = [path.stem.rpartition("seed")[2] for path in drawn]
    result = InfinityPipeline.from_pretrained(model, device="cpu")(["a", "b", "a"], num_images_per_prompt=2)
    assert seeds == [str(seed) for seed in result.seeds] == ["0", "1", "0", "1", "2", "3"]
    for path, picture in zip(drawn, result.pixels(), strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), picture)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--later-scale", "2"), "--later-scale: expected --later-prompt with it, found none"),
        (("--guidance", "1...3"), "--guidance: expected two points between start and end, got '1...3'"),
    ],
)
def test_options_that_would_be_passed_over_or_misread_are_refused(
    model: str, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    result = CliRunner().invoke(app, ["generate", "-c", model, "-p", "a", "-o", str(tmp_path / "o"), *options])
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())


def test_less_work_is_the_same_through_both_doors(model: str, tmp_path: Path) -> None:
    arguments = ["-c", model, "-p", "a", "--pruned", "0.25,0.5", "--cache-share", "0.5", "-o", str(tmp_path)]
    result = CliRunner().invoke(app, ["generate", *arguments])
    assert result.exit_code == 0, result.output
    (drawn,) = tmp_path.rglob("*.png")
    expected = InfinityPipeline.from_pretrained(model)("a", pruned=(0.25, 0.5), cache_share=0.5).images[0]
    assert np.array_equal(np.asarray(Image.open(drawn)), np.asarray(expected))
    wrong = CliRunner().invoke(app, ["generate", *arguments[:4], "--cache-share", "0", "-o", str(tmp_path)])
    assert wrong.exit_code == 1
    assert "cache_share: expected shares above 0 up to 1" in " ".join(wrong.output.split())
