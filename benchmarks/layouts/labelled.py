"""Layouts of other tasks: pictures with boxes, outlines and masks, with and without captions; and databases."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.layouts.addressed import ADDRESSED
from benchmarks.layouts.cases import LAYOUTS, Layout
from benchmarks.layouts.further import FURTHER
from benchmarks.layouts.odd import ODD
from benchmarks.layouts.packed import PACKED
from benchmarks.layouts.published import PUBLISHED
from benchmarks.layouts.tools import TOOLS
from benchmarks.layouts.trainers import TRAINERS
from benchmarks.layouts.writers import NAMES, TEXTS, each, files_beside, members_of, parquet, picture, pictures

_BOXES = {f"{i}.txt": f"{i} 0.5 0.5 0.1 0.2\n1 0.25 0.75 1 0.2\n" for i in range(3)}
_OUTLINES = {f"{i}.txt": "0 0.1 0.2 0.3 0.4 0.5 0.6\n" for i in range(3)}
_KITTI = {
    f"{i}.txt": "Car 0.00 0 -1.57 599.4 156.4 629.7 189.2 2.85 2.63 12.34 0.47 1.49 69.44 -1.56" for i in range(3)
}
_DOTA = {f"{i}.txt": "1 2 30 2 30 20 1 20 small-vehicle 0\n" for i in range(3)}
_CAPTIONS = {f"{i}.caption": text for i, text in enumerate(TEXTS)}
_TEXTS = each("{}.txt")
_SHAPES = json.dumps({"version": "5", "shapes": [{"label": "cat", "points": [[1, 2], [3, 4]]}], "imagePath": "x.png"})
_SEGMENTS = json.dumps({"image": {"image_id": 1}, "annotations": [{"bbox": [1, 2, 3, 4], "area": 9}]})
_VOC = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"
_INSTANCES = json.dumps({"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "bbox": [0]}]})
_JPEGS = tuple(f"{i}.jpg" for i in range(3))
_WHERE = tuple(f"images/train/{name}" for name in NAMES)
_NO_CAPTIONS = "no captions at all"


def _mask(mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(40))).convert(mode).save(buffer, format="PNG")
    return buffer.getvalue()


def _named(folder: Path) -> None:
    """Write a table in Parquet that names its pictures as DiffusionDB does."""
    pictures(folder, NAMES)
    parquet({"image_name": list(NAMES), "prompt": list(TEXTS), "seed": [1, 2, 3]})(folder)


def _labels(name: str, files: dict[str, str]) -> Layout:
    return Layout(f"{name} without captions", files_beside(files), kept=0, captions=0)


def _masked(form: str, mode: str = "L") -> Callable[[Path], None]:
    return files_beside({**_TEXTS, **{form.format(i): _mask(mode) for i in range(3)}}, _JPEGS)


LABELLED: tuple[Layout, ...] = (
    _labels("YOLO's boxes", _BOXES),
    _labels("YOLO's outlines", _OUTLINES),
    _labels("KITTI's boxes", _KITTI),
    _labels("DOTA's boxes", _DOTA),
    _labels("LabelMe's outlines", {f"{i}.json": _SHAPES for i in range(3)}),
    _labels("SA-1B's segments", {f"{i}.json": _SEGMENTS for i in range(3)}),
    Layout("YOLO's boxes and captions", files_beside({**_BOXES, **_CAPTIONS})),
    Layout("LabelMe's outlines and captions", files_beside({**_TEXTS, **{f"{i}.json": _SHAPES for i in range(3)}})),
    Layout("numbers that are captions", files_beside({f"{i}.txt": f"{i} 2 3 4 5" for i in range(3)})),
    Layout("YOLO's folders", files_beside({f"labels/train/{i}.txt": _BOXES["0.txt"] for i in range(3)}, _WHERE), rows=6,
           refused="3 files of boxes, outlines or masks"),
    Layout("Pascal VOC without captions", files_beside({f"{i}.xml": _VOC for i in range(3)}), refused=_NO_CAPTIONS),
    Layout("Pascal VOC and captions", files_beside({**_TEXTS, **{f"{i}.xml": _VOC for i in range(3)}}), rows=6),
    Layout("COCO's instances and captions", files_beside({**_TEXTS, "instances.json": _INSTANCES}), rows=4),
    Layout("masks of the pictures' names", _masked("{}.png"), rows=6),
    Layout("masks with a palette", _masked("{}.png", "P"), rows=6),
    Layout("masks in a folder", _masked("masks/{}.png"), rows=6),
    Layout("twins in two formats that are no masks", _masked("{}.png", "RGB"), rows=6, kept=4, captions=4),
    Layout("webdataset with YOLO's boxes", members_of(
        [part for i in range(3) for part in ((f"{i}.png", picture(i)), (f"{i}.txt", b"0 0.5 0.5 0.1 0.2"))]),
        kept=0, captions=0),
    Layout("Parquet with image_name and prompt", _named),
    Layout("TFRecord", files_beside({"a-00000-of-00001.tfrecord": b"x"}, ()), rows=1,
           refused="write its pictures and captions as webdataset shards"),
    Layout("TFRecord, one file of several", files_beside({"a.tfrecord-00000-of-00002": b"x"}, ()),
           source="a.tfrecord-00000-of-00002", refused="no source; write its pictures and captions as webdataset"),
    Layout("LMDB beside captions", files_beside({**_TEXTS, "x.lmdb/data.mdb": b"x"}), rows=4),
    Layout("HDF5", files_beside({"a.h5": b"x"}, ()), source="a.h5", refused="no source; write its pictures"),
    Layout("a spreadsheet", files_beside({"labels.xlsx": b"PK"}), refused="save its table as CSV in UTF-8 first"),
    Layout("parts of a .zip", files_beside({"x.z01": b"", "x.zip.001": b""}, ()), refused="must be unpacked first"),
)  # fmt: skip

ALL_LAYOUTS = LAYOUTS + ODD + LABELLED + PACKED + TOOLS + PUBLISHED + TRAINERS + ADDRESSED + FURTHER
