"""Files beside pictures that were written for other tasks: boxes, outlines and masks, which describe nothing in words.

Texts and JSON are told by what they hold, since their names are those of caption files; masks by their names, and by
the header of a PNG that lies beside a picture of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from infinity import storage
from infinity.data.sources.folders.file_names import is_picture

MASKS = "masks beside pictures, which are no pictures of their own"
LABELS = "files of boxes, outlines or masks, which hold no captions"

MASK_FOLDERS = (
    "mask", "masks", "segmentation", "segmentations", "segmentationclass", "segmentationobject", "seg", "gtfine",
)  # fmt: skip
"""Folders of masks, in small letters; a picture in one of them is a mask if another of its name lies elsewhere."""

_OF_PICTURE = re.compile(r"(.+)[-_.](?:mask|masklabel|condlabel|seg|segmentation)", re.IGNORECASE)
_SHARE = r"(?:0(?:\.\d+)?|1(?:\.0+)?|\.\d+|\d(?:\.\d+)?e-\d+)"
_NUMBER = r"-?\d+(?:\.\d+)?"
_LINES = {
    "YOLO": re.compile(rf"\d+(?:\s+{_SHARE}){{4,}}"),
    "KITTI": re.compile(rf"[A-Za-z_]+(?:\s+{_NUMBER}){{14,15}}"),
    "DOTA": re.compile(rf"(?:{_NUMBER}\s+){{8}}\S+(?:\s+[012])?"),
}
_SHAPES = ("bbox", "points", "segmentation", "bndbox", "polygon", "exterior", "keypoints")
_LISTS = ("shapes", "annotations", "objects", "labels", "regions")
PNG_HEADER_BYTES = 26
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_OR_PALETTE = (0, 3)


def labels_in_text(text: str) -> str:
    """Return the name of the format of labels that a text is in; empty for any other text.

    Example:
        >>> labels_in_text("0 0.5 0.5 0.1 0.2"), labels_in_text("1 2 3 4 5"), labels_in_text("a red cat")
        ('YOLO', '', '')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    for name, pattern in _LINES.items():
        if all(pattern.fullmatch(line) for line in lines) and (name != "YOLO" or "." in text):
            return name
    return ""


def labels_in_object(fields: Mapping[str, Any]) -> str:
    """Return the name of the list of boxes or outlines that a JSON object holds, as LabelMe's; empty where none."""
    for name in _LISTS:
        listed = fields.get(name)
        first = listed[0] if isinstance(listed, list) and listed else None
        if isinstance(first, Mapping) and any(part in first for part in _SHAPES):
            return name
    return ""


def masks_among(files: Iterable[str]) -> frozenset[str]:
    """Return the pictures that are masks of others.

    A mask lies in one of ``MASK_FOLDERS`` while a picture of its name lies elsewhere, or has the name of a picture with
    ``-mask`` or the like behind it, or is a PNG of grey values or a palette beside a picture of another format with the
    same name.

    Raises:
        StorageError: A header cannot be read from a bucket.
    """
    pictures = [file for file in files if is_picture(file)]
    by_stem: dict[str, list[str]] = {}
    for file in pictures:
        by_stem.setdefault(_stem(file), []).append(file)
    beside = {
        file
        for those in by_stem.values()
        if len(those) > 1
        for file in those
        if file.lower().endswith(".png")
        and any(not other.lower().endswith(".png") for other in those)
        and _is_mask(file)
    }
    beside |= {file for file in pictures if (of := _OF_PICTURE.fullmatch(_stem(file))) and of[1] in by_stem}
    in_folders = [file for file in pictures if _in_mask_folder(file)]
    if not in_folders:
        return frozenset(beside)
    elsewhere = {storage.name(_stem(file)) for file in pictures if not _in_mask_folder(file)}
    return frozenset(beside | {file for file in in_folders if storage.name(_stem(file)) in elsewhere})


def _stem(file: str) -> str:
    return file.rpartition(".")[0]


def _in_mask_folder(file: str) -> bool:
    return any(part.lower() in MASK_FOLDERS for part in file.split("/")[:-1])


def is_grey_or_palette(start: bytes) -> bool:
    """Return whether a PNG holds grey values or a palette, as masks do, by its first ``PNG_HEADER_BYTES``."""
    return len(start) >= PNG_HEADER_BYTES and start.startswith(_PNG) and start[25] in _GREY_OR_PALETTE


def _is_mask(file: str) -> bool:
    try:
        return is_grey_or_palette(storage.read_bytes(file, start=0, length=PNG_HEADER_BYTES))
    except storage.StorageError as error:
        if storage.local_path(file) is None and not isinstance(error, storage.EntryError):
            raise
        return False  # the row says why it cannot be read
