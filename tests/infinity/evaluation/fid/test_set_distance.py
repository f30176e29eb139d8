"""Distances of two sets of pictures: equal sets, shifted sets, intervals that hold, files of statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.evaluation.fid.feature_distances import KidConfig
from infinity.evaluation.fid.frechet import GaussianStats
from infinity.evaluation.fid.inception import InceptionFeatures
from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.evaluation.fid.reference_statistics import Provenance
from infinity.evaluation.fid.set_distance import PictureSet, SetDistanceError, distances, look_at

KID = KidConfig(subset_size=50, subsets=10)


def cloud(n: int, shift: float = 0.0, seed: int = 0, convention: str = "tf1") -> PictureSet:
    rows = torch.randn(n, 64, generator=torch.Generator().manual_seed(seed)) + shift
    provenance = Provenance(convention=convention, feature=64, source=f"cloud {seed}")  # type: ignore[arg-type]
    return PictureSet(GaussianStats.of(rows).moments(), provenance, rows, rows[:, :10])


def figures(a: PictureSet, b: PictureSet) -> dict[str, tuple[float | None, float | None, float | None]]:
    return {score.metric: (score.value, score.low, score.high) for score in distances(a, b, kid=KID)}


def test_a_set_has_no_distance_from_itself_and_a_shifted_one_its_square() -> None:
    same = figures(cloud(200), cloud(200))
    assert same["fid"][0] == pytest.approx(0, abs=1e-4)
    assert (same["precision"][0], same["recall"][0]) == (1.0, 1.0)
    moved = figures(cloud(200), cloud(200, shift=3.0))
    assert moved["fid"][0] == pytest.approx(64 * 9, rel=1e-4)
    assert moved["precision"][0] == 0.0


def test_the_interval_of_fid_is_as_wide_as_the_distance_scatters() -> None:
    found = [figures(cloud(200, seed=2 * k), cloud(200, shift=0.5, seed=2 * k + 1))["fid"] for k in range(40)]
    scatter = np.std([value for value, _, _ in found if value is not None])
    widths = [(high - low) / 2 / 1.96 for _, low, high in found if low is not None and high is not None]
    assert np.mean(widths) == pytest.approx(scatter, rel=0.4)


def test_statistics_give_the_same_fid_and_say_what_they_cannot() -> None:
    a, b = cloud(200), cloud(150, shift=1.0, seed=1)
    whole = {score.metric: score for score in distances(a, b, kid=KID)}
    part = {score.metric: score for score in distances(a, PictureSet(b.moments, b.provenance), kid=KID)}
    assert part["fid"].value == whole["fid"].value
    assert part["fid"].low is not None
    assert whole["fid"].low is not None
    assert part["fid"].low > whole["fid"].low
    for name in ("kid", "inception_score", "precision", "recall"):
        assert part[name].value is None
        assert "holds no features" in part[name].note


def test_other_conventions_are_refused_and_small_sets_say_so() -> None:
    with pytest.raises(SetDistanceError, match="never compare"):
        distances(cloud(50), cloud(50, convention="clean_fid"), kid=KID)
    few = {score.metric: score for score in distances(cloud(3), cloud(3, seed=1), kid=KID)}
    assert few["fid"].value is not None
    assert few["fid"].low is None
    assert {name for name, score in few.items() if score.value is None} == {
        "kid",
        "inception_score",
        "precision",
        "recall",
    }


def test_a_folder_is_looked_at_picture_by_picture(tmp_path: Path) -> None:
    for number in range(5):
        Image.new("RGBA", (8, 8), (number, 0, 0, 90)).save(tmp_path / f"{number}.PNG")
    heard: list[float] = []

    def network(images: torch.Tensor) -> InceptionFeatures:
        features = images.mean(dim=(2, 3)).repeat(1, 22)[:, :64]
        return InceptionFeatures(features, features, features, features, features, features)

    found = look_at(ReferenceSet(uri=str(tmp_path), feature=64), network, progress=heard.append)
    assert found.rows is not None
    assert found.rows.shape == (5, 64)
    assert found.provenance.source.startswith(f"{tmp_path.name}: 5 pictures as they are, content ")
    assert heard[-1] == 1.0
