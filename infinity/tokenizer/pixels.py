"""Convert pictures between 8-bit RGB outside and RGB in [-1, 1] inside the models."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_pixels(images_BHWC: UInt8[Tensor, "B H W 3"], device: torch.device | str = "cpu") -> Float[Tensor, "B 3 H W"]:
    """Convert 8-bit RGB to [-1, 1], in the memory format channels-last."""
    images = images_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_images(pixels_B3HW: Float[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B H W 3"]:
    """Convert [-1, 1] to 8-bit RGB on the CPU, clamped and rounded to nearest."""
    scaled = pixels_B3HW.detach().float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round_()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous()
