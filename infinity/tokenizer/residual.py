"""Residual quantization over scales (paper Alg. 1 and 2): one loop for encoding, self-correction and generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.bits import fold as fold_maps
from infinity.scales import Grid, ScaleSchedule
from infinity.tokenizer.quantizer import QuantizerKind, bits_to_maps, scale_codes


def shrink(maps: Float[Tensor, "B C H W"], grid: Grid) -> Float[Tensor, "B C h w"]:
    """Shrink by area averaging, as the published code does; the paper says bilinear."""
    return maps if tuple(maps.shape[-2:]) == grid else F.adaptive_avg_pool2d(maps, grid)


def resize(maps: Float[Tensor, "B C H W"], grid: Grid) -> Float[Tensor, "B C h w"]:
    """Resize bilinearly without antialiasing, with half-pixel centres: enlarges codes, and makes inputs of scales.

    Training and sampling must both use this operation, also where it shrinks (repository bitwise_self_correction.py).
    """
    if tuple(maps.shape[-2:]) == grid:
        return maps
    if maps.shape[-2:] == (1, 1):
        return maps.expand(-1, -1, *grid)
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)


def fold_bits(bits: Bool[Tensor, "B H2 W2 C"]) -> Bool[Tensor, "B H W C4"]:
    """Fold the bits of 2x2 positions into one token; bit c of position (dy, dx) becomes bit 4c + 2dy + dx.

    Example:
        >>> bits = torch.tensor([[True, False], [False, True]]).reshape(1, 2, 2, 1)
        >>> fold_bits(bits).tolist()
        [[[[True, False, False, True]]]]
        >>> torch.equal(unfold_bits(fold_bits(bits)), bits)
        True
    """
    batch, rows, columns, num_bits = bits.shape
    split = bits.reshape(batch, rows // 2, 2, columns // 2, 2, num_bits)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(batch, rows // 2, columns // 2, 4 * num_bits)


def unfold_bits(bits: Bool[Tensor, "B H W C4"]) -> Bool[Tensor, "B H2 W2 C"]:
    """Invert ``fold_bits``: one token becomes 2x2 positions."""
    batch, rows, columns, num_bits = bits.shape
    split = bits.reshape(batch, rows, columns, num_bits // 4, 2, 2)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2 * rows, 2 * columns, num_bits // 4)


class ResidualLoop:
    """The running sum F_k of enlarged codes of one batch, from F_0 = 0 (paper Alg. 1); scales are counted from 0.

    Bits and inputs are those of *tokens*; with ``fold`` a token holds 2x2 positions of the maps (8B model). Maps use
    the memory format channels-last, in which resampling is several times faster (decision 10).

    Attributes:
        total_BCHW: Sum after the scales added so far, float32; after all scales the decoder reads it. Additions
            without gradient change it in place.

    Example:
        >>> from infinity.scales import custom_schedule
    >>> schedule = custom_schedule(1.0, last_grid=(2, 2), num_scales=2)
        >>> features = torch.tensor([[2.0, 1.0], [1.0, -2.0]]).reshape(1, 1, 2, 2)
        >>> loop = ResidualLoop(schedule, batch_size=1, num_bits=1)
        >>> [bits.flatten().int().tolist() for bits in loop.label(features)]
        [[1], [1, 0, 0, 0]]
        >>> loop.total_BCHW.flatten().tolist()
        [2.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        schedule: ScaleSchedule,
        *,
        batch_size: int,
        num_bits: int,
        kind: QuantizerKind = "bsq",
        fold: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start at zero.

        Args:
            schedule: Grids of the tokens.
            batch_size: Number of pictures B.
            num_bits: Bits C of one position of the maps (not of a folded token).
            kind: Quantizer, which defines the codes of the bits.
            fold: Whether a token holds 2x2 positions.
            device: Device of the sum.
        """
        self.schedule = schedule
        self.kind: QuantizerKind = kind
        self.fold = fold
        self.grids = schedule.unfolded().grids if fold else schedule.grids
        zeros = torch.zeros(batch_size, *self.grids[-1], num_bits, device=device)
        self.total_BCHW: Float[Tensor, "B C H W"] = zeros.permute(0, 3, 1, 2)

    def residual(self, k: int, features_BCHW: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """Return the residual of the features, averaged over the areas of scale k."""
        return shrink(features_BCHW - self.total_BCHW, self.grids[k])

    def add(self, bits_BHWC: Bool[Tensor, "B H W C"]) -> None:
        """Add the codes of one scale's token bits."""
        self.add_codes(bits_to_maps(unfold_bits(bits_BHWC) if self.fold else bits_BHWC, self.kind))

    def add_codes(self, codes_BChw: Float[Tensor, "B C h w"]) -> None:
        """Enlarge codes of any grid and add them; a gradient flows if they have one."""
        enlarged = resize(codes_BChw, self.grids[-1])
        if enlarged.requires_grad or self.total_BCHW.requires_grad:
            self.total_BCHW = self.total_BCHW + enlarged
        else:
            self.total_BCHW += enlarged

    def repeat(self, count: int) -> None:
        """Make of a batch of one picture one of ``count`` equal pictures."""
        self.total_BCHW = self.total_BCHW.expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)

    def empty_like(self) -> ResidualLoop:
        """Return another loop at zero for a batch of the same form."""
        batch_size, num_bits = self.total_BCHW.shape[:2]
        return ResidualLoop(
            self.schedule,
            batch_size=batch_size,
            num_bits=num_bits,
            kind=self.kind,
            fold=self.fold,
            device=self.total_BCHW.device,
        )

    def next_input(self, k: int) -> Float[Tensor, "B N C"]:
        """Return the transformer's input of scale k + 1: F_k resized to its grid, one row per token."""
        grid = self.grids[k + 1]
        maps = self.total_BCHW.clone() if grid == self.grids[-1] else resize(self.total_BCHW, grid)
        return (fold_maps(maps) if self.fold else maps).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def label(
        self, features_BCHW: Float[Tensor, "B C H W"], flips: Sequence[Bool[Tensor, "B H W C"]] = ()
    ) -> Iterator[Bool[Tensor, "B H W C"]]:
        """Quantize features scale by scale; yield the token bits of each scale once its codes are in the sum.

        The yielded bits are those of the residual. With ``flips`` the codes that enter the sum have the marked bits
        inverted, so that the labels of later scales undo the errors (paper 3.4, Alg. 2). No gradient flows.

        Args:
            features_BCHW: Encoder features at full size, float32.
            flips: Masks of the first scales; later scales have no errors.
        """
        features = features_BCHW.contiguous(memory_format=torch.channels_last)
        left = torch.empty_like(features)
        for k, grid in enumerate(self.grids):
            residual = shrink(torch.sub(features, self.total_BCHW, out=left), grid)
            # Only signs matter, so the residual is not normalised; it is overwritten with 1.0 where a bit is set.
            is_set = residual.gt_(0.0).permute(0, 2, 3, 1)
            bits = is_set.to(torch.bool)
            bits = fold_bits(bits) if self.fold else bits
            if k < len(flips):
                self.add(bits ^ flips[k])
            else:
                self.add_codes(scale_codes(is_set, self.kind).permute(0, 3, 1, 2))
            yield bits
