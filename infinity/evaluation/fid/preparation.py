"""How a picture is prepared for the Inception network: four published conventions that never mix in one comparison.

With the same weights they give features that differ by 2 % (alignment of the resize) to 10 % (antialiasing), and FIDs
that differ by more than models do. So each convention has a name, which is part of every protocol (decision 22).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from infinity.perception.squares import centre_square

INPUT_PX = 299

_PICTURES = 4
"""Pictures that are prepared at once on a CPU: their planes fit its cache."""

Convention = Literal["tf1", "pytorch_fid", "clean_fid", "imagenet_norm"]

Images = UInt8[Tensor, "B H W 3"]
Resized = Float[Tensor, "B 3 299 299"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """One convention of preparing pictures.

    Attributes:
        protocol: Resize, crop, clamp and rounding, in words.
        resize: Function from 8-bit RGB pictures of one size to 299 px, in the range that ``normalise`` expects.
        normalise: Function from resized pictures to the network's input, about -1 to 1.
    """

    protocol: str
    resize: Callable[[Images], Resized]
    normalise: Callable[[Resized], Resized]

    def __call__(self, images: Images) -> Resized:
        """Return the network's input. On a CPU few pictures are prepared at a time, to stay in its cache."""
        if images.device.type != "cpu":
            return self.normalise(self.resize(images))
        shape = (len(images), 3, INPUT_PX, INPUT_PX)
        prepared = torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last)
        for few, place in zip(images.split(_PICTURES), prepared.split(_PICTURES), strict=True):
            place.copy_(self.normalise(self.resize(few)))
        return prepared


def resize_tf1(images: Float[Tensor, "B C H W"], size_px: int) -> Float[Tensor, "B C size_px size_px"]:
    """Resize as bilinear TensorFlow 1: output i samples input i * (in / out), without a half-pixel shift.

    It does not average when shrinking, so high frequencies alias; FID's features expect exactly that. Positions are
    computed in float32, as TensorFlow did, also for float64 pictures.
    """
    rows, columns = (_source(images.shape[axis], size_px, images) for axis in (2, 3))
    if images.shape[2:] == (size_px, size_px):
        return images
    # Columns first, on the rows of the input: fewer values are gathered where the picture grows.
    left, right = images[..., columns.first], images[..., columns.second]
    wide = torch.lerp(left, right, columns.share)
    return torch.lerp(wide[:, :, rows.first], wide[:, :, rows.second], rows.share.unsqueeze(-1))


@dataclass(frozen=True, slots=True)
class _Source:
    """For each output position: the two inputs beside it, and the weight of the second."""

    first: Tensor
    second: Tensor
    share: Tensor


def _source(size_in: int, size_out: int, like: Tensor) -> _Source:
    positions = torch.arange(size_out, dtype=torch.float32, device=like.device) * (size_in / size_out)
    first = positions.floor().long()
    return _Source(first, (first + 1).clamp(max=size_in - 1), (positions - first).to(like.dtype))


def _planes(images: Images) -> Float32[Tensor, "B 3 H W"]:
    return images.permute(0, 3, 1, 2).float()


def _resize_pytorch_fid(images: Images) -> Resized:
    size = (INPUT_PX, INPUT_PX)
    return F.interpolate(_planes(images).div_(255), size=size, mode="bilinear", align_corners=False)


def _resize_clean(images: Images) -> Resized:
    """Pillow's antialiased bicubic filter on each channel as 32-bit floats, clipped to 0 to 255 and not rounded."""
    pictures = images.cpu().numpy()
    resized = np.empty((len(pictures), 3, INPUT_PX, INPUT_PX), np.float32)
    for number, picture in enumerate(pictures):
        for channel in range(3):
            plane = Image.fromarray(picture[..., channel].astype(np.float32))
            resized[number, channel] = np.asarray(plane.resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized.clip(0, 255)).to(images.device)


def _resize_imagenet(images: Images) -> Resized:
    """Short side to 299 px by Pillow's bilinear filter, in 8 bits; centre crop; ImageNet's mean and deviation."""
    bilinear = Image.Resampling.BILINEAR
    pictures = [centre_square(Image.fromarray(picture), INPUT_PX, bilinear) for picture in images.cpu().numpy()]
    planes = torch.from_numpy(np.stack(pictures)).to(images.device).permute(0, 3, 1, 2).float() / 255
    mean = planes.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = planes.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (planes - mean) / deviation


def _centre(resized: Resized) -> Resized:
    return (resized - 128).div_(128)


def _double(resized: Resized) -> Resized:
    return (2 * resized).sub_(1)


PREPARATIONS: Mapping[Convention, Preparation] = {
    "tf1": Preparation(
        "8-bit RGB, TensorFlow-1 bilinear resize to 299 px (no half-pixel shift, not antialiased, not rounded), no "
        "crop, (x - 128) / 128",
        lambda images: resize_tf1(_planes(images), INPUT_PX),
        _centre,
    ),
    "pytorch_fid": Preparation(
        "8-bit RGB / 255, bilinear resize to 299 px (half-pixel centres, not antialiased, not rounded), no crop, "
        "2x - 1",
        _resize_pytorch_fid,
        _double,
    ),
    "clean_fid": Preparation(
        "8-bit RGB, Pillow bicubic resize to 299 px (antialiased, float, clipped to 0..255, not rounded), no crop, "
        "(x - 128) / 128",
        _resize_clean,
        _centre,
    ),
    "imagenet_norm": Preparation(
        "8-bit RGB, Pillow bilinear resize of the short side to 299 px (antialiased, rounded), centre crop, / 255, "
        "ImageNet mean and deviation, then 2x - 1 (as the script of the Infinity paper; no other FID compares)",
        _resize_imagenet,
        _double,
    ),
}


def protocol(convention: Convention) -> str:
    """Return network and preparation in words; scores and statistics compare only under the same words."""
    return f"inception-2015/2 ({convention}): {PREPARATIONS[convention].protocol}"
