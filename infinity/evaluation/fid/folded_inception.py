"""The Inception network as it runs: same figures to rounding, less work than layer by layer, in the order of caches.

Frozen batch norms become part of the convolutions before them. Pointwise convolutions that look at the same input run
as one; that behind an average pool joins them, since a mean of places and a mix of channels may change places, and the
pool then sees a tenth of the channels. Pictures lie channels-last, so that a pointwise convolution is one product of
matrices, and a maximum pool a maximum of shifted pictures. Every ReLU writes where its result is wanted, so that
branches need not be joined.

On a CPU the larger convolutions of 3 x 3 places at stride 1 run by Winograd's way (``winograd``), and few pictures run
at a time, fewer where maps are large, or these would not stay in its cache. One convolution runs in parts of its
outputs, whose weights stay closer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from infinity.evaluation.fid.inception import Branch, Inception, InceptionFeatures, Mixed, Unit, pool, spatial_mean
from infinity.evaluation.fid.winograd import ROWS, RowsConv

_PICTURES_AT_FIRST, _PICTURES, _PICTURES_AT_LAST = 2, 8, 16
"""That run at once on a CPU: where maps are large, in most of the network, and where weights are large."""

_PARTS = {"branch5x5_2": 4}
"""Convolutions of blocks that are faster in parts of their outputs."""

_BY_ROWS = ("branch3x3dbl_2", "branch3x3dbl_3")
"""Convolutions of blocks that run by Winograd's way, where they look at 3 x 3 places and have stride 1."""


class FoldedInception(nn.Module):
    """Prepared pictures to features, in float32; built once out of a loaded network."""

    def __init__(self, network: Inception) -> None:
        super().__init__()
        self._stem = _Folded(network.Conv2d_1a_3x3), _Folded(network.Conv2d_2a_3x3)
        self.stem_end = _PooledRows(network.Conv2d_2b_3x3)
        self._second_stem = (_Folded(network.Conv2d_3b_1x1),)
        self.steps = nn.ModuleList([*self._stem, *self._second_stem])
        self.second_stem_end = _PooledRows(network.Conv2d_4a_3x3)
        self.early = _mix_all([network.Mixed_5b, network.Mixed_5c, network.Mixed_5d, network.Mixed_6a])
        self.middle = _mix_all([network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e])
        self.late = _mix_all([network.Mixed_7a, network.Mixed_7b, network.Mixed_7c])
        self.classes = network.fc
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 299 299"]) -> InceptionFeatures:
        """Features of prepared pictures, about -1 to 1 (see ``preparation``)."""
        groups = [self._begin(group) for group in _split(images, _PICTURES)]
        features_64, features_192, middle = (torch.cat(found) for found in zip(*groups, strict=True))
        last = torch.cat([spatial_mean(self.late(group)) for group in _split(middle, _PICTURES_AT_LAST)])
        without_bias = F.linear(last, self.classes.weight)
        return InceptionFeatures(
            features_64=features_64,
            features_192=features_192,
            features_768=spatial_mean(middle),
            features_2048=last,
            logits=without_bias + self.classes.bias,
            logits_without_bias=without_bias,
        )

    def _begin(self, images: Float[Tensor, "B 3 299 299"]) -> tuple[Tensor, Tensor, Tensor]:
        """Features 64 and 192, and the maps whose means are features 768."""
        groups = [self._stems(group) for group in _split(images, _PICTURES_AT_FIRST)]
        features_64, features_192, x = (torch.cat(found) for found in zip(*groups, strict=True))
        return features_64, features_192, self.middle(self.early(x))

    def _stems(self, images: Float[Tensor, "B 3 299 299"]) -> tuple[Tensor, Tensor, Tensor]:
        """Features 64 and 192, and the maps whose means are the latter."""
        x = images.contiguous(memory_format=torch.channels_last)
        stem = self.stem_end(_run(x, self._stem, self.stem_end.rows_around))
        second_stem = self.second_stem_end(_run(stem, self._second_stem, self.second_stem_end.rows_around))
        return spatial_mean(stem), spatial_mean(second_stem), second_stem


def _split(x: Float[Tensor, "B C H W"], size: int) -> Sequence[Tensor]:
    """Groups of some pictures on a CPU; elsewhere all of them."""
    return x.split(size) if x.device.type == "cpu" else [x]


class _Step(nn.Module, ABC):
    """Something that makes maps, perhaps where they are wanted. Its input brings rows of zeros above and below."""

    rows_around: int = 0

    @abstractmethod
    def size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int, int]:
        """Channels, height and width of what it makes."""

    @abstractmethod
    def into(self, x: Float[Tensor, "B C H W"], place: Float[Tensor, "B C2 H2 W2"]) -> None:
        """Write it."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """The same in memory of its own."""
        maps = _empty_maps(x, *self.size(x))
        self.into(x, maps)
        return maps


def _run(x: Float[Tensor, "B C H W"], steps: Sequence[_Step], rows_around: int) -> Float[Tensor, "B C2 H2 W2"]:
    """Steps one after the other; the result gets rows of zeros above and below."""
    wanted = [*(step.rows_around for step in steps[1:]), rows_around]
    for step, following in zip(steps, wanted, strict=False):
        if not following:
            x = step(x)
            continue
        channels, height, width = step.size(x)
        maps = _empty_maps(x, channels, height + 2 * following, width)
        maps[:, :, :following].zero_()
        maps[:, :, -following:].zero_()
        step.into(x, maps[:, :, following : following + height])
        x = maps
    return x


def _empty_maps(x: Tensor, channels: int, height: int, width: int) -> Float[Tensor, "B C H W"]:
    shape = (len(x), channels, height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class _Window:
    """What a convolution looks at and makes, without its weights."""

    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    around: tuple[int, ...]

    @classmethod
    def of(cls, conv: nn.Conv2d) -> _Window:
        assert isinstance(conv.padding, tuple)
        return cls(conv.out_channels, conv.kernel_size, conv.stride, conv.padding)

    def size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int, int]:
        """Channels, height and width behind the convolution."""
        height, width = (
            (side + 2 * around - kernel) // stride + 1
            for side, around, kernel, stride in zip(x.shape[2:], self.around, self.kernel, self.stride, strict=True)
        )
        return self.channels, height, width


class _Rectified(_Step):
    """The ReLU of what a joint convolution made, perhaps of its local means."""

    def __init__(self, *, averaged: bool) -> None:
        super().__init__()
        self._averaged = averaged

    def size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int, int]:
        return x.shape[1], x.shape[2], x.shape[3]

    def into(self, x: Float[Tensor, "B C H W"], place: Float[Tensor, "B C H W"]) -> None:
        # The bias is part of every place already, and the mean of equal numbers is that number.
        torch.clamp_min(pool(x, "average") if self._averaged else x, 0, out=place)


class _Pooled(_Step):
    """Maxima of 3 x 3 places, at stride 1 with their padding or at stride 2."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self._stride = stride

    def size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int, int]:
        height, width = x.shape[2:] if self._stride == 1 else ((side - 3) // 2 + 1 for side in x.shape[2:])
        return x.shape[1], height, width

    def into(self, x: Float[Tensor, "B C H W"], place: Float[Tensor, "B C H2 W2"]) -> None:
        if self._stride == 1:
            place.copy_(pool(x, "maximum"))
        else:
            shrink(shrink(x, axis=2), axis=3, out=place)


def shrink(x: Float[Tensor, "B C H W"], *, axis: int, out: Tensor | None = None) -> Float[Tensor, "B C H2 W2"]:
    """Maxima of three rows (axis 2) or columns (axis 3) at stride 2."""
    last = x.shape[axis] - 3
    first, second, third = (x.narrow(axis, start, last + 1).unfold(axis, 1, 2)[..., 0] for start in range(3))
    return torch.maximum(torch.maximum(first, second), third, out=out)


class _Folded(_Step):
    """Convolution with bias, and ReLU."""

    def __init__(self, unit: Unit, parts: int = 1) -> None:
        super().__init__()
        conv = _folded_conv(unit)
        self._window = _Window.of(conv)
        is_pointwise = conv.kernel_size == (1, 1)
        self.parts = nn.ModuleList([_Pointwise(conv)] if is_pointwise else _cut(conv, parts))

    def size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int, int]:
        return self._window.size(x)

    def into(self, x: Float[Tensor, "B C H W"], place: Float[Tensor, "B C2 H2 W2"]) -> None:
        for part, its_place in zip(self.parts, place.chunk(len(self.parts), dim=1), strict=True):
            torch.clamp_min(part(x), 0, out=its_place)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        # New memory costs more than the maxima: where nothing else is wanted, the convolution's own is used.
        return F.relu_(self.parts[0](x)) if len(self.parts) == 1 else super().forward(x)


class _FoldedRows(_Step):
    """Convolution of 3 x 3 places at stride 1 with bias, and ReLU: on a CPU by Winograd's way."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.conv = _folded_conv(unit).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rows_around, columns_around = map(int, self.conv.padding)
        self.conv.padding = (0, columns_around)
        assert self.conv.bias is not None
        self.rows = RowsConv(self.conv.weight, self.conv.bias, columns_around=columns_around)

    def size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int, int]:
        return _Window.of(self.conv).size(x)

    def into(self, x: Float[Tensor, "B C H W"], place: Float[Tensor, "B C2 H2 W2"]) -> None:
        if x.device.type != "cpu":
            torch.clamp_min(self.conv(x), 0, out=place)
            return
        for first, phase in enumerate(self.rows(x)):
            torch.clamp_min(phase, 0, out=place[:, :, first::ROWS])


class _PooledRows(_FoldedRows):
    """The same and then maxima of 3 x 3 places at stride 2; ReLU last, for the maximum of ReLUs is their ReLU."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        if x.device.type != "cpu":
            return F.relu_(F.max_pool2d(self.conv(x), 3, stride=2))
        first, second, third, fourth = self.rows(x)
        channels, height, width = self.size(x)
        maxima = _empty_maps(x, channels, (height - 3) // 2 + 1, width)
        torch.maximum(torch.maximum(first, second), third, out=maxima[:, :, ::2])
        odd = third.shape[2] - 1
        torch.maximum(torch.maximum(third[:, :, :odd], fourth[:, :, :odd]), first[:, :, 1:], out=maxima[:, :, 1::2])
        return F.relu_(shrink(maxima, axis=3))


class _Pointwise(nn.Module):
    """Convolution of single places with bias: a product of matrices."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", conv.weight[:, :, 0, 0].contiguous())
        self.register_buffer("bias", conv.bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        y = F.linear(x.permute(0, 2, 3, 1), self.get_buffer("weight"), self.get_buffer("bias"))
        return y.permute(0, 3, 1, 2)


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


def _mix_all(blocks: Sequence[Mixed]) -> nn.Sequential:
    return nn.Sequential(*map(_FoldedMixed, blocks))


@dataclass(frozen=True, slots=True)
class _Path:
    """What is left of a branch: whether it starts at the joint convolution, its steps, then those side by side."""

    joined: bool
    steps: tuple[_Step, ...]
    last: tuple[_Step, ...]


class _FoldedMixed(nn.Module):
    """Branches over the same input, whose pointwise beginnings run as one convolution."""

    def __init__(self, block: Mixed) -> None:
        super().__init__()
        units: dict[str, Unit] = {name: unit for name, unit in block.named_children() if isinstance(unit, Unit)}
        heads = [branch.units[0] for branch in block.branches if _joins(branch, units)]
        self._sizes = [units[name].conv.out_channels for name in heads]
        self.joint = _Pointwise(_joint([_folded_conv(units[name]) for name in heads])) if heads else None
        self._paths = tuple(_path(branch, units) for branch in block.branches)
        self.steps = nn.ModuleList(step for path in self._paths for step in (*path.steps, *path.last))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        heads = iter(self.joint(x).split(self._sizes, dim=1) if self.joint is not None else ())
        ends: list[tuple[_Step, Tensor]] = []
        for path in self._paths:
            before = _run(next(heads) if path.joined else x, path.steps, path.last[0].rows_around)
            ends += [(step, before) for step in path.last]
        sizes = [step.size(before) for step, before in ends]
        whole = _empty_maps(x, sum(channels for channels, _, _ in sizes), *sizes[0][1:])
        for (step, before), place in zip(ends, whole.split([size[0] for size in sizes], dim=1), strict=True):
            step.into(before, place)
        return whole


def _joins(branch: Branch, units: dict[str, Unit]) -> bool:
    """Whether a branch begins with a pointwise convolution of the block's own input or of local means of it."""
    return bool(branch.units) and branch.pool in (None, "average") and units[branch.units[0]].conv.kernel_size == (1, 1)


def _path(branch: Branch, units: dict[str, Unit]) -> _Path:
    joined = _joins(branch, units)
    steps: list[_Step] = []
    if joined:
        steps.append(_Rectified(averaged=branch.pool == "average"))
    elif branch.pool is not None:
        steps.append(_Pooled(2 if branch.pool == "shrink" else 1))
    steps += [_step(name, units[name]) for name in branch.units[int(joined) :]]
    last = [_step(name, units[name]) for name in branch.fork] or [steps.pop()]
    return _Path(joined, tuple(steps), tuple(last))


def _step(name: str, unit: Unit) -> _Step:
    by_rows = name in _BY_ROWS and unit.conv.kernel_size == (3, 3) and unit.conv.stride == (1, 1)
    return _FoldedRows(unit) if by_rows else _Folded(unit, _PARTS.get(name, 1))


def _joint(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """One pointwise convolution with the outputs of several."""
    joint = _empty_like(convs[0], sum(conv.out_channels for conv in convs))
    assert joint.bias is not None
    with torch.no_grad():
        joint.weight.copy_(torch.cat([conv.weight for conv in convs]))
        biases = [conv.bias for conv in convs if conv.bias is not None]
        joint.bias.copy_(torch.cat(biases))
    return joint
