"""Layouts that well-known data sets and tools have, and what systems and interrupted tools leave among them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.feather as feather

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import NAMES, PAIRS, TEXTS, each, files_beside, members_of, picture, rows_of, separated
from infinity.data.sources.columns import SourceColumns

_CAPTIONS = tuple(f'{text} 12" wide' if i != 1 else text for i, text in enumerate(TEXTS))
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
_SPLITS = ("train2017", "val2017")
_TOO = [[text, f"{text} isn't it"] for text in TEXTS]
_LISTED = {
    "Python": [str(both) for both in _TOO],
    "NumPy": [f"[{both[0]!r} {both[1]!r}]" for both in _TOO],
    "JSON": [json.dumps(both) for both in _TOO],
    "JSON objects": [json.dumps([{"raw": text} for text in both]) for both in _TOO],
}


def _csv(cells: Sequence[str], columns: tuple[str, str] = ("image", "captions")) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([columns, *zip(NAMES, cells, strict=True)])
    return buffer.getvalue()


def _stray(mark: str, form: str = "{}") -> str:
    rows = (f"{name}{mark}{form.format(text)}\n" for name, text in zip(NAMES, _CAPTIONS, strict=True))
    return f"image{mark}caption\n" + "".join(rows)


def _splits(folder: Path) -> None:
    """Write COCO's captions of two splits whose pictures have the same names."""
    for number, split in enumerate(_SPLITS):
        files: dict[str, str | bytes] = {f"{split}/{i:012d}.png": picture(10 * number + i) for i in range(2)}
        images = [{"id": i, "file_name": f"{i:012d}.png"} for i in range(2)]
        notes = [{"id": i, "image_id": i, "caption": f"{split} {i}"} for i in range(2)]
        files[f"annotations/captions_{split}.json"] = json.dumps({"images": images, "annotations": notes})
        files_beside(files, ())(folder)


def _feather(name: str, beside: bool) -> Callable[[Path], None]:
    """Return a function that writes a list of addresses as Feather, as img2dataset does while it works."""

    def make(folder: Path) -> None:
        if beside:
            members_of(_samples("txt"))(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        addresses = {"url": [f"https://example.com/{i}" for i in range(2)], "caption": ["a b", "c d"]}
        feather.write_feather(pa.table(addresses), str(folder / name))

    return make


def _samples(*endings: str, pack: bool = False) -> list[tuple[str, bytes]]:
    """Return members of a shard: pictures, the texts, and further texts that are no captions."""
    members: list[tuple[str, bytes]] = []
    for i, text in enumerate(TEXTS):
        members.append((f"{i}.png", picture(i)))
        for ending in endings:
            data = (text if ending in ("txt", "caption.txt") else f"no caption: {ending}").encode()
            members.append((f"{i}.{ending}", gzip.compress(data) if pack else data))
    return members


_BY_PICTURE = {
    "DiffusionDB": {name: {"p": text, "se": 38753269, "c": 12.0, "st": 50} for name, text in PAIRS},
    "tags": {name: {"tags": ["1girl", "solo"], "rating": "g"} for name in NAMES},
}
_OBJECTS = [json.dumps([{"caption": text} for text in both]).encode() for both in _TOO]
_QUOTED = ("my cat.png", "a#b.png", "100%.png")
_TEXT_FILES = each("{}.txt")

TOOLS: tuple[Layout, ...] = (
    Layout("CSV with inch marks in several rows", files_beside({"t.csv": _stray(",")})),
    Layout("TSV with inch marks in several rows", files_beside({"t.tsv": _stray("\t")})),
    Layout("TSV with a quote that closes too early", files_beside({"t.tsv": _stray("\t", '"a {}"')}), rows=5, kept=1,
           captions=1),
    Layout("CSV with commas in captions and no quotes", files_beside({"t.csv": _stray(",", "a, {}")}), rows=6, kept=0,
           captions=0),
    *(Layout(f"CSV with lists in {name}'s notation", files_beside({"t.csv": _csv(cells)}), captions=6)
      for name, cells in _LISTED.items()),
    Layout("Flickr30k of a hub", files_beside({"t.csv": _csv(_LISTED["JSON"], ("filename", "raw"))}), captions=6),
    Layout("DiffusionDB, part of a JSON", files_beside({"part-000001.json": json.dumps(_BY_PICTURE["DiffusionDB"])})),
    Layout("JSON of tags by name", files_beside({"tags.json": json.dumps(_BY_PICTURE["tags"])}), kept=0, captions=0),
    Layout("COCO, the same names in two splits", _splits, rows=4, kept=4, captions=4),
    Layout("names quoted as in addresses", files_beside(
        {"t.csv": separated(rows_of("image", "caption", list(map(quote, _QUOTED))))}, _QUOTED)),
    Layout("names with blanks behind them", files_beside(
        {"t.csv": separated(rows_of("image", "caption", [f"{name} " for name in NAMES]))})),
    Layout("an old table in a hidden folder", files_beside({
        "t.csv": separated(rows_of("image", "caption")),
        ".ipynb_checkpoints/t-checkpoint.csv": separated(rows_of("image", "caption", NAMES[::-1]))}), rows=4),
    Layout("what systems leave", files_beside({
        **_TEXT_FILES, "Thumbs.db": "x", "desktop.ini": "x", ".DS_Store": "x", "__MACOSX/0.png": picture(0),
        "@eaDir/0.png/SYNOPHOTO_THUMB_XL.png": picture(0), ".git/x.png": picture(5), ".cache/x.json": "{"}), rows=10),
    Layout("Git LFS without its files", files_beside({
        **_TEXT_FILES, "x.png": _POINTER, "x.txt": "x y", "x.parquet": _POINTER, "x.arrow": _POINTER, "x.tar": _POINTER,
        "y.csv": _POINTER}), rows=8),
    Layout("Git LFS without its file", files_beside({"train.parquet": _POINTER}, ()), refused="git lfs pull"),
    Layout("img2dataset that was stopped", _feather("_tmp/0.feather", beside=True), rows=5),
    Layout("addresses in Feather", _feather("list.feather", beside=False), rows=2, kept=0, captions=0),
    Layout("addresses and pictures without captions", files_beside(
        {"t.json": json.dumps([{"url": "https://example.com/0.jpg", "caption": "x y"}])}), rows=4, kept=0, captions=0),
    Layout("webdataset with several texts", members_of(_samples("original.txt", "txt", "url.txt"))),
    Layout("webdataset with named texts", members_of(_samples("caption.txt", "tags.txt"))),
    Layout("webdataset with packed texts", members_of(_samples("txt.gz", pack=True)), kept=0, captions=0),
    Layout("webdataset with classes", members_of(_samples("cls")), kept=0, captions=0),
    Layout("webdataset with lists of objects", members_of([
        part for i in range(3) for part in ((f"{i}.png", picture(i)), (f"{i}.json", _OBJECTS[i]))]), captions=6),
    Layout("a caption column that must be named", files_beside(
        {"t.csv": separated(rows_of("img_name", "blurb"))}), columns=SourceColumns(caption="blurb")),
)  # fmt: skip
"""Layouts of tools and of data sets that many people use."""
