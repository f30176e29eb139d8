"""Layouts inside zip archives, as hubs and competitions hand them out, and archives that are broken or hostile."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import (
    NAMES,
    PAIRS,
    TEXTS,
    each,
    lines,
    parquet,
    picture,
    pictures,
    rows_of,
    separated,
    shard,
)

Content = Mapping[str, bytes | str]

_PICTURES = {name: picture(i) for i, name in enumerate(NAMES)}
_TEXTS = each("{}.txt")
BESIDE: Content = {**_PICTURES, **_TEXTS}
"""Pictures with captions beside them."""


def zip_bytes(content: Content, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return buffer.getvalue()


def without_flags(archive: bytes) -> bytes:
    """Return an archive whose entries do not say that their names are UTF-8, as many programs write it."""
    return changed(archive, 8, 6, lambda flags: flags & ~0x800)


def encrypted(archive: bytes, name: str) -> bytes:
    """Return an archive one of whose entries is marked as encrypted."""
    return changed(archive, 8, 6, lambda flags: flags | 1, name)


def changed(archive: bytes, central: int, local: int, change: Callable[[int], int], name: str = "") -> bytes:
    """Return an archive with a number of 16 bits changed in the headers of all entries, or of those of one name."""
    data = bytearray(archive)
    for mark, offset, names in ((b"PK\1\2", central, 46), (b"PK\3\4", local, 30)):
        at = data.find(mark)
        while at >= 0:
            if data[at + names :].startswith(name.encode()):
                struct.pack_into("<H", data, at + offset, change(struct.unpack_from("<H", data, at + offset)[0]))
            at = data.find(mark, at + 4)
    return bytes(data)


def damaged(archive: bytes, name: str) -> bytes:
    """Return an archive with a wrong byte in the content of an entry."""
    data = bytearray(archive)
    data[data.find(name.encode()) + len(name) + 20] ^= 0xFF
    return bytes(data)


def twice(content: Content, *further: tuple[str, bytes | str]) -> bytes:
    """Return an archive in which some names come again, as programs write it that add to an archive."""
    buffer = io.BytesIO(zip_bytes(content))
    with zipfile.ZipFile(buffer, "a") as file:
        for name, data in further:
            listed = file.NameToInfo.pop(name, None)
            file.writestr(name, data)
            assert listed is not None
    return buffer.getvalue()


def linked(content: Content, name: str, target: str) -> bytes:
    """Return an archive with a symbolic link."""
    buffer = io.BytesIO(zip_bytes(content))
    with zipfile.ZipFile(buffer, "a") as file:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        file.writestr(info, target)
    return buffer.getvalue()


def _file(data: bytes, name: str = "pictures.zip", beside: Content | None = None) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        for other, text in (beside or {}).items():
            (folder / other).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def _of(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a function that packs what another one writes, below a folder of the archive's name."""

    def packed(folder: Path) -> None:
        make(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        content = {f"pictures/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}
        for path in files:
            path.unlink()
        (folder / "pictures.zip").write_bytes(zip_bytes(content))

    return packed


_SUB = {f"train/{name}": data for name, data in BESIDE.items()}
_TABLE = separated(rows_of("image", "caption"))
_UNICODE = {name.replace("0", "größe"): data for name, data in BESIDE.items()}
_METADATA = lines(rows_of())
_WHOLE = zip_bytes(BESIDE)

PACKED: tuple[Layout, ...] = (
    Layout("zip: pictures with captions beside", _file(_WHOLE)),
    Layout("zip: itself the source", _file(_WHOLE), source="pictures.zip"),
    Layout("zip: in capitals", _file(_WHOLE, "P.ZIP"), source="P.ZIP"),
    Layout("zip: below a folder, as Kaggle packs", _file(zip_bytes(_SUB))),
    Layout("zip: not compressed", _file(zip_bytes(BESIDE, zipfile.ZIP_STORED))),
    Layout("zip: bzip2", _file(zip_bytes(BESIDE, zipfile.ZIP_BZIP2))),
    Layout("zip: metadata.jsonl inside", _file(zip_bytes({**_PICTURES, "metadata.jsonl": _METADATA}))),
    Layout("zip: metadata.jsonl beside it", _file(zip_bytes(_PICTURES), beside={"metadata.jsonl": _METADATA})),
    Layout("zip: pictures, CSV beside it", _file(zip_bytes(_PICTURES), "data/images.zip", {"captions.csv": _TABLE})),
    Layout("zip: one for pictures, one for captions", _file(zip_bytes(_PICTURES), beside={"texts.zip": zip_bytes(
        {"captions.csv": _TABLE})})),
    Layout("zip: Parquet inside", _of(parquet({"image": list(_PICTURES.values()), "text": list(TEXTS)}))),
    Layout("zip: shard inside", _of(shard("0.tar"))),
    Layout("zip: Windows names", _file(zip_bytes({name.replace("/", "\\"): data for name, data in _SUB.items()}))),
    Layout("zip: UTF-8 names without a flag", _file(without_flags(zip_bytes(_UNICODE)))),
    Layout("zip: what macOS adds", _file(zip_bytes({**BESIDE, "__MACOSX/._0.png": b"x", ".DS_Store": b"x"})), rows=5),
    Layout("zip: folder of this name", lambda folder: _beside_in(folder / "pictures.zip"), source="pictures.zip"),
    Layout("zip: behind other bytes", _file(b"#!/bin/sh\n" + _WHOLE)),
    Layout("zip: encrypted picture", _file(encrypted(_WHOLE, "1.png")), kept=2, captions=2),
    Layout("zip: encrypted caption", _file(encrypted(_WHOLE, "1.txt")), kept=2, captions=2),
    Layout("zip: damaged picture", _file(damaged(_WHOLE, "1.png")), kept=2, captions=2),
    Layout("zip: two of one name", _file(twice(BESIDE, ("1.png", picture(9)))), rows=4),
    Layout("zip: names that lead out", _file(zip_bytes({**BESIDE, "../3.png": picture(3), "/4.png": picture(4),
                                                        "C:\\5.png": picture(5)})), rows=6),
    Layout("zip: a link", _file(linked(BESIDE, "3.png", "/etc/passwd")), rows=4),
    Layout("zip: other archives inside", _file(zip_bytes({**BESIDE, "more.zip": _WHOLE, "b.7z": b"x"})), rows=5),
    Layout("zip: no archive, beside pictures", _file(b"<html>", beside=BESIDE), rows=4),
    Layout("zip: cut off, beside pictures", _file(_WHOLE[:-30], beside=BESIDE), rows=4),
    Layout("zip: empty, beside pictures", _file(zip_bytes({}), beside=BESIDE), rows=4),
    Layout("zip: empty", _file(zip_bytes({})), rows=1, refused="archives without files"),
    Layout("zip: no archive", _file(b"<html>"), rows=1, refused="expected a zip archive"),
    Layout("zip: pictures without captions", _file(zip_bytes(_PICTURES)), refused="no captions at all"),
    Layout("zip: TextCaps", _file(zip_bytes({
        **{f"train_images/{name}": data for name, data in _PICTURES.items()},
        "TextCaps_0.1_train.json": json.dumps({"dataset_type": "train", "data": [
            {"image_path": f"train_images/{name}", "caption_str": text, "reference_strs": [text]}
            for name, text in PAIRS]}),
    }))),
    Layout("zip: COCO with a table per split", _file(zip_bytes({
        **{f"train2017/{name}": data for name, data in _PICTURES.items()},
        "annotations/captions_train2017.json": json.dumps({
            "images": [{"id": i, "file_name": name} for i, name in enumerate(NAMES)],
            "annotations": [{"image_id": i, "caption": text} for i, text in enumerate(TEXTS)]}),
    }))),
)  # fmt: skip
"""Layouts of archives."""


def _beside_in(folder: Path) -> None:
    folder.mkdir()
    pictures(folder, NAMES)
    for name, text in _TEXTS.items():
        (folder / name).write_text(text)
