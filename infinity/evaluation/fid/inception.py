"""The Inception network of 2015 behind FID, with the parameter names of its standard weights file.

It is Inception-v3 (arXiv:1512.00567) with three differences, which come from the TensorFlow graph that the first FID
was computed with: 1008 classes, average pooling that does not count its padding, and max pooling in the last block.
Weights are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class InceptionFeatures:
    """Spatial means at four depths of the network, and the class scores with and without their bias."""

    features_64: Float[Tensor, "B 64"]
    features_192: Float[Tensor, "B 192"]
    features_768: Float[Tensor, "B 768"]
    features_2048: Float[Tensor, "B 2048"]
    logits: Float[Tensor, "B 1008"]
    logits_without_bias: Float[Tensor, "B 1008"]


class Inception(nn.Module):
    """Network from pictures to features; parameter names are those of ``pt_inception-2015-12-05-6726825d.pth``.

    A new network is not initialized, since drawing 24 million numbers only to overwrite them would take seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, kernel=3, stride=2, padding=0)
        self.Conv2d_2a_3x3 = Unit(32, 32, kernel=3, padding=0)
        self.Conv2d_2b_3x3 = Unit(32, 64, kernel=3)
        self.Conv2d_3b_1x1 = Unit(64, 80)
        self.Conv2d_4a_3x3 = Unit(80, 192, kernel=3, padding=0)
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
        """Return the features of prepared pictures, whose values are about -1 to 1 (see ``preparation``)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = stem = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = second_stem = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = middle = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        last = spatial_mean(x)
        without_bias = F.linear(last, self.fc.weight)
        return InceptionFeatures(
            features_64=spatial_mean(stem),
            features_192=spatial_mean(second_stem),
            features_768=spatial_mean(middle),
            features_2048=last,
            logits=without_bias + self.fc.bias,
            logits_without_bias=without_bias,
        )


def spatial_mean(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
    """Return the mean over all positions."""
    return x.mean(dim=(2, 3))


class Unit(nn.Module):
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
class Branch:
    """Path through a block: a pool or none, units one after the other, then perhaps several units side by side."""

    units: tuple[str, ...] = ()
    fork: tuple[str, ...] = ()
    pool: Pool | None = None


class Mixed(nn.Module):
    """Branches over the same input, concatenated along the channels."""

    def __init__(self, branches: Sequence[Branch], units: dict[str, Unit]) -> None:
        super().__init__()
        self.branches = tuple(branches)
        for name, unit in units.items():
            self.add_module(name, unit)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        return torch.cat([part for branch in self.branches for part in self._follow(branch, x)], dim=1)

    def _follow(self, branch: Branch, x: Tensor) -> list[Tensor]:
        x = pool(x, branch.pool)
        for name in branch.units:
            x = self.get_submodule(name)(x)
        return [self.get_submodule(name)(x) for name in branch.fork] or [x]


def pool(x: Float[Tensor, "B C H W"], kind: Pool | None) -> Float[Tensor, "B C H2 W2"]:
    """Pool 3 x 3: averages that ignore padding, maxima at stride 1, or maxima at stride 2; None changes nothing."""
    if kind == "average":
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    if kind == "maximum":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.max_pool2d(x, 3, stride=2) if kind == "shrink" else x


_ROW, _COLUMN = (1, 7), (7, 1)


def _block_a(channels: int, pool_channels: int) -> Mixed:
    units = {
        "branch1x1": Unit(channels, 64),
        "branch5x5_1": Unit(channels, 48),
        "branch5x5_2": Unit(48, 64, 5),
        "branch3x3dbl_1": Unit(channels, 64),
        "branch3x3dbl_2": Unit(64, 96, 3),
        "branch3x3dbl_3": Unit(96, 96, 3),
        "branch_pool": Unit(channels, pool_channels),
    }
    return Mixed(
        [
            Branch(("branch1x1",)),
            Branch(("branch5x5_1", "branch5x5_2")),
            Branch(("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
            Branch(("branch_pool",), pool="average"),
        ],
        units,
    )


def _block_b(channels: int) -> Mixed:
    units = {
        "branch3x3": Unit(channels, 384, 3, stride=2, padding=0),
        "branch3x3dbl_1": Unit(channels, 64),
        "branch3x3dbl_2": Unit(64, 96, 3),
        "branch3x3dbl_3": Unit(96, 96, 3, stride=2, padding=0),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Mixed([Branch(("branch3x3",)), Branch(double), Branch(pool="shrink")], units)


def _block_c(channels: int, middle: int) -> Mixed:
    units = {
        "branch1x1": Unit(channels, 192),
        "branch7x7_1": Unit(channels, middle),
        "branch7x7_2": Unit(middle, middle, _ROW),
        "branch7x7_3": Unit(middle, 192, _COLUMN),
        "branch7x7dbl_1": Unit(channels, middle),
        "branch7x7dbl_2": Unit(middle, middle, _COLUMN),
        "branch7x7dbl_3": Unit(middle, middle, _ROW),
        "branch7x7dbl_4": Unit(middle, middle, _COLUMN),
        "branch7x7dbl_5": Unit(middle, 192, _ROW),
        "branch_pool": Unit(channels, 192),
    }
    return Mixed(
        [
            Branch(("branch1x1",)),
            Branch(tuple(f"branch7x7_{number}" for number in range(1, 4))),
            Branch(tuple(f"branch7x7dbl_{number}" for number in range(1, 6))),
            Branch(("branch_pool",), pool="average"),
        ],
        units,
    )


def _block_d(channels: int) -> Mixed:
    units = {
        "branch3x3_1": Unit(channels, 192),
        "branch3x3_2": Unit(192, 320, 3, stride=2, padding=0),
        "branch7x7x3_1": Unit(channels, 192),
        "branch7x7x3_2": Unit(192, 192, _ROW),
        "branch7x7x3_3": Unit(192, 192, _COLUMN),
        "branch7x7x3_4": Unit(192, 192, 3, stride=2, padding=0),
    }
    return Mixed(
        [
            Branch(("branch3x3_1", "branch3x3_2")),
            Branch(tuple(f"branch7x7x3_{number}" for number in range(1, 5))),
            Branch(pool="shrink"),
        ],
        units,
    )


def _block_e(channels: int, pool: Pool) -> Mixed:
    units = {
        "branch1x1": Unit(channels, 320),
        "branch3x3_1": Unit(channels, 384),
        "branch3x3_2a": Unit(384, 384, (1, 3)),
        "branch3x3_2b": Unit(384, 384, (3, 1)),
        "branch3x3dbl_1": Unit(channels, 448),
        "branch3x3dbl_2": Unit(448, 384, 3),
        "branch3x3dbl_3a": Unit(384, 384, (1, 3)),
        "branch3x3dbl_3b": Unit(384, 384, (3, 1)),
        "branch_pool": Unit(channels, 192),
    }
    return Mixed(
        [
            Branch(("branch1x1",)),
            Branch(("branch3x3_1",), fork=("branch3x3_2a", "branch3x3_2b")),
            Branch(("branch3x3dbl_1", "branch3x3dbl_2"), fork=("branch3x3dbl_3a", "branch3x3dbl_3b")),
            Branch(("branch_pool",), pool=pool),
        ],
        units,
    )
