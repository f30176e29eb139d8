"""Winograd's way gives what the convolution gives, to rounding, for any height that it takes."""

import pytest
import torch
from torch.nn import functional as F

from infinity.evaluation.fid.winograd import ROWS, RowsConv


@pytest.mark.parametrize(
    ("height", "width", "columns_around"), [(9, 9, 1), (10, 4, 1), (6, 3, 0), (14, 7, 0), (13, 5, 2)]
)
def test_rows_are_those_of_the_convolution(height: int, width: int, columns_around: int) -> None:
    generator = torch.Generator().manual_seed(height)
    x = torch.randn(2, 5, height, width, generator=generator).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(7, 5, 3, 3, generator=generator), torch.randn(7, generator=generator)
    phases = RowsConv(weight, bias, columns_around=columns_around)(x)
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=(0, columns_around))
    found = torch.full_like(wanted, torch.nan)
    for first, phase in enumerate(phases):
        found[:, :, first::ROWS] = phase.double()
    assert (found - wanted).abs().max() < 5e-6 * wanted.abs().max()


@pytest.mark.parametrize("height", [5, 7, 8, 11, 12])
def test_other_heights_are_refused(height: int) -> None:
    rows = RowsConv(torch.ones(1, 1, 3, 3), torch.zeros(1), columns_around=0)
    with pytest.raises(
        ValueError, match=f"expected 4n . 1 or 4n . 2 rows, from 6 on, with those of the padding, got {height}"
    ):
        rows(torch.ones(1, 1, height, 3))
