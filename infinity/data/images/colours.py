"""Colours as every reader shows them: what has a profile of its own is converted to sRGB, by LittleCMS.

A profile says what the numbers of a picture mean. Software that ignores it shows other colours than software that
follows it, so pixels are converted before anything is measured, compared or stored. A profile that differs from sRGB by
less than anybody sees changes nothing, and the picture's bytes can stay as they are.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from infinity.data.images.stated_colours import are_known, stated_colours

MAX_DIFFERENCE = 2
"""Levels by which a profile may differ from sRGB and still be taken for it."""

_STEPS = 9
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
_GREY = ("1", "L", "LA", "La")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True, slots=True)
class Profile:
    """A colour profile: its name, the mode of its pixels, how they become sRGB, and whether they are that already."""

    name: str
    mode: str
    transform: Any
    is_srgb: bool = False

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """Return the picture in sRGB; transparency stays. One of plain RGB is converted where it is."""
        if image.mode.startswith("I"):
            return self._from_deep_grey(image)
        alpha = image.convert("RGBA").getchannel("A") if _has_alpha(image) else None
        own = image if image.mode == self.mode else _plain(image).convert(self.mode)
        if own is image and image.mode == "RGB":
            ImageCms.applyTransform(image, self.transform, inPlace=True)
            return image
        converted = cast(Image.Image, ImageCms.applyTransform(own, self.transform))
        if alpha is not None:
            converted.putalpha(alpha)
        return converted

    def _from_deep_grey(self, image: Image.Image) -> Image.Image:
        """Return grey of 16 bits in sRGB: colours of 256 levels, interpolated between them; what is clear is white."""
        levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(self.mode)
        curves = np.asarray(ImageCms.applyTransform(levels, self.transform))[0].astype(np.float32)
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        clear = image.info.get("transparency")
        for place, row in zip(pixels, np.asarray(image), strict=True):
            for channel in range(3):
                place[:, channel] = np.rint(np.interp(row / 257, np.arange(256), curves[:, channel]))
            if clear is not None:
                place[row == clear] = 255
        return Image.fromarray(pixels)


def profile_of(image: Image.Image, codes: tuple[int, int] | None = None, embedded: bytes = b"") -> Profile | None:
    """Return what makes sRGB of a loaded picture; None if it is sRGB or says nothing that can be followed.

    A profile that is broken, or one of other pixels, leaves the word to what is stated without a profile.

    Args:
        image: The picture.
        codes: Colour primaries and transfer function (H.273) that its container names; a profile counts more, except in
            PNG, whose specification has it the other way round.
        embedded: Profile in its container that Pillow does not read.
    """
    found: Profile | None = None
    data = image.info.get("icc_profile") or embedded
    if isinstance(data, bytes) and data and not (image.format == "PNG" and are_known(codes)):
        found = _usable(_parsed(data), image)
    if found is None and (stated := stated_colours(image, codes)) is not None:
        found = _usable(_parsed(stated.profile, stated.name), image)
    if found is None and image.mode == "LAB":
        return _lab()
    return None if found is None or found.is_srgb else found


def _usable(profile: Profile | None, image: Image.Image) -> Profile | None:
    """Return the profile if it is one of such pixels."""
    if profile is None or (profile.mode in ("CMYK", "LAB")) != (image.mode in ("CMYK", "LAB")):
        return None
    if (
        profile.mode == "L" and image.mode not in _GREY and not image.mode.startswith("I;16")
    ):  # following it would take the colours away
        return None
    if image.mode in ("I", "F"):  # numbers that are no levels
        return None
    return profile


@lru_cache(maxsize=64)
def _parsed(data: bytes, name: str = "") -> Profile | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        mode = _MODES.get(profile.profile.xcolor_space)
        if mode is None:
            return None
        intent = ImageCms.Intent.PERCEPTUAL if mode == "CMYK" else ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(profile, srgb, mode, "RGB", intent, flags)
        name = name or (profile.profile.profile_description or "unnamed").strip()[:100]
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):  # a profile may be anything
        return None
    found = Profile(name, mode, transform)
    return replace(found, is_srgb=_is_srgb(found))


@lru_cache(maxsize=1)
def _lab() -> Profile:
    """Return the way from CIE Lab, whose numbers need no profile."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return Profile("CIE Lab", "LAB", ImageCms.buildTransform(lab, srgb, "LAB", "RGB", intent))


def _is_srgb(profile: Profile) -> bool:
    """Return whether colours all over the space stay what they are."""
    if profile.mode not in ("RGB", "L"):
        return False
    levels = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    if profile.mode == "RGB":
        before = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
        image = Image.fromarray(before)
    else:
        grey = np.arange(256, dtype=np.uint8)[None]
        image, before = Image.fromarray(grey), np.repeat(grey[..., None], 3, -1)
    after = np.asarray(ImageCms.applyTransform(image, profile.transform))
    return int(np.abs(after.astype(int) - before).max()) <= MAX_DIFFERENCE


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture without transparency and palette, since a profile describes plain colours."""
    return image.convert("RGBA").convert("RGB") if _has_alpha(image) else image
