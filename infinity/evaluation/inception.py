"""The Inception network of 2015 behind FID, with the parameter names of its standard weights file.

It is Inception-v3 (arXiv:1512.00567) with the quirks of the TensorFlow graph that the first FID was computed with: 1008
classes, average pools that do not count their padding, and a maximum pool in the last block. Weights are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_PX = 299
PROTOCOL = "inception-2015/1: 8-bit RGB, TensorFlow-1 bilinear resize to 299 px (no half-pixel shift), (x - 128) / 128"


@dataclass(frozen=True, slots=True)
class InceptionFeatures:
    """Spatial means at four places of the network, and the class scores with and without their bias."""

    features_64: Float[Tensor, "B 64"]
    features_192: Float[Tensor, "B 192"]
    features_768: Float[Tensor, "B 768"]
    features_2048: Float[Tensor, "B 2048"]
    logits: Float[Tensor, "B 1008"]
    logits_without_bias: Float[Tensor, "B 1008"]


class Inception(nn.Module):
    """Pictures to features; parameters are named as in ``pt_inception-2015-12-05-6726825d.pth``.

    A new network holds whatever was in memory: drawing 24 million numbers to overwrite them would cost seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Unit(3, 32, kernel=3, stride=2, padding=0)
        self.Conv2d_2a_3x3 = _Unit(32, 32, kernel=3, padding=0)
        self.Conv2d_2b_3x3 = _Unit(32, 64, kernel=3)
        self.Conv2d_3b_1x1 = _Unit(64, 80)
        self.Conv2d_4a_3x3 = _Unit(80, 192, kernel=3, padding=0)
        self.Mixed_5b = _block_a(192, pool_channels=32)
        self.Mixed_5c = _block_a(256, pool_channels=64)
        self.Mixed_5d = _block_a(288, pool_channels=64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, middle=128)
        self.Mixed_6c = _block_c(768, middle=160)
        self.Mixed_6d = _block_c(768, middle=160)
        self.Mixed_6e = _block_c(768, middle=192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, pool="average")
        self.Mixed_7c = _block_e(2048, pool="maximum")
        self.fc = nn.utils.skip_init(nn.Linear, 2048, 1008)
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 299 299"]) -> InceptionFeatures:
        """Features of prepared pictures, about -1 to 1 (see ``prepare``)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = stem = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = second_stem = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = middle = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        last = _spatial_mean(x)
        without_bias = F.linear(last, self.fc.weight)
        return InceptionFeatures(
            features_64=_spatial_mean(stem),
            features_192=_spatial_mean(second_stem),
            features_768=_spatial_mean(middle),
            features_2048=last,
            logits=without_bias + self.fc.bias,
            logits_without_bias=without_bias,
        )


def _spatial_mean(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
    return x.mean(dim=(2, 3))


def prepare(images_BHWC: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 299 299"]:
    """8-bit RGB pictures of any size as the network wants them."""
    return (resize_tf1(images_BHWC.permute(0, 3, 1, 2).float(), INPUT_PX) - 128) / 128


def resize_tf1(images: Float[Tensor, "B C H W"], size_px: int) -> Float[Tensor, "B C size_px size_px"]:
    """The bilinear resize of TensorFlow 1: output i looks at input i * (in / out), without a half-pixel shift.

    It does not average when shrinking, so high frequencies alias; FID's features expect exactly that.
    """
    rows, columns = (_source(images.shape[axis], size_px, images.device) for axis in (2, 3))
    top, bottom = images[:, :, rows.first], images[:, :, rows.second]
    upper = top[..., columns.first] + (top[..., columns.second] - top[..., columns.first]) * columns.share
    lower = bottom[..., columns.first] + (bottom[..., columns.second] - bottom[..., columns.first]) * columns.share
    return upper + (lower - upper) * rows.share.unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class _Source:
    """Of every output position: the two inputs beside it, and the share of the second."""

    first: Tensor
    second: Tensor
    share: Tensor


def _source(size_in: int, size_out: int, device: torch.device) -> _Source:
    positions = torch.arange(size_out, dtype=torch.float32, device=device) * (size_in / size_out)
    first = positions.floor().long()
    return _Source(first, (first + 1).clamp(max=size_in - 1), positions - first)


class _Unit(nn.Module):
    """Convolution without bias, frozen batch norm, ReLU. A padding of None keeps the size at stride 1."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (height // 2, width // 2) if padding is None else (padding, padding)
        self.conv = nn.utils.skip_init(
            nn.Conv2d, channels_in, channels_out, (height, width), stride=stride, padding=around, bias=False
        )
        self.bn = nn.BatchNorm2d(channels_out, eps=1e-3)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True)


Pool = Literal["average", "maximum", "shrink"]


@dataclass(frozen=True, slots=True)
class _Branch:
    """A path through a block: a pool or none, units one after the other, then perhaps several side by side."""

    units: tuple[str, ...] = ()
    fork: tuple[str, ...] = ()
    pool: Pool | None = None


class _Mixed(nn.Module):
    """Branches over the same input, joined along the channels."""

    def __init__(self, branches: Sequence[_Branch], units: dict[str, _Unit]) -> None:
        super().__init__()
        self._branches = tuple(branches)
        for name, unit in units.items():
            self.add_module(name, unit)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        return torch.cat([part for branch in self._branches for part in self._follow(branch, x)], dim=1)

    def _follow(self, branch: _Branch, x: Tensor) -> list[Tensor]:
        x = _pool(x, branch.pool)
        for name in branch.units:
            x = self.get_submodule(name)(x)
        return [self.get_submodule(name)(x) for name in branch.fork] or [x]


def _pool(x: Tensor, pool: Pool | None) -> Tensor:
    if pool == "average":
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    if pool == "maximum":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.max_pool2d(x, 3, stride=2) if pool == "shrink" else x


_ROW, _COLUMN = (1, 7), (7, 1)


def _block_a(channels: int, pool_channels: int) -> _Mixed:
    units = {
        "branch1x1": _Unit(channels, 64),
        "branch5x5_1": _Unit(channels, 48),
        "branch5x5_2": _Unit(48, 64, 5),
        "branch3x3dbl_1": _Unit(channels, 64),
        "branch3x3dbl_2": _Unit(64, 96, 3),
        "branch3x3dbl_3": _Unit(96, 96, 3),
        "branch_pool": _Unit(channels, pool_channels),
    }
    return _Mixed(
        [
            _Branch(("branch1x1",)),
            _Branch(("branch5x5_1", "branch5x5_2")),
            _Branch(("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
            _Branch(("branch_pool",), pool="average"),
        ],
        units,
    )


def _block_b(channels: int) -> _Mixed:
    units = {
        "branch3x3": _Unit(channels, 384, 3, stride=2, padding=0),
        "branch3x3dbl_1": _Unit(channels, 64),
        "branch3x3dbl_2": _Unit(64, 96, 3),
        "branch3x3dbl_3": _Unit(96, 96, 3, stride=2, padding=0),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return _Mixed([_Branch(("branch3x3",)), _Branch(double), _Branch(pool="shrink")], units)


def _block_c(channels: int, middle: int) -> _Mixed:
    units = {
        "branch1x1": _Unit(channels, 192),
        "branch7x7_1": _Unit(channels, middle),
        "branch7x7_2": _Unit(middle, middle, _ROW),
        "branch7x7_3": _Unit(middle, 192, _COLUMN),
        "branch7x7dbl_1": _Unit(channels, middle),
        "branch7x7dbl_2": _Unit(middle, middle, _COLUMN),
        "branch7x7dbl_3": _Unit(middle, middle, _ROW),
        "branch7x7dbl_4": _Unit(middle, middle, _COLUMN),
        "branch7x7dbl_5": _Unit(middle, 192, _ROW),
        "branch_pool": _Unit(channels, 192),
    }
    return _Mixed(
        [
            _Branch(("branch1x1",)),
            _Branch(tuple(f"branch7x7_{number}" for number in range(1, 4))),
            _Branch(tuple(f"branch7x7dbl_{number}" for number in range(1, 6))),
            _Branch(("branch_pool",), pool="average"),
        ],
        units,
    )


def _block_d(channels: int) -> _Mixed:
    units = {
        "branch3x3_1": _Unit(channels, 192),
        "branch3x3_2": _Unit(192, 320, 3, stride=2, padding=0),
        "branch7x7x3_1": _Unit(channels, 192),
        "branch7x7x3_2": _Unit(192, 192, _ROW),
        "branch7x7x3_3": _Unit(192, 192, _COLUMN),
        "branch7x7x3_4": _Unit(192, 192, 3, stride=2, padding=0),
    }
    return _Mixed(
        [
            _Branch(("branch3x3_1", "branch3x3_2")),
            _Branch(tuple(f"branch7x7x3_{number}" for number in range(1, 5))),
            _Branch(pool="shrink"),
        ],
        units,
    )


def _block_e(channels: int, pool: Pool) -> _Mixed:
    units = {
        "branch1x1": _Unit(channels, 320),
        "branch3x3_1": _Unit(channels, 384),
        "branch3x3_2a": _Unit(384, 384, (1, 3)),
        "branch3x3_2b": _Unit(384, 384, (3, 1)),
        "branch3x3dbl_1": _Unit(channels, 448),
        "branch3x3dbl_2": _Unit(448, 384, 3),
        "branch3x3dbl_3a": _Unit(384, 384, (1, 3)),
        "branch3x3dbl_3b": _Unit(384, 384, (3, 1)),
        "branch_pool": _Unit(channels, 192),
    }
    return _Mixed(
        [
            _Branch(("branch1x1",)),
            _Branch(("branch3x3_1",), fork=("branch3x3_2a", "branch3x3_2b")),
            _Branch(("branch3x3dbl_1", "branch3x3dbl_2"), fork=("branch3x3dbl_3a", "branch3x3dbl_3b")),
            _Branch(("branch_pool",), pool=pool),
        ],
        units,
    )
