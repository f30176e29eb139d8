"""The Inception network as it runs: same figures to rounding, less work than layer by layer, in the order of caches.

Frozen batch norms become part of the convolutions before them. Pointwise convolutions that look at the same input run
as one; that behind an average pool joins them, since a mean of places and a mix of channels may change places, and the
pool then sees a tenth of the channels. Pictures lie channels-last, so that a pointwise convolution is one product of
matrices, and a maximum pool a maximum of shifted pictures.

On a CPU few pictures run at a time, and fewer where maps are large, or these would not stay in its cache: where
``docs/proofs.md`` measured, the third convolution does 53 GFLOP/s for eight pictures and 82 for two. Some convolutions
run in parts of their outputs, whose weights stay closer (64 to 96 channels: 67 GFLOP/s whole, 88 in three parts). Where
a pool follows, it makes the parts small before they are joined, and the ReLU follows it: the maximum of ReLUs is the
ReLU of the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from infinity.evaluation.inception import Branch, Inception, InceptionFeatures, Mixed, Unit, pool, spatial_mean

_PICTURES, _PICTURES_IN_BEGINNING = 8, 2
"""That run at once on a CPU: in all of the network, and where its maps are large."""

_PARTS = {"branch5x5_2": 4, "branch3x3dbl_2": 3}
"""Convolutions of blocks that are faster in parts of their outputs."""


class FoldedInception(nn.Module):
    """Prepared pictures to features, in float32; built once out of a loaded network."""

    def __init__(self, network: Inception) -> None:
        super().__init__()
        self.stem = _fold_all([network.Conv2d_1a_3x3, network.Conv2d_2a_3x3])
        self.stem_end = _Folded(network.Conv2d_2b_3x3, 2, pooled=True)
        self.second_stem = _fold_all([network.Conv2d_3b_1x1])
        self.second_stem_end = _Folded(network.Conv2d_4a_3x3, 2, pooled=True)
        self.early = _mix_all([network.Mixed_5b, network.Mixed_5c, network.Mixed_5d, network.Mixed_6a])
        self.middle = _mix_all([network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e])
        self.late = _mix_all([network.Mixed_7a, network.Mixed_7b, network.Mixed_7c])
        self.classes = network.fc
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 299 299"]) -> InceptionFeatures:
        """Features of prepared pictures, about -1 to 1 (see ``preparation``)."""
        size = len(images) if images.is_cuda else _PICTURES
        groups = [self._means(group) for group in images.split(size)]
        features_64, features_192, features_768, last = (torch.cat(means) for means in zip(*groups, strict=True))
        without_bias = F.linear(last, self.classes.weight)
        return InceptionFeatures(
            features_64=features_64,
            features_192=features_192,
            features_768=features_768,
            features_2048=last,
            logits=without_bias + self.classes.bias,
            logits_without_bias=without_bias,
        )

    def _means(self, images: Float[Tensor, "B 3 299 299"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Spatial means at the four places, of some pictures."""
        size = len(images) if images.is_cuda else _PICTURES_IN_BEGINNING
        begun = [self._begin(part) for part in images.split(size)]
        features_64, features_192, x = (torch.cat(column) for column in zip(*begun, strict=True))
        middle = self.middle(self.early(x))
        return features_64, features_192, spatial_mean(middle), spatial_mean(self.late(middle))

    def _begin(self, images: Float[Tensor, "B 3 299 299"]) -> tuple[Tensor, Tensor, Tensor]:
        """Features 64 and 192, and the maps behind them, of few pictures."""
        stem = self.stem_end(self.stem(images.contiguous(memory_format=torch.channels_last)))
        second_stem = self.second_stem_end(self.second_stem(stem))
        return spatial_mean(stem), spatial_mean(second_stem), second_stem


def _shrink(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
    """Maxima of 3 x 3 places at stride 2, first of rows, then of columns."""
    for axis in (2, 3):
        last = x.shape[axis] - 3
        first, second, third = (x.narrow(axis, start, last + 1).unfold(axis, 1, 2)[..., 0] for start in range(3))
        x = torch.maximum(torch.maximum(first, second), third)
    return x


class _Pointwise(nn.Module):
    """Convolution of single places with bias: a product of matrices."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", conv.weight[:, :, 0, 0].contiguous())
        self.register_buffer("bias", conv.bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        y = F.linear(x.permute(0, 2, 3, 1), self.get_buffer("weight"), self.get_buffer("bias"))
        return y.permute(0, 3, 1, 2)


class _Folded(nn.Module):
    """Convolution with bias, perhaps maxima of 3 x 3 places at stride 2, and ReLU."""

    def __init__(self, unit: Unit, parts: int = 1, *, pooled: bool = False) -> None:
        super().__init__()
        conv = _folded_conv(unit)
        self.parts = nn.ModuleList([_Pointwise(conv)] if conv.kernel_size == (1, 1) else _cut(conv, parts))
        self._pooled = pooled

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        found = [_shrink(part(x)) if self._pooled else part(x) for part in self.parts]
        return F.relu_(torch.cat(found, dim=1) if len(found) > 1 else found[0])


def _cut(conv: nn.Conv2d, parts: int) -> list[nn.Conv2d]:
    """Convolutions that give equal parts of the outputs, which lie channels-last."""
    assert conv.bias is not None
    cut = []
    for weight, bias in zip(conv.weight.chunk(parts), conv.bias.chunk(parts), strict=True):
        part = _empty_like(conv, len(bias))
        assert part.bias is not None
        with torch.no_grad():
            part.weight.copy_(weight)
            part.bias.copy_(bias)
        cut.append(part.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    return cut


def _empty_like(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A convolution with another number of outputs, with a bias, and with whatever was in memory."""
    empty: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d,
        conv.in_channels,
        channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        device=conv.weight.device,
    )
    return empty


def _folded_conv(unit: Unit) -> nn.Conv2d:
    """The convolution that does what a unit does before its ReLU; scaled in float64."""
    conv, norm = unit.conv, unit.bn
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    folded = _empty_like(conv, conv.out_channels)
    assert folded.bias is not None
    with torch.no_grad():
        folded.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
        folded.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
    return folded


def _fold_all(units: Sequence[Unit]) -> nn.Sequential:
    return nn.Sequential(*map(_Folded, units))


def _mix_all(blocks: Sequence[Mixed]) -> nn.Sequential:
    return nn.Sequential(*map(_FoldedMixed, blocks))


@dataclass(frozen=True, slots=True)
class _Path:
    """What is left of a branch: whether it starts at the joint convolution, then units, then a fork."""

    joined: bool
    pool: str | None
    units: tuple[str, ...]
    fork: tuple[str, ...]


class _FoldedMixed(nn.Module):
    """Branches over the same input, whose pointwise beginnings run as one convolution."""

    def __init__(self, block: Mixed) -> None:
        super().__init__()
        units: dict[str, Unit] = {name: unit for name, unit in block.named_children() if isinstance(unit, Unit)}
        heads = [branch.units[0] for branch in block.branches if _joins(branch, units)]
        self._paths = tuple(_path(branch, joined=_joins(branch, units)) for branch in block.branches)
        self._sizes = [units[name].conv.out_channels for name in heads]
        self.joint = _Pointwise(_joint([_folded_conv(units[name]) for name in heads])) if heads else None
        for name, unit in units.items():
            if name not in heads:
                self.add_module(name, _Folded(unit, _PARTS.get(name, 1)))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        heads = iter(self.joint(x).split(self._sizes, dim=1) if self.joint is not None else ())
        return torch.cat([part for path in self._paths for part in self._follow(path, x, heads)], dim=1)

    def _follow(self, path: _Path, x: Tensor, heads: object) -> list[Tensor]:
        if path.joined:
            x = next(heads)  # type: ignore[call-overload]
            # The bias is part of every place already, and the mean of equal numbers is that number.
            x = F.relu(pool(x, "average") if path.pool == "average" else x)
        elif path.pool == "shrink":
            x = _shrink(x)
        elif path.pool is not None:
            x = pool(x, path.pool)  # type: ignore[arg-type]
        for name in path.units:
            x = self.get_submodule(name)(x)
        return [self.get_submodule(name)(x) for name in path.fork] or [x]


def _joins(branch: Branch, units: dict[str, Unit]) -> bool:
    """Whether a branch begins with a pointwise convolution of the block's own input or of local means of it."""
    return bool(branch.units) and branch.pool in (None, "average") and units[branch.units[0]].conv.kernel_size == (1, 1)


def _path(branch: Branch, *, joined: bool) -> _Path:
    return _Path(joined, branch.pool, branch.units[1:] if joined else branch.units, branch.fork)


def _joint(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """One pointwise convolution with the outputs of several."""
    joint = _empty_like(convs[0], sum(conv.out_channels for conv in convs))
    assert joint.bias is not None
    with torch.no_grad():
        joint.weight.copy_(torch.cat([conv.weight for conv in convs]))
        biases = [conv.bias for conv in convs if conv.bias is not None]
        joint.bias.copy_(torch.cat(biases))
    return joint
