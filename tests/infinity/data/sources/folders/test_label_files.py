"""Boxes, outlines and masks beside pictures are told from captions, and named."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.folders.caption_files import fields_of
from infinity.data.sources.folders.label_files import labels_in_object, labels_in_text, masks_among
from infinity.data.sources.opening import open_source
from tests.fixtures.data.pictures_on_disk import encoded, noise

KITTI = "Pedestrian 0.00 0 -0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
"""Type, truncation, occlusion, angle, box, size, place and turn: 14 numbers."""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0 0.5 0.5 0.1 0.2", "YOLO"),
        ("0 0.5 0.5 0.1 0.2 0.93\n\n12 1 0 0.1 .2\r\n", "YOLO"),
        ("3 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8", "YOLO"),
        ("0 5.1e-05 0.5 0.1 0.2", "YOLO"),
        (KITTI, "KITTI"),
        (KITTI + " 0.87\n" + KITTI, "KITTI"),
        ("1 2 30.5 2 30 20 1 20 plane 0", "DOTA"),
    ],
)
def test_texts_of_labels_are_told(text: str, kind: str) -> None:
    assert labels_in_text(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "1 2 3 4 5",
        "0 0 1 1 1",
        "0 0.5 0.5 0.1",
        "0 0.5 0.5 0.1 0.2\na red cat",
        "a clock that shows 10 20 30 40 50",
        "1girl, solo, 2019",
        "7 1.5 2.5 3.5 4.5",
        "Roses 1 2 3",
    ],
)
def test_other_texts_are_captions(text: str) -> None:
    assert labels_in_text(text) == ""


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"shapes": [{"points": [[1, 2]]}], "imagePath": "x"}, "shapes"),
        ({"annotations": [{"bbox": [1, 2, 3, 4]}]}, "annotations"),
        ({"objects": [{"bndbox": {}}]}, "objects"),
        ({"shapes": []}, ""),
        ({"shapes": "round"}, ""),
        ({"annotations": [{"caption": "a cat"}]}, ""),
        ({"regions": ["left"]}, ""),
    ],
)
def test_lists_of_boxes_and_outlines_are_told(fields: dict[str, object], name: str) -> None:
    assert labels_in_object(fields) == name


def test_a_caption_beside_labels_counts_and_labels_alone_are_a_reason() -> None:
    parts = [("x.caption", b"a cat"), ("x.txt", b"0 0.5 0.5 0.1 0.2")]
    assert fields_of(parts, SourceColumns()) == {"text": ["a cat"]}
    told = b'{"caption": "a cat", "shapes": [{"points": []}]}'
    assert fields_of([("x.json", told)], SourceColumns())["caption"] == "a cat"
    for name, data in (("x.txt", parts[1][1]), ("x.json", b'{"shapes": [{"points": []}]}')):
        with pytest.raises(UnreadableError, match=rf"labels: {name}: labels \(\w+\), no caption") as error:
            fields_of([(name, data)], SourceColumns())
        assert error.value.reason == "labels"


def grey(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(Image.open(io.BytesIO(encoded(noise(seed=seed)))).convert("L"))).save(file, "PNG")
    return file.getvalue()


def test_masks_are_told_by_folder_or_by_header(tmp_path: Path) -> None:
    files = {
        "a.jpg": b"", "a.png": grey(1),  # a mask
        "b.jpg": b"", "b.png": encoded(noise(seed=2)),  # a picture in colours
        "c.png": grey(3),  # alone
        "d.jpg": b"", "d.png": b"\x89PNG",  # cut off
        "img/e.webp": b"", "Masks/e.png": b"", "Masks/f.png": b"",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = masks_among(str(tmp_path / name) for name in files)
    assert {Path(each).relative_to(tmp_path).as_posix() for each in found} == {"a.png", "Masks/e.png"}


def test_a_header_that_cannot_be_read_makes_no_mask_here_and_stops_the_listing_of_a_bucket(tmp_path: Path) -> None:
    assert masks_among([str(tmp_path / "a.jpg"), str(tmp_path / "a.png")]) == frozenset()
    with pytest.MonkeyPatch.context() as patch:
        for error, stops in ((storage.StorageError("away"), True), (storage.EntryError("damaged"), False)):

            def fails(*_: object, error: Exception = error, **__: object) -> bytes:
                raise error

            patch.setattr(storage, "read_bytes", fails)
            files = ["s3://b/a.jpg", "s3://b/a.png"]
            if not stops:
                assert masks_among(files) == frozenset()
                continue
            with pytest.raises(storage.StorageError, match="away"):
                masks_among(files)


def test_a_mask_that_a_table_names_is_a_row_and_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "a.png").write_bytes(grey(1))
    (tmp_path / "a.txt").write_text("a red cat")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a grey cat"}\n')
    source = open_source(str(tmp_path))
    rows = [record for piece in source.slices for record in piece.read()]
    assert [(Path(str(row.image)).name, row.caption) for row in rows] == [
        ("a.png", "a grey cat"),
        ("a.jpg", "a red cat"),
    ]
    assert source.not_read == ()


def test_captions_in_a_folder_belong_to_the_pictures_and_not_to_their_masks(tmp_path: Path) -> None:
    for folder, data in (("images", encoded(noise(seed=1))), ("masks", grey(1)), ("captions", b"a red cat")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ("0.txt" if folder == "captions" else "0.png")).write_bytes(data)
    source = open_source(str(tmp_path))
    rows = [record for piece in source.slices for record in piece.read()]
    assert [(Path(str(row.image)).parent.name, row.caption) for row in rows] == [("images", "a red cat")]
    assert [each.number for each in source.not_read] == [1]
