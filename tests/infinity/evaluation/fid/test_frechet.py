"""Fréchet distances equal those of torch-fidelity, pytorch-fid and clean-fid, and sums add up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinity.evaluation.fid.frechet import GaussianStats, Moments, frechet_distance

PAIRS = ("A|B", "B|A", "A|A", "C|D", "A|C", "constant|A", "A_dead|B_dead")


@pytest.fixture(scope="module")
def inputs(shared: Path) -> Any:
    return np.load(shared / "goldens/eval/fid/metric_inputs.npz")


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((shared / "goldens/eval/fid/metric_expected.json").read_text())["fid"]
    return data


def stats(rows: np.ndarray) -> GaussianStats:
    return GaussianStats.of(torch.from_numpy(rows))


@pytest.mark.reference
@pytest.mark.parametrize("pair", PAIRS)
def test_distance_equals_the_public_implementations(inputs: Any, expected: dict[str, Any], pair: str) -> None:
    a, b = pair.split("|")
    value = frechet_distance(stats(inputs[a]), stats(inputs[b]))
    for name in ("torch_fidelity_f64_features", "pytorch_fid", "clean_fid"):
        assert value == pytest.approx(expected[pair][name], rel=1e-6, abs=1e-5), name


@pytest.mark.reference
def test_mean_and_covariance_equal_numpys(inputs: Any) -> None:
    found = stats(inputs["A"])
    np.testing.assert_allclose(found.mean, inputs["mu_A"], atol=1e-7)
    np.testing.assert_allclose(found.covariance, inputs["sigma_A"], atol=1e-6)


def rows(number: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("number", [2, 3, 17])
def test_covariance_is_that_of_numpy_which_divides_by_the_count_less_one(number: int) -> None:
    cloud = rows(number) * torch.tensor([1.0, 0.1, 7.0, 30.0, 2.0]) + 5
    found = GaussianStats.of(cloud)
    np.testing.assert_allclose(found.mean, cloud.double().mean(dim=0), atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(cloud.double().numpy(), rowvar=False), rtol=1e-5, atol=1e-5)


def moments(mean: list[float], variances: list[float]) -> Moments:
    return Moments(None, torch.tensor(mean).double(), torch.tensor(variances).double().diag())


def test_distance_of_independent_normals_is_the_textbook_formula() -> None:
    """Squared distance of the means, and of the standard deviations."""
    a, b = moments([0.0, 1.0], [9.0, 4.0]), moments([2.0, 1.0], [1.0, 16.0])
    assert frechet_distance(a, b) == pytest.approx(2**2 + (3 - 1) ** 2 + (2 - 4) ** 2)


@pytest.mark.parametrize("negative", [-1.0, -1e-3])
def test_a_covariance_with_a_negative_direction_has_no_spread_in_it(negative: float) -> None:
    """Statistics that were rounded for a file have such directions: they count in the trace, not in the cross term."""
    rounded, proper = moments([0.0, 0.0], [4.0, negative]), moments([0.0, 0.0], [9.0, 1.0])
    expected = (4 + negative) + (9 + 1) - 2 * (2 * 3)
    assert frechet_distance(rounded, proper) == pytest.approx(expected)
    assert frechet_distance(proper, rounded) == pytest.approx(expected)


def test_merged_equals_whole() -> None:
    whole = GaussianStats.of(rows(30))
    merged = sum((GaussianStats.of(part) for part in rows(30).split(7)), GaussianStats.empty(5))
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.covariance, whole.covariance)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_grouping_gives_the_very_same_figures(workers: int) -> None:
    """Also where there are fewer rows than features, so that rounding of eigenvalues near zero would show."""
    many, other = rows(41, width=64) * 3, GaussianStats.of(rows(50, width=64, seed=9))
    parts = [GaussianStats.of(part) for part in torch.tensor_split(many, workers)]
    merged = sum(reversed(parts), GaussianStats.empty(64))
    assert frechet_distance(merged, other) == frechet_distance(GaussianStats.of(many), other)


def test_values_that_no_sum_holds_exactly_are_refused() -> None:
    for value in (float("nan"), float("inf"), 5000.0, 4096.0, -4096.0):
        with pytest.raises(ValueError, match="finite features below 4096"):
            GaussianStats.of(torch.tensor([[1.0, value]]))


def test_distance_is_zero_of_equals_symmetric_and_square_of_a_shift() -> None:
    a, b = GaussianStats.of(rows(40)), GaussianStats.of(rows(40, seed=1))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    shifted = GaussianStats.of(rows(40).double() + torch.tensor([3.0, 4.0, 0, 0, 0]))
    assert frechet_distance(a, shifted) == pytest.approx(25.0, abs=1e-6)


def test_more_rows_or_larger_squares_than_sums_hold_exactly_are_refused() -> None:
    """At the limits themselves sums are still exact."""
    zero = torch.zeros(1, dtype=torch.float64)

    def sums(count: int, square: float) -> GaussianStats:
        return GaussianStats(count, zero, zero, *(torch.full((1, 1), s, dtype=torch.float64) for s in (square, 0, 0)))

    assert (sums(2**17, 2.0**39) + sums(2**17, 2.0**39)).count == 2**18
    for more in (sums(1, 0.0), sums(0, 1.0)):
        with pytest.raises(ValueError, match="use fewer rows"):
            sums(2**18, 2.0**40) + more


def test_no_rows_are_the_beginning_of_every_sum() -> None:
    assert GaussianStats.of(torch.zeros(0, 5)).count == GaussianStats.empty(5).count == 0
    with pytest.raises(ValueError, match="at least 1 rows, got 0"):
        _ = GaussianStats.empty(5).mean


def test_too_few_rows_and_other_widths_are_refused() -> None:
    a = GaussianStats.of(rows(4))
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        frechet_distance(a, GaussianStats.of(rows(1)))
    with pytest.raises(ValueError, match="equal widths"):
        frechet_distance(a, GaussianStats.of(rows(4, width=3)))
