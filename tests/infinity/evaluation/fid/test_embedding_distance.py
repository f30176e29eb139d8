"""CMMD and FD-DINOv2: formulas against float64 written out, preparation by hand, intervals that cover."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.fid.embedding_distance import EmbeddedSet, embed_set, embedding_score, mmd
from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.perception.embeddings import Embedder, EmbeddingConfig, load_embedder
from tests.fixtures.models.tiny_networks import write_clip, write_dinov2


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Embedder]:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "dino").mkdir()
    places = {"cmmd": write_clip(folder / "clip"), "fd_dinov2": write_dinov2(folder / "dino")}
    return {kind: load_embedder(EmbeddingConfig(kind=kind, model=place)) for kind, place in places.items()}  # type: ignore[arg-type]


def write(folder: Path, seed: int, number: int) -> ReferenceSet:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for index in range(number):
        size = (int(random.integers(9, 30)), int(random.integers(9, 30)), 4)
        Image.fromarray(random.integers(0, 40 * seed, size, dtype=np.uint8), "RGBA").save(folder / f"{index:02d}.png")
    return ReferenceSet(uri=str(folder))


def test_mmd_is_the_published_formula_written_out() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(7, 5)) * 6, random.normal(size=(9, 5)) * 6 + 2

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return math.exp(-sum((float(p) - float(q)) ** 2 for p, q in zip(x, y, strict=True)) / (2 * 10**2))

    def mean(left: np.ndarray, right: np.ndarray) -> float:
        return math.fsum(kernel(x, y) for x in left for y in right) / (len(left) * len(right))

    expected = 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))
    assert mmd(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-12)
    assert mmd(torch.from_numpy(a), torch.from_numpy(a)) == pytest.approx(0, abs=1e-9)


def test_cmmds_vectors_are_those_of_the_middle_square_and_have_length_1(embedders: dict[str, Embedder]) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (20, 33, 3), dtype=np.uint8)
    square = Image.fromarray(picture[:, 6:26]).resize((8, 8), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, np.float32) / 255
    pixels = (pixels - (0.48145466, 0.4578275, 0.40821073)) / (0.26862954, 0.26130258, 0.27577711)
    network, prepared = embedders["cmmd"]._model, torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    vector = network.visual_projection(network.vision_model(pixel_values=prepared).pooler_output)[0]
    found = embedders["cmmd"].embed([picture])[0]
    assert torch.allclose(found, vector / vector.norm(), atol=1e-6)


def test_fd_dinov2_is_the_distance_of_first_tokens_of_pictures_scaled_to_224(
    embedders: dict[str, Embedder], tmp_path: Path
) -> None:
    embedder, sets = embedders["fd_dinov2"], []
    for name, seed in (("a", 3), ("b", 5)):
        reference = write(tmp_path / name, seed, 24)
        sets.append(embed_set(reference, embedder))
        rows = []
        for file in sorted((tmp_path / name).iterdir()):
            picture = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)  # alpha is dropped
            pixels = (np.asarray(picture) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
            tokens = embedder._model(pixel_values=torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None])
            rows.append(tokens.last_hidden_state[0, 0])
        assert torch.allclose(sets[-1].rows, torch.stack(rows), atol=1e-4)
    a, b = (each.rows.double().numpy() for each in sets)
    left, right = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(left + right - 2 * sqrtm(left @ right).real)
    score = embedding_score(*sets, embedder)
    assert score.value == pytest.approx(expected, rel=1e-6)
    assert score.low is not None
    assert score.high is not None
    assert score.low < score.value < score.high
    assert f"digest {embedder.digest}" in score.protocol


def test_intervals_cover_what_other_samples_give(embedders: dict[str, Embedder]) -> None:
    """Sets of one population: about 95 % of intervals of a difference from the mean distance should cover it."""
    generator = torch.Generator().manual_seed(0)

    def draw(shift: float) -> EmbeddedSet:
        return EmbeddedSet(torch.randn(120, 4, generator=generator) * 8 + shift, "x")

    pairs = [(draw(0), draw(9)) for _ in range(40)]
    truth = float(np.mean([mmd(a.rows, b.rows) for a, b in pairs]))
    scores = [embedding_score(a, b, embedders["cmmd"]) for a, b in pairs]
    covered = sum(score.low <= truth <= score.high for score in scores)  # type: ignore[operator]
    assert covered >= 34


def test_the_command_lists_the_chosen_distances(
    embedders: dict[str, Embedder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    write(tmp_path / "a", 3, 22)
    write(tmp_path / "b", 5, 22)

    def run(*metrics: str) -> tuple[int, str]:
        options = [part for metric in metrics for part in ("-m", metric)]
        result = CliRunner().invoke(app, ["distance", str(tmp_path / "a"), str(tmp_path / "b"), *options])
        return result.exit_code, " ".join(result.output.split())

    places = [f"{kind}={embedder.config.model}" for kind, embedder in embedders.items()]
    code, output = run(*places)
    assert code == 0, output
    assert " cmmd " in output
    assert " fd_dinov2 " in output
    assert " fid " not in output
    code, output = run("lpips")
    assert (code, "expected inception, cmmd, fd_dinov2" in output) == (1, True)
    code, output = run(f"cmmd={tmp_path / 'a'}")
    assert (code, "no CLIP could be loaded from the folder" in output) == (1, True)
    result = CliRunner().invoke(app, ["distance", "x.npz", str(tmp_path / "b"), "-m", "cmmd"])
    assert (result.exit_code, "need the pictures themselves" in " ".join(result.output.split())) == (1, True)
