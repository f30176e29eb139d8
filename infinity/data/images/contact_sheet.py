"""Pictures for people: several uint8 images side by side in one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

BACKGROUND = 255
"""Grey value of the gaps and of unused cells."""

Marks = Sequence[tuple[int, int, int] | None]


def compose_sheet(
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    columns: int,
    *,
    gap_px: int = 2,
    enlarge: int = 1,
    marks: Marks | None = None,
) -> bytes:
    """Return PNG bytes of the images in rows of ``columns``, left to right, top to bottom, losslessly.

    Images may differ in size: every cell has the size of the largest, the picture lies at its upper left.

    Args:
        images: At least one RGB image, values 0 to 255.
        gap_px: White space between pictures, in pixels of the sheet.
        enlarge: Whole factor by which small pictures are magnified, without smoothing.
        marks: For each image the RGB colour of a frame around it, as wide as the gap, or None for no frame.

    Raises:
        ValueError: No image, an image that is not uint8 (H, W, 3), or counts that do not fit.
    """
    _check(images, columns, gap_px, enlarge, marks)
    frame_px = 0 if marks is None else max(1, gap_px)
    cells = [np.repeat(np.repeat(image, enlarge, axis=0), enlarge, axis=1) for image in images]
    pitch = [max(cell.shape[axis] for cell in cells) + 2 * frame_px + gap_px for axis in (0, 1)]
    rows = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    sheet = np.full((rows * pitch[0] + gap_px, columns * pitch[1] + gap_px, 3), BACKGROUND, dtype=np.uint8)
    for index, cell in enumerate(cells):
        top, left = (gap_px + place * step for place, step in zip(divmod(index, columns), pitch, strict=True))
        height, width = cell.shape[0] + 2 * frame_px, cell.shape[1] + 2 * frame_px
        if marks is not None and (colour := marks[index]) is not None:
            sheet[top : top + height, left : left + width] = colour
        sheet[top + frame_px : top + height - frame_px, left + frame_px : left + width - frame_px] = cell
    return encode_png(sheet)


def encode_png(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Return one RGB image as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _check(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], columns: int, gap_px: int, enlarge: int, marks: Marks | None
) -> None:
    if not len(images):
        raise ValueError("compose_sheet: expected at least one image, got none")
    for index, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"compose_sheet: expected uint8 (height, width, 3), got {image.dtype} {image.shape} as image {index}"
            )
    if columns < 1 or enlarge < 1 or gap_px < 0:
        raise ValueError(
            f"compose_sheet: expected positive columns and enlarge, got {columns}, {enlarge}, gap {gap_px}"
        )
    if marks is not None and len(marks) != len(images):
        raise ValueError(f"compose_sheet: expected one mark for each of {len(images)} images, got {len(marks)}")
