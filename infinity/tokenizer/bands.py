"""Encode and decode pictures that are too large for the memory: bands of rows, layer by layer.

Group norms need the mean and variance of the whole map, so that independent tiles would give other pixels and visible
seams. Here a residual block takes three passes over bands: the moments of its input, those of its first convolution,
and its output. The first convolution is computed twice, and nothing between two blocks is kept. Only the input and the
output of a block exist as whole maps; they lie in the memory of the CPU. Pixels equal those of the plain networks up to
rounding: within 1e-4 of the range [-1, 1] in float32, since the moments are summed in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from infinity.tokenizer.autoencoder import Decoder, Downsample, Encoder, ResidualBlock, Upsample

_CPU = torch.device("cpu")

_MAPS_AT_ONCE = 8
"""Maps of a band that are alive at once, of the widest layer."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A map of features of which any rows can be computed.

    Attributes:
        height: Rows of the whole map.
        compute: Function of the first row and the row after the last one; returns (B, D, rows, W) on the device of the
            computation.
    """

    height: int
    compute: Callable[[int, int], Tensor]


def encode_in_bands(encoder: Encoder, images_B3HW: Float[Tensor, "B 3 H W"], budget: int) -> Float[Tensor, "B C h w"]:
    """Compute what ``encoder`` computes, without gradients.

    Args:
        encoder: Encoder in evaluation mode.
        images_B3HW: RGB in [-1, 1].
        budget: Working memory of a band in bytes; at least one row is computed at once.

    Returns:
        Features on the device of the pictures.
    """
    pixels = F.pixel_unshuffle(images_B3HW, encoder.stem_px) if encoder.stem_px > 1 else images_B3HW
    blocks = [layer for level in encoder.levels for layer in _children(level)]
    return _run([encoder.conv_in, *blocks, *_children(encoder.middle)], _tail(encoder), pixels, budget)


def decode_in_bands(decoder: Decoder, features_BCHW: Float[Tensor, "B C h w"], budget: int) -> Float[Tensor, "B 3 H W"]:
    """Compute what ``decoder`` computes, without gradients: RGB, not clamped.

    Args:
        decoder: Decoder in evaluation mode.
        features_BCHW: Sums of codes.
        budget: Working memory of a band in bytes; at least one row is computed at once.

    Returns:
        Pictures on the device of the features.
    """
    blocks = [layer for level in reversed(decoder.levels) for layer in _children(level)]
    layers = [decoder.conv_in, *_children(decoder.middle), *blocks]
    pixels = _run(layers, _tail(decoder), features_BCHW, budget)
    return F.pixel_shuffle(pixels, decoder.stem_px) if decoder.stem_px > 1 else pixels


def _children(module: nn.Module) -> list[nn.Module]:
    return list(module.children())


def _tail(network: Encoder | Decoder) -> tuple[nn.GroupNorm, nn.Conv2d]:
    return network.norm_out, network.conv_out


@torch.no_grad()
def _run(layers: Iterable[nn.Module], tail: tuple[nn.GroupNorm, nn.Conv2d], x: Tensor, budget: int) -> Tensor:
    """Apply the layers; convolutions between blocks stay functions of rows, blocks become maps on the CPU."""
    device, width_px = x.device, x.shape[-1]
    rows = _stored(x.contiguous(memory_format=torch.channels_last), device)
    for layer in layers:
        if isinstance(layer, ResidualBlock):
            widest = max(layer.conv_1.in_channels, layer.conv_1.out_channels)
            size = max(1, budget // (4 * _MAPS_AT_ONCE * len(x) * widest * width_px))
            rows = _stored(_whole(_block(layer, rows, size), size, _CPU), device)
        elif isinstance(layer, Upsample):
            rows, width_px = _convolved(_doubled(rows), layer.conv), 2 * width_px
        elif isinstance(layer, Downsample):
            rows, width_px = _halved(rows, layer.conv), width_px // 2
        else:
            assert isinstance(layer, nn.Conv2d), layer
            rows = _convolved(rows, layer)
    norm, conv = tail
    size = max(1, budget // (4 * _MAPS_AT_ONCE * len(x) * conv.in_channels * width_px))
    return _whole(_convolved(_activated(rows, norm, size), conv), size, device)


def _bands(height: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(0, height, size):
        yield first, min(first + size, height)


def _stored(x: Tensor, device: torch.device) -> Rows:
    return Rows(x.shape[2], lambda first, last: x[:, :, first:last].to(device))


def _whole(rows: Rows, size: int, device: torch.device) -> Tensor:
    """Compute all rows, band by band, into one map."""
    whole: Tensor | None = None
    for first, last in _bands(rows.height, size):
        band = rows.compute(first, last)
        if whole is None:
            shape = (band.shape[0], band.shape[1], rows.height, band.shape[3])
            whole = torch.empty(shape, dtype=band.dtype, device=device, memory_format=torch.channels_last)
        whole[:, :, first:last] = band
    assert whole is not None, "a map has rows"
    return whole


def _block(block: ResidualBlock, x: Rows, size: int) -> Rows:
    inner = _convolved(_activated(x, block.norm_1, size), block.conv_1)
    outer = _convolved(_activated(inner, block.norm_2, size), block.conv_2)

    def compute(first: int, last: int) -> Tensor:
        branch = outer.compute(first, last)
        branch += block.shortcut(x.compute(first, last))
        return branch

    return Rows(x.height, compute)


def _activated(x: Rows, norm: nn.GroupNorm, size: int) -> Rows:
    """Apply a group norm with the moments of the whole map, then swish."""
    scale, shift = _moments(x, norm, size)

    def compute(first: int, last: int) -> Tensor:
        return F.silu(torch.addcmul(shift, x.compute(first, last).float(), scale), inplace=True)

    return Rows(x.height, compute)


def _moments(x: Rows, norm: nn.GroupNorm, size: int) -> tuple[Tensor, Tensor]:
    """Return factor and summand per sample and channel, from the mean and variance of all rows of each group.

    Means and squared deviations of bands are joined in float64 (Chan et al.), which loses no digit to cancellation.
    """
    mean = squares = torch.zeros(())
    count = 0
    for first, last in _bands(x.height, size):
        band = x.compute(first, last).float().unflatten(1, (norm.num_groups, -1))
        new, number = band.shape[2] * band.shape[3] * band.shape[4], 0
        variance, centre = (each.double() for each in torch.var_mean(band, dim=(2, 3, 4), correction=0))
        number = count + new
        if count == 0:
            mean, squares = centre, variance * new
        else:
            step = centre - mean
            squares = squares + variance * new + step.square() * (count * new / number)
            mean = mean + step * (new / number)
        count = number
    factor = (squares / count + norm.eps).rsqrt()
    each = norm.num_channels // norm.num_groups
    scale = factor.repeat_interleave(each, 1) * norm.weight.double()
    shift = norm.bias.double() - mean.repeat_interleave(each, 1) * scale
    return scale.float()[:, :, None, None], shift.float()[:, :, None, None]


def _convolved(x: Rows, conv: nn.Conv2d) -> Rows:
    """Apply a convolution of stride 1 that keeps the size: 3x3 with padding 1, or 1x1."""
    reach = conv.kernel_size[0] // 2

    def compute(first: int, last: int) -> Tensor:
        above, below = max(first - reach, 0), min(last + reach, x.height)
        missing = (0, 0, above - (first - reach), last + reach - below)
        return F.conv2d(F.pad(x.compute(above, below), missing), conv.weight, conv.bias, padding=(0, reach))

    return Rows(x.height, compute)


def _doubled(x: Rows) -> Rows:
    """Repeat every pixel twice in both directions."""

    def compute(first: int, last: int) -> Tensor:
        start = first // 2
        doubled = F.interpolate(x.compute(start, (last + 1) // 2), scale_factor=2.0, mode="nearest")
        return doubled[:, :, first - 2 * start : last - 2 * start]

    return Rows(2 * x.height, compute)


def _halved(x: Rows, conv: nn.Conv2d) -> Rows:
    """Apply the encoder's halving: one row and column of zeros below and right, then 3x3 of stride 2."""
    height = (x.height - 2) // 2 + 1

    def compute(first: int, last: int) -> Tensor:
        below = 2 * last + 1
        band = F.pad(x.compute(2 * first, min(below, x.height)), (0, 1, 0, below - min(below, x.height)))
        return F.conv2d(band, conv.weight, conv.bias, stride=2)

    return Rows(height, compute)
