"""Which tokens a mask of pixels covers, and how far a token's change reaches into the decoded pixels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from infinity.data.images.decoding import to_rgb
from infinity.scales import ScaleSchedule
from infinity.tokenizer import TokenizerConfig

COVERED = 0.5
"""Share of a token's area that a mask must cover so that the token is drawn again."""

Mask = Image.Image | np.ndarray | Tensor
"""Pixels to draw again: white (at least half the brightness), True, or positive."""


def pixel_mask(mask: Mask, size_px: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """Return a mask as booleans of a size (height, width), by the nearest pixels.

    A mask of another shape is cropped as its picture is (``data.loading.batches.fit``): scaled until it covers the
    size, and cut at the centre.

    Raises:
        ValueError: It is no mask, has not two axes, no pixel, or one that is NaN.
    """
    if isinstance(mask, Image.Image):
        grey = to_rgb(mask) if mask.mode.startswith("I") else mask  # 16 bits: convert("L") would clip instead of scale
        found = torch.from_numpy(np.array(grey.convert("L"))) >= 128
    else:
        try:
            values = torch.as_tensor(mask)
        except (TypeError, ValueError, RuntimeError):
            kind = type(mask).__name__
            raise ValueError(f"mask: expected a PIL picture, an array or a tensor, got {kind}") from None
        if values.is_floating_point() and values.isnan().any():
            raise ValueError("mask: expected numbers, found NaN; write 0 where nothing is to be drawn again")
        found = values if values.dtype == torch.bool else values > 0
    if found.ndim != 2 or not found.numel():
        raise ValueError(f"mask: expected a picture of one channel (height, width), got the shape {tuple(found.shape)}")
    step = min(found.shape[0] / size_px[0], found.shape[1] / size_px[1])  # pixels of the mask per pixel of the size
    rows, columns = (_nearest(length, size, step) for length, size in zip(found.shape, size_px, strict=True))
    return found[rows][:, columns]


def _nearest(length: int, size: int, step: float) -> Int[Tensor, " size"]:
    """Return the nearest of ``length`` pixels for ``size`` pixels at their centre, ``step`` apart."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * step + (length - size * step) / 2
    return places.floor().long().clamp(0, length - 1)


def redrawn_tokens(
    mask_HW: Bool[Tensor, "H W"], schedule: ScaleSchedule, *, covered: float = COVERED
) -> Bool[Tensor, " L"]:
    """Return the tokens of all scales of whose area the mask covers at least a share.

    A token that the mask does not touch is never among them.

    Args:
        mask_HW: Pixels to draw again.
        schedule: Grids of the picture.
        covered: Share of a token's area, above 0 up to 1.

    Raises:
        ValueError: The share is out of range, or the mask covers no token.
    """
    if not 0.0 < covered <= 1.0:
        raise ValueError(f"covered: expected a share above 0 up to 1, got {covered}")
    area = mask_HW[None, None].float()
    shares = torch.cat([F.adaptive_avg_pool2d(area, grid).flatten() for grid in schedule.grids])
    redrawn = shares >= covered
    if not redrawn.any():
        rows, columns = schedule.last_grid
        height, width = mask_HW.shape[0] // rows, mask_HW.shape[1] // columns
        raise ValueError(
            f"mask: covers less than {covered:.0%} of every token ({height} x {width} px at the finest scale), so that "
            "nothing would be drawn again; use a larger mask or a smaller share"
        )
    return redrawn


def decoder_reach(config: TokenizerConfig) -> int:
    """Return how many positions of the latent a changed position reaches through the decoder's convolutions.

    The group norms of the decoder also reach everywhere, by their means and variances; see ``docs/generation.md``.

    Example:
        >>> from infinity.presets import tokenizer_preset
        >>> {name: decoder_reach(tokenizer_preset(name)) for name in ("d32", "d56-folded", "scenes")}
        {'d32': 18, 'd56-folded': 18, 'scenes': 13}
    """
    blocks = 2 * (config.num_res_blocks + 1)
    reach = 1  # the last convolution
    for level in range(len(config.decoder_multipliers)):
        if 1 <= level <= config.num_downsamples:
            reach = -(-(reach + 1) // 2)  # the convolution after doubling, then half as many positions
        reach += blocks
    return reach + 4 + 1  # two blocks in the middle, and the first convolution


def reached_pixels(
    changed_BChw: Float[Tensor, "1 C h w"], config: TokenizerConfig, size_px: tuple[int, int]
) -> Bool[Tensor, "H W"]:
    """Return the pixels that the convolutions reach from the positions where a difference of latents is not 0."""
    reach = decoder_reach(config)
    changed = (changed_BChw != 0).any(dim=1, keepdim=True).float()
    grown = F.max_pool2d(changed, 2 * reach + 1, stride=1, padding=reach)
    return F.interpolate(grown, size=size_px, mode="nearest-exact")[0, 0] > 0.5
