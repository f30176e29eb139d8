"""LPIPS 0.1 (arXiv:1801.03924): perceptual distance of two pictures by the features of a classifier; differentiable.

A network trained on ImageNet, the trunk, gives features at five depths. The feature vectors are scaled to unit length,
and their squared differences are weighted by published numbers, which were learned from people's judgements, and
averaged over the picture. A benchmark reports the distance; a tokenizer's training may minimise it. Names are those of
torchvision's trunks and of the published weights, so that both files load as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.checkpoint import load_weights
from infinity.config import Config
from infinity.perception.loading import read_tensors
from infinity.storage.pinned import PinnedFile

Trunk = Literal["vgg16", "alexnet"]

_TRUNKS = "https://download.pytorch.org/models/"
_LINEAR = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
PUBLISHED: dict[Trunk, tuple[PinnedFile, PinnedFile]] = {
    "vgg16": (
        PinnedFile(uri=_TRUNKS + "vgg16-397923af.pth", sha256="397923af"),
        PinnedFile(uri=_LINEAR + "vgg.pth", sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    ),
    "alexnet": (
        PinnedFile(uri=_TRUNKS + "alexnet-owt-7be5be79.pth", sha256="7be5be79"),
        PinnedFile(uri=_LINEAR + "alex.pth", sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    ),
}
"""Published trunk of torchvision, and published weights of the judgements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LpipsConfig(Config):
    """Configuration of LPIPS: the trunk, and the files of its weights and of the judgements' weights.

    Args:
        trunk: "vgg16" (what losses use) or "alexnet" (what tables report).
        trunk_weights: File of torchvision; None is the published one.
        linear_weights: File of LPIPS 0.1; None is the published one.
    """

    trunk: Trunk = "vgg16"
    trunk_weights: PinnedFile | None = None
    linear_weights: PinnedFile | None = None

    @property
    def protocol(self) -> str:
        """The configuration in words."""
        return f"lpips/0.1: {self.trunk}, RGB in [-1, 1] at the model's size, mean of per-picture values"


@dataclass(frozen=True, slots=True)
class _Plan:
    """Layers of torchvision's ``features``, up to the last depth that is read."""

    taps: tuple[int, ...]
    channels: tuple[int, ...]
    least_px: int
    layers: tuple[nn.Module, ...] = field(repr=False)


class Lpips(nn.Module):
    """Distance of picture pairs, frozen; a new one has arbitrary weights, `load_lpips` returns the published ones."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        plan = _vgg16() if trunk == "vgg16" else _alexnet()
        self.least_px = plan.least_px
        self.trunk = nn.Module()
        self.trunk.features = nn.Sequential(*plan.layers)
        self.linear = nn.Module()
        for number, channels in enumerate(plan.channels):
            self.linear.add_module(f"lin{number}", _Judgement(channels))
        self._taps = plan.taps
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Return the distance of every pair, 0 for equal pictures; RGB in [-1, 1]. Gradients reach both pictures.

        Raises:
            ValueError: Shapes differ, or a side is too small for the trunk.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
            raise ValueError(
                f"Lpips: expected two equal shapes (B, 3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}"
            )
        if min(a.shape[2:]) < self.least_px:
            raise ValueError(
                f"Lpips: expected sides of at least {self.least_px} px, got {a.shape[2]} x {a.shape[3]}; smaller "
                "pictures leave the trunk nothing to look at"
            )
        distances: Tensor = a.new_zeros(len(a))
        for number, (left, right) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            judgement = self.linear.get_submodule(f"lin{number}")
            distances = distances + judgement((_unit(left) - _unit(right)) ** 2).mean(dim=(1, 2, 3))
        return distances

    def _features(self, images: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        x = (images - self.get_buffer("shift")) / self.get_buffer("scale")
        found = []
        for number, layer in enumerate(self.trunk.get_submodule("features").children()):
            x = layer(x)
            if number in self._taps:
                found.append(x)
        return found


class _Judgement(nn.Module):
    """One weight per channel; the published file counts a dropout before it, which has no effect here."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
        weighed: Tensor = self.model(x)
        return weighed


def _unit(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Return vectors of unit length; a zero vector stays zero and has a gradient, which a plain root would not have."""
    return x / (torch.sqrt((x**2).sum(dim=1, keepdim=True) + 1e-20) + 1e-10)


def load_lpips(config: LpipsConfig, device: str = "cpu") -> Lpips:
    """Return the network with its weights.

    Raises:
        ValueError: A file holds no tensors.
        PinnedFileError: The download failed, or the checksum differs.
        CheckpointError: Tensors are missing, unknown or of another shape.
        StorageError: A file cannot be read.
    """
    trunk, linear = PUBLISHED[config.trunk]
    trunk, linear = config.trunk_weights or trunk, config.linear_weights or linear
    network = Lpips(config.trunk)
    own = network.trunk.state_dict()
    found = {name: value for name, value in read_tensors(trunk).items() if name.startswith("features.")}
    extra = {name for name in found if name not in own and int(name.split(".")[1]) > max(network._taps)}
    load_weights(network.trunk, {k: v for k, v in found.items() if k not in extra}, where=trunk.uri)
    load_weights(network.linear, read_tensors(linear), where=linear.uri)
    return network.to(device)


def _conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=padding)


def _vgg16() -> _Plan:
    """Return five groups of convolutions with ReLU and max pooling between groups; each group's output is read."""
    layers: list[nn.Module] = []
    taps: list[int] = []
    channels = 3
    for group, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if group:
            layers.append(nn.MaxPool2d(2, stride=2))
        for _ in range(depth):
            layers += [_conv(channels, width), nn.ReLU()]
            channels = width
        taps.append(len(layers) - 1)
    return _Plan(tuple(taps), (64, 128, 256, 512, 512), 16, tuple(layers))


def _alexnet() -> _Plan:
    """Return five convolutions; the output of each is read."""
    layers = (
        _conv(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        _conv(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        _conv(192, 384),
        nn.ReLU(),
        _conv(384, 256),
        nn.ReLU(),
        _conv(256, 256),
        nn.ReLU(),
    )
    return _Plan((1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31, layers)
