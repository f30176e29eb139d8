"""The Inception network as it runs: same figures to rounding, a third less work than layer by layer.

Frozen batch norms become part of the convolutions before them. Pointwise convolutions that look at the same input run
as one; that behind an average pool joins them, since a mean of places and a mix of channels may change places, and the
pool then sees a tenth of the channels. Pictures lie channels-last, which is how the convolutions want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from infinity.evaluation.inception import Branch, Inception, InceptionFeatures, Mixed, Unit, pool, spatial_mean


class FoldedInception(nn.Module):
    """Prepared pictures to features, in float32; built once out of a loaded network."""

    def __init__(self, network: Inception) -> None:
        super().__init__()
        self.stem = _fold_all([network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_2b_3x3])
        self.second_stem = _fold_all([network.Conv2d_3b_1x1, network.Conv2d_4a_3x3])
        self.early = _mix_all([network.Mixed_5b, network.Mixed_5c, network.Mixed_5d, network.Mixed_6a])
        self.middle = _mix_all([network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e])
        self.late = _mix_all([network.Mixed_7a, network.Mixed_7b, network.Mixed_7c])
        self.classes = network.fc
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 299 299"]) -> InceptionFeatures:
        """Features of prepared pictures, about -1 to 1 (see ``preparation``)."""
        x = stem = F.max_pool2d(self.stem(images.contiguous(memory_format=torch.channels_last)), 3, stride=2)
        x = second_stem = F.max_pool2d(self.second_stem(x), 3, stride=2)
        x = middle = self.middle(self.early(x))
        last = spatial_mean(self.late(x))
        without_bias = F.linear(last, self.classes.weight)
        return InceptionFeatures(
            features_64=spatial_mean(stem),
            features_192=spatial_mean(second_stem),
            features_768=spatial_mean(middle),
            features_2048=last,
            logits=without_bias + self.classes.bias,
            logits_without_bias=without_bias,
        )


class _Folded(nn.Module):
    """Convolution with bias and ReLU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        return F.relu(self.conv(x), inplace=True)


def _folded_conv(unit: Unit) -> nn.Conv2d:
    """The convolution that does what a unit does before its ReLU; scaled in float64."""
    conv, norm = unit.conv, unit.bn
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    folded: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        device=conv.weight.device,
    )
    assert folded.bias is not None
    with torch.no_grad():
        folded.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
        folded.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
    return folded


def _fold(unit: Unit) -> _Folded:
    return _Folded(_folded_conv(unit))


def _fold_all(units: Sequence[Unit]) -> nn.Sequential:
    return nn.Sequential(*map(_fold, units))


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
        self.joint = _joint([_folded_conv(units[name]) for name in heads]) if heads else None
        if self.joint is not None:
            self.joint.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, unit in units.items():
            if name not in heads:
                self.add_module(name, _fold(unit))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        heads = iter(self.joint(x).split(self._sizes, dim=1) if self.joint is not None else ())
        return torch.cat([part for path in self._paths for part in self._follow(path, x, heads)], dim=1)

    def _follow(self, path: _Path, x: Tensor, heads: object) -> list[Tensor]:
        if path.joined:
            x = next(heads)  # type: ignore[call-overload]
            # The bias is part of every place already, and the mean of equal numbers is that number.
            x = F.relu(pool(x, "average") if path.pool == "average" else x)
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
    joint: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d,
        convs[0].in_channels,
        sum(conv.out_channels for conv in convs),
        1,
        device=convs[0].weight.device,
    )
    assert joint.bias is not None
    with torch.no_grad():
        joint.weight.copy_(torch.cat([conv.weight for conv in convs]))
        biases = [conv.bias for conv in convs if conv.bias is not None]
        joint.bias.copy_(torch.cat(biases))
    return joint
