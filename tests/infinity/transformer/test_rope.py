"""Rotary positions: what they keep, and where the published models put each token."""

import pytest
import torch

from infinity.kernels.unit_rotation import rotate_into
from infinity.scales import ASPECT_RATIOS, Resolution, published_schedule
from infinity.transformer.config import Positions
from infinity.transformer.rope import rotations

CPU = torch.device("cpu")


def rotate(x: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    rotate_into(out, x, rotary)
    return out


@pytest.mark.parametrize("positions", ["frame", "grid"])
def test_turning_keeps_lengths(positions: Positions) -> None:
    schedule = published_schedule(0.75, "256")
    x = torch.randn(2, 3, schedule.num_tokens, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotations(schedule, 16, positions, CPU))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_product_depends_on_the_distance_only() -> None:
    schedule = Resolution(sides=(1, 8)).schedule(1.0)
    rotary = rotations(schedule, 16, "grid", CPU)[1:].unflatten(0, (8, 8))
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    def product(row_q: int, column_q: int, row_k: int, column_k: int) -> float:
        q = rotate(query[None], rotary[row_q, column_q][None])
        k = rotate(key[None], rotary[row_k, column_k][None])
        return float((q * k).sum())

    assert product(1, 2, 3, 5) == pytest.approx(product(4, 1, 6, 4), abs=1e-5)
    assert product(1, 2, 3, 5) != pytest.approx(product(1, 2, 5, 3), abs=1e-3)


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_frame_puts_smaller_sizes_into_the_largest_grid(aspect_ratio: float) -> None:
    small, large = published_schedule(aspect_ratio, "256"), published_schedule(aspect_ratio, "1024")
    few, many = rotations(small, 8, "frame", CPU), rotations(large, 8, "frame", CPU)
    assert torch.equal(few, many[: small.num_tokens])
    for grid, span in zip(large.grids, large.spans, strict=True):
        rows = torch.tensor([float(round(y * large.frame[0] / grid[0])) for y in range(grid[0])])
        rotary = many[span].unflatten(0, grid)
        torch.testing.assert_close(rotary[:, 0, 0].real, rows.cos())  # the first pair turns by one radian a row
        torch.testing.assert_close(rotary[:, 0, 0].imag, rows.sin())


def test_half_positions_are_rounded_to_even() -> None:
    schedule = published_schedule(1.25, "1024")  # 70 rows: scale (20, 16) has rows at multiples of 3.5
    rotary = rotations(schedule, 8, "frame", CPU)[schedule.spans[6]].unflatten(0, schedule.grids[6])
    expected = torch.tensor([0.0, 4.0, 7.0, 10.0, 14.0, 18.0])
    torch.testing.assert_close(rotary[:6, 0, 0].real, expected.cos())


def test_interpolated_table_keeps_its_corners() -> None:
    schedule = published_schedule(2.0, "1024")
    rotary = rotations(schedule, 8, "interpolated", CPU)[schedule.spans[-1]].unflatten(0, schedule.grids[-1])
    corners = torch.tensor([0.0, 127.0])
    torch.testing.assert_close(rotary[[0, -1], 0, 0].real, corners.cos())
    torch.testing.assert_close(rotary[0, [0, -1], 2].real, torch.tensor([0.0, 63.0]).cos())
