"""Colours that a picture states without a profile: chunks of PNG, tags of TIFF, codes of AVIF, Adobe RGB of cameras.

What they state is written as a profile, so that it is followed like an embedded one.

Sources: W3C PNG (third edition) 11.3.2, ITU-T H.273 (tables 2 and 3), DCF 2.0 (interoperability index R03), ICC.1:2022.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

Point = tuple[float, float]
"""Chromaticity x and y."""

HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of H.273 whose brightest levels are no white; nobody can say which levels of sRGB they are."""

_D50 = (0.9642, 1.0, 0.8249)
_D65 = (0.3127, 0.3290)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB = (_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_ADOBE = (_D65, (0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
_NTSC = (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_PRIMARIES = {
    1: _SRGB,
    2: _SRGB,  # unspecified
    5: (_D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: _NTSC,
    7: _NTSC,
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), *_P3),
    12: (_D65, *_P3),
}
_UNSPECIFIED = 2
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)
"""Transfer functions of sRGB and of video, which browsers show like sRGB, and the unspecified one."""

_NEAR = 0.05
"""Share by which gAMA may differ from 1 / 2.2 and still mean the curve of sRGB, as in libpng."""

_PLAIN = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
_STATING = (b"gAMA", b"cHRM", b"cICP", b"iCCP", b"eXIf", b"tRNS", b"ICC_PROFILE", b"Exif", b"ICCP", b"EXIF")
_WHITE, _CURVE, _CHROMATICITIES = 318, 301, 319
_EXIF, _INTEROPERABILITY, _COLOR_SPACE = 0x8769, 0xA005, 0xA001


@dataclass(frozen=True, slots=True)
class StatedColours:
    """Colours without a profile.

    Attributes:
        points: Chromaticities of white, red, green and blue.
        gamma: Exponent from levels to light; None for the curve of sRGB.
    """

    name: str
    points: tuple[Point, Point, Point, Point]
    gamma: float | None

    @property
    def profile(self) -> bytes:
        """An ICC profile that says the same; empty where the points span no colours."""
        try:
            return _written(_colorants(self.points), self.gamma)
        except (np.linalg.LinAlgError, ZeroDivisionError, struct.error, OverflowError, ValueError):
            return b""


def reads_alike(data: bytes) -> bool:
    r"""Return whether a file is a JPEG, PNG or WebP without anything that colours, transparency or EXIF follow from.

    How these are read was never changed.

    Example:
        >>> reads_alike(b"\xff\xd8\xff\xdb..."), reads_alike(b"\x89PNG\r\n....gAMA"), reads_alike(b"BM")
        (True, False, False)
    """
    return data.startswith(_PLAIN) and not any(mark in data for mark in _STATING)


def stated_colours(image: Image.Image, codes: tuple[int, int] | None) -> StatedColours | None:
    """Return the colours that a loaded picture states without a profile; None where it states none, or sRGB.

    Args:
        codes: Primaries and transfer function as in H.273, if the container names them.
    """
    found = None if codes is None else _by_codes(*codes)
    if found is None and image.format == "PNG":
        found = _by_chunks(image)
    elif found is None and image.format == "TIFF":
        found = _by_tags(image)
    if found is None and codes is None and image.format != "PNG" and _is_adobe(image):
        found = StatedColours("Adobe RGB of a camera", _ADOBE, 563 / 256)
    return None if found is None or (found.points, found.gamma) == (_SRGB, None) else found


def are_known(codes: tuple[int, int] | None) -> bool:
    """Return whether codes of H.273 name primaries and a transfer function that can be followed."""
    if codes is None or codes[0] == _UNSPECIFIED:
        return False
    return codes[0] in _PRIMARIES and (codes[1] in _LIKE_SRGB or codes[1] in _GAMMAS)


def _by_codes(primaries: int, transfer: int) -> StatedColours | None:
    points = _PRIMARIES.get(primaries)
    if points is None or (transfer not in _LIKE_SRGB and transfer not in _GAMMAS):
        return None
    return StatedColours(f"H.273 {primaries}/{transfer}", points, _GAMMAS.get(transfer))


def _by_chunks(image: Image.Image) -> StatedColours | None:
    """Return what gAMA and cHRM say; where there is sRGB, they only repeat it for older readers."""
    gamma, points = image.info.get("gamma"), image.info.get("chromaticity")
    if "srgb" in image.info or (gamma is None and points is None):
        return None
    exponent = None if not gamma or abs(2.2 * gamma - 1) <= _NEAR else min(max(1 / gamma, 0.1), 10.0)
    given = tuple((points[i], points[i + 1]) for i in range(0, 8, 2)) if points and len(points) == 8 else _SRGB
    return StatedColours("gAMA and cHRM", _named(given), exponent)


def _named(given: tuple[Point, ...]) -> tuple[Point, Point, Point, Point]:
    """Return white, red, green and blue; those of sRGB for what is rounded from them."""
    pairs = zip(given, _SRGB, strict=True)
    is_srgb = all(abs(a - b) <= 0.002 for one, other in pairs for a, b in zip(one, other, strict=True))
    return _SRGB if is_srgb else (given[0], given[1], given[2], given[3])


def _by_tags(image: Image.Image) -> StatedColours | None:
    """Return what the tags of a TIFF say: chromaticities, and a curve as a table, whose middle tells its exponent."""
    tags = getattr(image, "tag_v2", {})
    try:
        points = [float(value) for value in tags.get(_CHROMATICITIES, ())]
        white = [float(value) for value in tags.get(_WHITE, _D65)]
        curve = tags.get(_CURVE, ())
        middle = (len(curve) // (3 if len(curve) % 3 == 0 else 1)) // 2
        gamma = math.log(curve[middle] / 65535) / math.log(middle / (2 * middle - 1)) if middle else None
        if len(points) != 6 or len(white) != 2 or not all(map(math.isfinite, (*points, *white))):
            return None
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    pairs = tuple((each[i], each[i + 1]) for each in (white, points) for i in range(0, len(each), 2))
    is_gamma = gamma is not None and gamma > 0 and abs(2.2 / gamma - 1) > _NEAR
    return StatedColours("tags of TIFF", _named(pairs), min(max(gamma or 1.0, 0.1), 10.0) if is_gamma else None)


def _is_adobe(image: Image.Image) -> bool:
    """Return whether EXIF says that a camera wrote Adobe RGB, as DCF has it."""
    try:
        exif = image.getexif()
        return exif.get_ifd(_EXIF).get(_COLOR_SPACE) == 0xFFFF and exif.get_ifd(_INTEROPERABILITY).get(1) == "R03"
    except Exception:  # Pillow's parser of EXIF raises nearly anything on broken data
        return False


def _colorants(points: tuple[Point, Point, Point, Point]) -> np.ndarray:
    """Return XYZ of red, green and blue as columns, adapted to D50."""
    white, *primaries = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    columns = np.stack(primaries, 1)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ np.array(_D50) / (_BRADFORD @ white)) @ _BRADFORD
    return np.asarray(adapted @ (columns * np.linalg.solve(columns, white)))


def _written(colorants: np.ndarray, gamma: float | None) -> bytes:
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if gamma is None else (gamma,)
    curve = b"para\0\0\0\0" + struct.pack(">HH", 0 if gamma is not None else 3, 0) + b"".join(map(_fixed, numbers))
    tags = {name: _xyz(colorants[:, i].tolist()) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= {b"wtpt": _xyz(_D50), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(128)
    head[8:12], head[12:24], head[36:40] = b"\4\x20\0\0", b"mntrRGB XYZ ", b"acsp"
    head[68:80] = b"".join(map(_fixed, _D50))
    whole = bytes(head) + struct.pack(">I", len(tags)) + table + body
    return len(whole).to_bytes(4, "big") + whole[4:]


def _xyz(values: tuple[float, ...] | list[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
