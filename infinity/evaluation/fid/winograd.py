"""Convolutions of 3 x 3 places with half the multiplications: Winograd's F(4, 3) along the rows of a picture.

Four rows of the result look at six rows of the input. A polynomial of degree five is known from six of its values, so
six products of rows do the work of twelve (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
arXiv:1509.09308; the values are taken at 0, 1, -1, 2, -2 and infinity). Along the columns an ordinary convolution
stays, which keeps what is added before and after it small. Rounding grows two- to threefold.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 4
"""Of the result that are computed together."""

Phases = tuple[Tensor, Tensor, Tensor, Tensor]
"""Every fourth row of a result, from row 0, 1, 2 and 3 on."""

_KERNELS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
"""Of the three rows of a kernel: the six values of its polynomial, over what the way back would divide by."""


class RowsConv(nn.Module):
    """A convolution of 3 x 3 places at stride 1 with a bias, whose input brings its own rows of padding."""

    def __init__(self, weight: Float[Tensor, "O I 3 3"], bias: Float[Tensor, " O"], *, columns_around: int) -> None:
        super().__init__()
        values = torch.tensor(_KERNELS, dtype=torch.float64, device=weight.device)
        kernels = torch.einsum("pr,oirk->poik", values, weight.double()).to(weight.dtype).unsqueeze(3)
        for number, kernel in enumerate(kernels):
            self.register_buffer(f"kernel_{number}", kernel.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self._around = (0, columns_around)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Phases:
        """The H - 2 rows of the result; the last phase may be one row shorter than the others.

        Args:
            x: Channels-last, with its rows of padding; H - 2 is a multiple of four, or one less, and at least four.

        Raises:
            ValueError: Another height.
        """
        height = x.shape[2] - 2
        if height < ROWS or height % ROWS not in (0, ROWS - 1):
            raise ValueError(f"expected 4n + 1 or 4n + 2 rows, from 6 on, with those of the padding, got {x.shape[2]}")
        steps = -(-height // ROWS)
        values = _values([x[:, :, row : row + ROWS * steps - 3 : ROWS] for row in range(6)])
        return _phases([self._product(number, value) for number, value in enumerate(values)])

    def _product(self, number: int, value: Tensor) -> Tensor:
        # The second product is part of every phase once, so the bias comes with it.
        bias = self.get_buffer("bias") if number == 1 else None
        return F.conv2d(value, self.get_buffer(f"kernel_{number}"), bias, padding=self._around)


def _values(rows: list[Tensor]) -> list[Tensor]:
    """Six values of the polynomial whose coefficients are six rows, in the basis that the way back wants."""
    first, second, third, fourth, fifth, sixth = rows
    short = sixth.shape[2]
    even, odd = torch.sub(fifth, third, alpha=4), torch.sub(fourth, second, alpha=4)
    even_of_2, odd_of_2 = fifth - third, fourth - second
    return [
        torch.sub(fifth, third, alpha=5).add_(first, alpha=4),
        even + odd,
        even.sub_(odd),
        torch.add(even_of_2, odd_of_2, alpha=2),
        even_of_2.sub_(odd_of_2, alpha=2),
        torch.sub(sixth, fourth[:, :, :short], alpha=5).add_(second[:, :, :short], alpha=4),
    ]


def _phases(products: list[Tensor]) -> Phases:
    """Rows of the result out of the six products, whose memory is used again."""
    first, second, third, fourth, fifth, sixth = products
    short = sixth.shape[2]
    sum_1, difference_1 = second + third, second.sub_(third)
    sum_2, difference_2 = fourth + fifth, fourth.sub_(fifth)
    return (
        first.add_(sum_1).add_(sum_2),
        torch.add(difference_1, difference_2, alpha=2, out=third),
        sum_1.add_(sum_2, alpha=4),
        sixth.add_(difference_1[:, :, :short]).add_(difference_2[:, :, :short], alpha=8),
    )
