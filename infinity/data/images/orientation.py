"""How a camera was held: the EXIF orientation of a picture, followed once and never twice."""

from __future__ import annotations

from PIL import Image, ImageOps

from infinity.data.images.resizing import Box

_ORIENTATION = 0x0112  # the EXIF tag


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF says; one without EXIF, or with a broken one, as it is."""
    return image if orientation_of(image) == 1 else ImageOps.exif_transpose(image)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where metadata is absent or broken: the pixels may still be good."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's parser of EXIF raises nearly anything on broken data
        return 1
    return value if value in range(1, 9) else 1


def turned_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return where a box of a picture of some width and height lies once the picture is turned as its EXIF says."""
    (left, top, right, bottom), (width, height) = box, size
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)


def with_turn(converted: Image.Image, image: Image.Image) -> Image.Image:
    """Return a converted picture with its EXIF rotation, without the profile and the transparent colour."""
    for name in ("exif", "xmp", "XML:com.adobe.xmp"):
        if name in image.info:
            converted.info[name] = image.info[name]
    converted.getexif()[_ORIENTATION] = orientation_of(image)
    for name in ("icc_profile", "transparency"):
        converted.info.pop(name, None)
    return converted


def without_exif(image: Image.Image) -> Image.Image:
    """Return a picture whose decoder has turned it already, so that nothing turns it again."""
    plain = image.copy()
    plain.info = {name: value for name, value in image.info.items() if name in ("icc_profile", "transparency")}
    return plain
