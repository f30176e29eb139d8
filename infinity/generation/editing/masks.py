"""Which tokens a mask of pixels covers, and how far a token's change reaches into the decoded pixels."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from infinity.data.images.decoding import MAX_PIXELS, as_shown, check_opened, decode
from infinity.data.images.orientation import upright
from infinity.data.images.rgb import with_alpha
from infinity.data.memory import LEAST_PICTURE_BYTES
from infinity.scales import ScaleSchedule
from infinity.tokenizer import TokenizerConfig

COVERED = 0.2
"""Share of a token's area that a mask must cover so that the token is drawn again.

Coarse tokens say which colour an object has. At 0.5 a masked object leaves most of them as they are, and of 48 edits
of drawn scenes 17 succeeded; at 0.2, 45 did (``benchmarks.drawn.scene_edits``).
"""

Mask = Image.Image | np.ndarray | Tensor
"""Pixels to draw again: transparent, or white (at least half the brightness) where none is; True, or a whole number
above 0."""


def pixel_mask(mask: Mask, size_px: tuple[int, int]) -> Bool[Tensor, ...]:
    """Return a mask as booleans of a size (height, width), by the nearest pixels.

    A mask of another shape is cropped as its picture is (``data.loading.batches.fit``): scaled until it covers the
    size, and cut at the centre.

    Raises:
        ValueError: It is no mask, has not two axes, no pixel, or one that is NaN.
    """
    if isinstance(mask, Image.Image):
        found = torch.from_numpy(_marked(mask))
    else:
        try:
            # A copy: torch warns of memory that is read-only, and refuses steps backwards.
            values = torch.as_tensor(mask.copy() if isinstance(mask, np.ndarray) else mask).detach().cpu().to_dense()
        except (TypeError, ValueError, RuntimeError):
            kind = type(mask).__name__
            raise ValueError(f"mask: expected a PIL picture, an array or a tensor, got {kind}") from None
        if values.is_complex():
            raise ValueError("mask: expected truth values or real numbers, found complex ones")
        if values.is_floating_point() and values.double().isnan().any():
            raise ValueError("mask: expected numbers, found NaN; write 0 where nothing is to be drawn again")
        found = _at_least_half(values)
    if found.ndim != 2 or not found.numel():
        raise ValueError(f"mask: expected a picture of one channel (height, width), got the shape {tuple(found.shape)}")
    step = min(found.shape[0] / size_px[0], found.shape[1] / size_px[1])  # pixels of the mask per pixel of the size
    rows, columns = (_nearest(length, size, step) for length, size in zip(found.shape, size_px, strict=True))
    return found[rows][:, columns]


def mask_of(data: bytes, max_pixels: int = MAX_PIXELS) -> Bool[np.ndarray, "H W"]:
    """Return the pixels of a mask's file to draw again: transparent ones, as in OpenAI's API, or else white ones.

    Raises:
        UnreadableError: The bytes are not a picture.
    """
    clear = transparent_pixels(data, max_pixels)
    return _white(decode(data, max_pixels, LEAST_PICTURE_BYTES).image) if clear is None else clear


def transparent_pixels(data: bytes, max_pixels: int = MAX_PIXELS) -> Bool[np.ndarray, "H W"] | None:
    """Return the pixels of a file that are at least half transparent, turned as its EXIF says; None for none.

    Raises:
        UnreadableError: The bytes are not a picture.
    """
    decode(data, max_pixels, LEAST_PICTURE_BYTES)  # refuses what is damaged, hostile or too large
    with Image.open(io.BytesIO(data)) as image:
        return _clear(image)


def _marked(mask: Image.Image) -> Bool[np.ndarray, "H W"]:
    check_opened("mask", mask)
    clear = _clear(mask)
    return _white(as_shown(mask)) if clear is None else clear


def _clear(image: Image.Image) -> Bool[np.ndarray, "H W"] | None:
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return None
    alpha: np.ndarray = np.asarray(with_alpha(upright(image)))[..., 3]
    return alpha < 128 if int(alpha.min()) < 128 else None


def _white(image: Image.Image) -> Bool[np.ndarray, "H W"]:
    return np.asarray(image.convert("L")) >= 128


def _at_least_half(values: Tensor) -> Bool[Tensor, ...]:
    """Return which numbers of a mask mark a pixel: from half of 1 or of 255 on; of whole numbers those above 0."""
    if values.dtype == torch.bool or not values.numel():
        return values.bool()
    if values.is_floating_point() or values.dtype == torch.uint8:
        exact = values.double()  # few operations exist for numbers of 8 bits
        return exact >= (0.5 if float(exact.max()) <= 1 else 128)
    # Hardly any exists for unsigned ones of 16 bits and more; doubles keep the sign of all.
    return values.double() > 0


def _nearest(length: int, size: int, step: float) -> Int[Tensor, " size"]:
    """Return the nearest of ``length`` pixels for ``size`` pixels at their centre, ``step`` apart."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * step + (length - size * step) / 2
    return places.floor().long().clamp(0, length - 1)


def redrawn_tokens(
    mask_HW: Bool[Tensor, ...], schedule: ScaleSchedule, *, covered: float = COVERED
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
) -> Bool[Tensor, ...]:
    """Return the pixels that the convolutions reach from the positions where a difference of latents is not 0."""
    reach = decoder_reach(config)
    changed = (changed_BChw != 0).any(dim=1, keepdim=True).float()
    grown = F.max_pool2d(changed, 2 * reach + 1, stride=1, padding=reach)
    return F.interpolate(grown, size=size_px, mode="nearest-exact")[0, 0] > 0.5
