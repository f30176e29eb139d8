"""``infinity distance``: folders and statistics files in any pair, with one network for both sides."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.fid import fused_inception
from infinity.evaluation.fid.inception import InceptionFeatures
from infinity.evaluation.fid.inception_weights import InceptionWeights

OPTIONS = ("--feature", "64", "--kid-subset", "4", "--convention", "pytorch_fid", "--weights", "w.pth")
LOADS: list[str] = []


def network(images: torch.Tensor) -> InceptionFeatures:
    """Mean colours, repeated to the widths of the real network."""
    features = images.mean(dim=(2, 3)).repeat(1, 22)[:, :64]
    logits = images.mean(dim=(2, 3)).repeat(1, 336)
    return InceptionFeatures(features, features, features, features, logits, logits)


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(weights: InceptionWeights, device: str) -> object:
        LOADS.append(weights.uri)
        return network

    LOADS.clear()
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(fused_inception, "load_fused_inception", load)


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def write(folder: Path, seed: int, number: int = 12) -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for index in range(number):
        Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"{index:02d}.png")
    return folder


def value(output: str, metric: str) -> float:
    return float(output.split(f" {metric} ")[1].split()[0])


def test_two_folders_get_all_figures_and_a_folder_has_no_distance_from_itself(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 1), write(tmp_path / "b", 2)
    code, output = run("distance", first, second, *OPTIONS)
    assert code == 0, output
    for metric in ("fid", "kid", "inception_score", "precision", "recall"):
        assert f" {metric} " in output
    assert "a: 12 pictures as they are" in output
    assert LOADS == ["w.pth"]
    same = run("distance", first, first, *OPTIONS)[1]
    assert abs(value(same, "fid")) < 1e-4 < value(output, "fid")
    assert value(same, "precision") == value(same, "recall") == 1.0


def test_a_file_of_statistics_gives_the_fid_of_its_folder_and_says_what_it_lacks(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 1), write(tmp_path / "b", 2)
    options = [option for option in OPTIONS if option not in ("--kid-subset", "4")]
    assert run("statistics", second, tmp_path / "b.npz", *options)[0] == 0
    code, output = run("distance", first, tmp_path / "b.npz", *OPTIONS)
    assert code == 0, output
    assert value(output, "fid") == value(run("distance", first, second, *OPTIONS)[1], "fid")
    missing = output.partition("not measured")[0].rpartition("[2]")[2].replace(",", " ").split()
    assert all(metric in missing for metric in ("kid", "inception_score", "precision", "recall"))
    assert "name the pictures" in output


def test_two_files_of_statistics_need_no_network(tmp_path: Path) -> None:
    options = [option for option in OPTIONS if option not in ("--kid-subset", "4")]
    for name, seed in (("a", 1), ("b", 2)):
        run("statistics", write(tmp_path / name, seed), tmp_path / f"{name}.npz", *options)
    LOADS.clear()
    assert run("distance", tmp_path / "a.npz", tmp_path / "b.npz", *OPTIONS)[0] == 0
    assert LOADS == []


@pytest.mark.parametrize(
    ("second", "options", "words"),
    [
        ("none", (), "expected at least 2 pictures"),
        ("b.npz", ("--convention", "tf1"), "different conventions never compare"),
        ("b", ("--convention", "magic"), "expected one of 'tf1'"),
        ("b", ("--feature", "65"), "expected one of (64, 192, 768, 2048)"),
        ("gone.npz", (), "gone.npz"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(
    tmp_path: Path, second: str, options: tuple[str, ...], words: str
) -> None:
    first = write(tmp_path / "a", 1)
    write(tmp_path / "b", 2)
    (tmp_path / "none").mkdir()
    run("statistics", tmp_path / "b", tmp_path / "b.npz", "--feature", "64", "--convention", "pytorch_fid")
    code, output = run("distance", first, tmp_path / second, *OPTIONS, *options)
    assert code == 1
    assert words in output
    assert "Traceback" not in output


def test_a_published_file_without_its_convention_needs_it_stated_and_then_compares(tmp_path: Path) -> None:
    first = write(tmp_path / "a", 1)
    np.savez(tmp_path / "published.NPZ", mu=np.zeros(64), sigma=np.eye(64), mu_s=np.zeros(3))
    (tmp_path / "published.NPZ.npz").rename(tmp_path / "published.NPZ")
    options = [option for option in OPTIONS if option not in ("--convention", "pytorch_fid")]
    code, output = run("distance", first, tmp_path / "published.NPZ", *options)
    assert code == 1
    assert "state the convention (--convention)" in output
    code, output = run("distance", first, tmp_path / "published.NPZ", *OPTIONS)
    assert code == 0, output
    assert value(output, "fid") > 0


def test_shards_have_the_figures_of_the_folder_that_they_hold(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 1), write(tmp_path / "b", 2)
    (tmp_path / "shards").mkdir()
    for number, half in enumerate((sorted(first.iterdir())[:6], sorted(first.iterdir())[6:])):
        with tarfile.open(tmp_path / f"shards/{number:05d}.tar", "w") as tar:
            for file in half:
                tar.add(file, file.name)
    found = [run("distance", place, second, *OPTIONS)[1] for place in (first, tmp_path / "shards")]
    for metric in ("fid", "kid", "precision", "recall"):
        assert value(found[0], metric) == value(found[1], metric)


def test_an_archive_has_the_figures_of_the_folder_that_it_holds(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 1), write(tmp_path / "b", 2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(first.iterdir()):
            archive.write(file, file.name)
    found = [run("distance", place, second, *OPTIONS)[1] for place in (first, tmp_path / "a.zip")]
    for metric in ("fid", "kid", "precision", "recall"):
        assert value(found[0], metric) == value(found[1], metric)
