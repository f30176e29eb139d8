"""Files of reference statistics keep their numbers and their convention, and refuse what they are not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinity.evaluation.fid.frechet import GaussianStats, frechet_distance
from infinity.evaluation.fid.reference_statistics import (
    Provenance,
    StatisticsError,
    StatisticsFile,
    read_statistics,
    statistics_distance,
    write_statistics,
)
from infinity.storage.pinned import PinnedFile, PinnedFileError


def stats(seed: int) -> GaussianStats:
    return GaussianStats.of(torch.randn(30, 64, generator=torch.Generator().manual_seed(seed)))


def file(path: Path, **about: object) -> StatisticsFile:
    return StatisticsFile(file=PinnedFile(uri=str(path)), **about)  # type: ignore[arg-type]


def test_what_is_written_is_read_and_the_same_statistics_give_the_same_bytes(tmp_path: Path) -> None:
    provenance = Provenance(convention="clean_fid", feature=64, source="30 rows")
    for name in ("a.npz", "b.npz"):
        write_statistics(str(tmp_path / name), stats(0), provenance)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_statistics(file(tmp_path / "a.npz"))
    assert found.provenance == provenance
    assert found.moments.count == 30
    assert frechet_distance(found.moments, stats(1)) == frechet_distance(stats(0), stats(1))
    assert set(np.load(tmp_path / "a.npz").files) >= {"mu", "sigma"}  # so that pytorch-fid reads it


def test_published_files_need_a_stated_convention(tmp_path: Path) -> None:
    moments = stats(0).moments()
    arrays = {"mu": moments.mean.numpy(), "sigma": moments.covariance.numpy()}
    np.savez(tmp_path / "published.npz", **arrays)  # type: ignore[arg-type]
    torch.save(arrays, tmp_path / "cache.pt")
    for name in ("published.npz", "cache.pt"):
        with pytest.raises(StatisticsError, match="state the convention"):
            read_statistics(file(tmp_path / name))
        found = read_statistics(file(tmp_path / name, convention="tf1", count=30))
        assert found.provenance.convention == "tf1"
        torch.testing.assert_close(found.moments.covariance, moments.covariance, rtol=0, atol=0)


def test_conventions_never_mix(tmp_path: Path) -> None:
    for convention in ("tf1", "clean_fid"):
        provenance = Provenance(convention=convention, feature=64)  # type: ignore[arg-type]
        write_statistics(str(tmp_path / convention), stats(0), provenance)
    a, b = (read_statistics(file(tmp_path / convention)) for convention in ("tf1", "clean_fid"))
    assert statistics_distance(a, a) == pytest.approx(0, abs=1e-6)
    with pytest.raises(StatisticsError, match="never compare"):
        statistics_distance(a, b)
    with pytest.raises(StatisticsError, match="stated as tf1, but the file says clean_fid"):
        read_statistics(file(tmp_path / "clean_fid", convention="tf1"))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no arrays")
    np.savez(tmp_path / "part.npz", mu=np.zeros(3))
    np.savez(tmp_path / "shape.npz", mu=np.zeros(3), sigma=np.zeros((3, 2)))
    np.savez(tmp_path / "nan.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    wrong = {"text": "statistics", "part.npz": "sigma", "shape.npz": r"\(3, 2\)", "nan.npz": "finite"}
    for name, words in wrong.items():
        with pytest.raises(StatisticsError, match=words):
            read_statistics(file(tmp_path / name, convention="tf1"))
    with pytest.raises(PinnedFileError, match="sha256"):
        read_statistics(StatisticsFile(file=PinnedFile(uri=str(tmp_path / "text"), sha256="0" * 8)))
    with pytest.raises(StatisticsError, match="expected 2048 features, got 64"):
        write_statistics(str(tmp_path / "c.npz"), stats(0), Provenance(convention="tf1"))


GOOD = {"convention": "clean_fid", "feature": 4, "source": "x", "protocol": "p", "count": 10}
ARRAYS: dict[str, Any] = {"mu": np.zeros(4), "sigma": np.eye(4)}


@pytest.mark.parametrize(
    ("passport", "found"),
    [
        ("{", "passport: not valid JSON"),
        ("[]", "passport: expected"),
        ("[" * 100_000, "passport"),
        ('{"convention": "clean_fid", "convention": "tf1"}', "stands twice"),
        *((json.dumps(GOOD | {"count": count}), r"passport\.count") for count in ("9", -1, 0, 1, True, 1.5, [1])),
        (json.dumps(GOOD).replace("10", "1e999"), "numbers below"),
        (json.dumps(GOOD | {"feature": 2048}), "expected 2048 features"),
        (json.dumps(GOOD | {"convention": "other"}), "convention"),
        (json.dumps(GOOD | {"more": 1}), "more"),
        (3, "passport"),
    ],
)
def test_an_odd_provenance_ends_in_a_sentence_with_its_place(tmp_path: Path, passport: str | int, found: str) -> None:
    np.savez(tmp_path / "a.npz", passport=np.array(passport), **ARRAYS)
    with pytest.raises(ValueError, match=rf"(?s)a\.npz.*{found}"):
        read_statistics(file(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "changed",
    [
        {"mu": np.array(["a"] * 4)}, {"mu": np.zeros(4) + 1j}, {"mu": np.zeros(4, bool)}, {"sigma": -np.eye(4)},
        {"mu": np.zeros(4, "datetime64[s]")}, {"sigma": np.triu(np.ones((4, 4)))}, {"mu": np.full(4, np.inf)},
        {"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, {"mu": np.array(1.0), "sigma": np.array(1.0)},
        {"sigma": np.eye(3)}, {"sigma": np.full((4, 4), np.nan)},
    ],
)  # fmt: skip
def test_arrays_that_are_no_mean_and_covariance_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **(ARRAYS | changed))
    with pytest.raises(StatisticsError, match=r"a\.npz: expected"):
        read_statistics(file(tmp_path / "a.npz", convention="tf1"))


@pytest.mark.parametrize(
    "content", [{"mu": {}, "sigma": []}, {1: 2, "mu": 3}, [1], None, {"mu": None, "sigma": torch.eye(4)},
                {"mu": torch.zeros(4).to_sparse(), "sigma": torch.eye(4)}],
)  # fmt: skip
def test_a_pickle_of_other_things_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(StatisticsError, match=r"a\.pt: expected"):
        read_statistics(file(tmp_path / "a.pt", convention="tf1"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64])
def test_tensors_of_any_real_type_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    mean = torch.arange(4).to(dtype)
    torch.save({"mu": mean.requires_grad_(dtype.is_floating_point), "sigma": torch.eye(4)}, tmp_path / "a.pt")
    found = read_statistics(file(tmp_path / "a.pt", convention="tf1"))
    assert found.moments.mean.tolist() == [0.0, 1.0, 2.0, 3.0]
