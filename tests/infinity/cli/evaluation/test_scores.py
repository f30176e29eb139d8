"""Commands about figures, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.fid.inception import InceptionFeatures
from tests.fixtures.data.small_world import write_data, write_model
from tests.fixtures.jobs.evaluations import prompts, write_evaluation


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.ray
def test_evaluate_scores_several_checkpoints_and_compare_finds_them(local_ray: None, tmp_path: Path) -> None:
    models = [write_model(tmp_path / name) for name in ("one", "two")]
    manifest = write_data(tmp_path / "data", num_validation=4)
    options = ("-b", "reconstruction", "-b", 'scenes={"pictures_per_prompt": 1, "prompts_per_task": 1, "num_shown": 1}')
    options = (
        *options,
        "--manifest",
        manifest,
        "-o",
        tmp_path / "out",
        "--set",
        "sampling.greedy=true",
        "--set",
        "seed=3",
    )
    code, output = run("evaluate", *models, *options)
    assert code == 0, output
    assert output.count("scene_geneval.overall") == 2
    assert "reconstruction.psnr_db" in output
    folders = [part for part in output.split() if part.startswith(str(tmp_path / "out" / "evaluation-"))]
    folders = [part for part in folders if not part.endswith("/spec.json")]
    assert len(folders) == 2
    assert output.count("px, seed 3") == output.count("repeat: infinity run /") == 2
    code, output = run("compare", *folders, "-o", tmp_path / "page")
    assert code == 0, output
    assert "reconstruction.psnr_db" in output
    assert (tmp_path / "page" / "comparison.html").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-b", "magic"), "--benchmark: expected one of reconstruction, validation, samples, scenes"),
        (("-b", "scenes=much"), "--benchmark scenes: expected JSON"),
        (("-b", 'scenes={"prompts": 2}'), "unknown 'prompts'"),
        (("-b", "scenes", "--set", "sampling"), "--set: expected path=JSON"),
        (("-b", "scenes", "--set", "sampling.magic=1"), "unknown 'magic'"),
        (("-b", "scenes", "--set", "seed.x=1"), "evaluate.seed"),
        (("-b", "reconstruction"), "need a data set"),
        (("-b", "scenes"), "expected a checkpoint folder"),
    ],
)
def test_impossible_evaluations_are_one_clear_line(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    code, output = run("evaluate", tmp_path / "none", *options, "-o", tmp_path / "out")
    assert code == 1, output
    assert words in output
    assert "Traceback" not in output


def test_compare_writes_a_page_and_says_when_there_is_nothing_to_compare(tmp_path: Path) -> None:
    before = write_evaluation(tmp_path / "a", "one", prompts(20, 0.5))
    after = write_evaluation(tmp_path / "b", "two", prompts(20, 0.5))
    code, output = run("compare", tmp_path / "a", after.folder, "-o", tmp_path / "page")
    assert code == 0, output
    assert "scene_geneval.overall 0.5 0.5 +0" in output
    page = (tmp_path / "page/comparison.html").read_text()
    assert "a, transformer-one" in page  # names of models, not of folders
    assert "b, transformer-two" in page
    assert "first drawn with: guidance 2 on logits, temperature 1, top-p 0.97, seed 0" in output
    for text in (output, page):
        assert "scene-geneval/1" in text
        assert text.count(f"infinity run {before.folder}/spec.json") == 1
    other = write_evaluation(tmp_path / "c", "two", prompts(20, 0.5), guidance=9.0)
    code, output = run("compare", before.folder, other.folder, "-o", tmp_path / "page")
    assert code == 0
    assert "no paired scores" in output
    code, output = run("compare", before.folder, tmp_path, "-o", tmp_path / "page")
    assert code == 1
    assert "found 0" in output


def test_leaderboard_prints_and_writes(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", "one", prompts(20, 0.5))
    code, output = run("leaderboard", tmp_path / "a", "--metric", "scene_geneval")
    assert code == 0
    assert "(ours) 0.5" in output
    assert "scene-geneval/1" in output
    code, output = run("leaderboard", tmp_path / "a", tmp_path / "a")
    assert (code, "expected every evaluation once, got it twice" in output) == (1, True)
    for name in ("board.md", "board.html"):
        code, output = run("leaderboard", tmp_path / "a", "-o", tmp_path / name)
        assert code == 0
        text = (tmp_path / name).read_text()
        assert "Infinity-2B, paper" in text
        assert "(ours)" in text
    assert run("leaderboard", "-o", tmp_path / "board.pdf")[0] == 1
    assert "no metric begins with 'x.'" in run("leaderboard", "--metric", "x.")[1]


def test_card_names_what_is_no_model(tmp_path: Path) -> None:
    code, output = run("card", tmp_path)
    assert code == 1
    assert "expected a model folder" in output


def test_statistics_of_a_folder_are_written_with_their_passport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infinity.evaluation.fid import fused_inception

    class Network:
        def __init__(self, loaded: object) -> None:
            assert loaded == "weights.pth"

        def to(self, device: str) -> Network:
            return self

        def __call__(self, images: torch.Tensor) -> InceptionFeatures:
            features = images.mean(dim=(2, 3)).repeat(1, 22)[:, :64]
            return InceptionFeatures(features, features, features, features, features, features)

    monkeypatch.setattr(fused_inception, "load_inception", lambda weights: weights.uri)
    monkeypatch.setattr(fused_inception, "FusedInception", Network)
    for number in range(3):
        Image.new("RGB", (8 + number, 9), (number, 0, 0)).save(tmp_path / f"{number}.png")
    options = ("--feature", "64", "--weights", "weights.pth", "--convention", "pytorch_fid", "--size-px", "8")
    code, output = run("statistics", tmp_path, tmp_path / "out.npz", *options)
    assert code == 0, output
    assert "3 pictures, inception-2015/2 (pytorch_fid)" in output
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert found["mu"].shape == (64,)
        assert "8 x 8 px" in str(found["passport"])
    for wrong, words in (
        ((tmp_path / "none", "a.npz"), "expected at least 2 pictures"),
        ((tmp_path, "a.pt"), "ending in .npz"),
        ((tmp_path, "a.npz", "--convention", "magic"), "expected one of 'tf1'"),
        ((tmp_path, "a.npz", "--split", "test"), "expected one of"),
    ):
        code, output = run("statistics", *wrong)
        assert code == 1, output
        assert words in output
