"""Layouts as people have them by accident: odd names, odd encodings, moved folders, pictures within tables."""

from __future__ import annotations

import base64
import json
import unicodedata
from pathlib import Path

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import (
    NAMES,
    PAIRS,
    TEXTS,
    arrow,
    each,
    files_beside,
    lines,
    members_of,
    parquet,
    picture,
    pictures,
    rows_of,
    separated,
)

_ENCODED = tuple(base64.b64encode(picture(i)).decode() for i in range(3))
_QUOTED = "".join(f'{name},"{text},\nand more"\n' for name, text in PAIRS)
_COMPOSED, _APART = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def _samples(form: str, ending: str = "txt") -> list[tuple[str, bytes]]:
    return [
        part
        for i, text in enumerate(TEXTS)
        for part in (
            (form.format(i) + ".png", picture(i)),
            (f"{form.format(i)}.{ending}", (json.dumps([text]) if ending == "json" else text).encode()),
        )
    ]


def _moved(start: str, mark: str = "/") -> str:
    return separated(rows_of("image", "caption", [f"{start}img{mark}{name}" for name in NAMES]))


def _cached(folder: Path) -> None:
    """Write Arrow whose pictures lay in a cache, and the pictures."""
    pictures(folder, NAMES)
    old = [{"bytes": None, "path": f"/home/them/.cache/{name}"} for name in NAMES]
    arrow("stream", {"image": old, "text": list(TEXTS)})(folder)


_IN = tuple(f"img/{name}" for name in NAMES)
_SPLITS = {"train": rows_of("image", "caption")[:2], "val": rows_of("image", "caption")[2:]}
_LISTED = {
    "info": {},
    "licenses": [{"id": 1, "name": "x"}],
    "images": [{"id": i, **row} for i, row in enumerate(rows_of("file_name", "caption"))],
}
_FRAME = {"image": dict(enumerate(NAMES)), "caption": dict(enumerate(TEXTS))}
_PLACES = [{"image": {"bytes": None, "path": name}, "text": text} for name, text in PAIRS]

ODD: tuple[Layout, ...] = (
    Layout("caption files in other case", files_beside(each("{}.TXT"))),
    Layout("caption files of names in other case", files_beside({"a.txt": "one", "B.TXT": "two"}, ("A.png", "b.png")),
           rows=2, kept=2, captions=2),
    Layout("twins that differ in case alone", files_beside({"a.txt": "one", "A.txt": "two"}, ("a.png", "A.png")),
           rows=2, kept=2, captions=2),
    Layout("twins of which one has a caption", files_beside({"a.txt": "one"}, ("a.png", "A.png")),
           rows=2, kept=1, captions=1),
    Layout("caption files with composed accents", files_beside({f"{_COMPOSED}.txt": "one"}, (f"{_APART}.png",)),
           rows=1, kept=1, captions=1),
    Layout("captions in a folder beside the pictures", files_beside(each("captions/{}.txt"), _IN)),
    Layout("captions in a folder below the pictures", files_beside(each("text/{}.caption"))),
    Layout("captions beside two folders of pictures",
           files_beside({"captions/0.txt": "a"}, ("a/0.png", "b/0.png")), rows=3, refused="no captions at all"),
    Layout("caption files that are JSON texts",
           files_beside({f"{i}.json": json.dumps(t) for i, t in enumerate(TEXTS)})),
    Layout("caption files that are JSON lists",
           files_beside({f"{i}.json": json.dumps([t, t + " too"]) for i, t in enumerate(TEXTS)}), captions=6),
    Layout("caption files in UTF-16 without a mark",
           files_beside({f"{i}.txt": t.encode("utf-16-le") for i, t in enumerate(TEXTS)})),
    Layout("CSV in UTF-16 without a mark", files_beside({"x.csv": separated(rows_of()).encode("utf-16-be")})),
    Layout("CSV in UTF-32", files_beside({"x.csv": separated(rows_of()).encode("utf-32")})),
    Layout("CSV that names its separator", files_beside({"x.csv": "sep=;\n" + separated(rows_of(), ";")})),
    Layout("CSV with blanks around quotes", files_beside({"x.csv": '"file_name", "text"\n' + "".join(
        f'"{name}", "{text}, twice"\n' for name, text in PAIRS)})),
    Layout("CSV without header, captions of two lines", files_beside({"x.csv": _QUOTED})),
    Layout("list whose captions hold separators of lines",
           files_beside({"captions.txt": "".join(f"{n},{t}\u2028more\x0b\n" for n, t in PAIRS)})),
    Layout("columns in camel case", files_beside({"x.jsonl": lines(rows_of("imagePath", "captionText"))})),
    Layout("columns of several words", files_beside({"x.csv": separated(rows_of("Image Name", "image-caption"))})),
    Layout("columns with numbers", files_beside({"x.jsonl": lines(
        [{**row, "caption_1": row["caption_0"] + " too"} for row in rows_of("image", "caption_0")])}), captions=6),
    Layout("ids instead of names", files_beside({"x.json": json.dumps(
        [{"image_id": i, "caption": t} for i, t in enumerate(TEXTS)])})),
    Layout("first line that is broken", files_beside({"x.jsonl": "{broken\n" + lines(rows_of())}), rows=4),
    Layout("JSON lines over several lines",
           files_beside({"x.jsonl": "\n".join(json.dumps(row, indent=1) for row in rows_of())})),
    Layout("JSON lines that are an array", files_beside({"x.jsonl": json.dumps(rows_of(), indent=1)})),
    Layout("JSON with a list per split", files_beside({"x.json": json.dumps(_SPLITS)})),
    Layout("JSON with captions among the images", files_beside({"x.json": json.dumps(_LISTED)})),
    Layout("JSON of columns", files_beside({"x.json": json.dumps({"image": NAMES, "caption": TEXTS})})),
    Layout("JSON of a data frame", files_beside({"x.json": json.dumps(_FRAME)})),
    Layout("JSON of pairs", files_beside({"x.json": json.dumps(PAIRS)})),
    Layout("JSON by paths of another machine", files_beside({"meta_lat.json": json.dumps(
        {f"/home/them/{name[:1]}": {"caption": text, "tags": "x"} for name, text in PAIRS})})),
    Layout("JSON by numbers", files_beside({"x.json": json.dumps(
        {f"id{i}": {"filename": n, "caption": t} for i, (n, t) in enumerate(PAIRS)})})),
    Layout("JSON with images as objects", files_beside({"x.jsonl": lines(_PLACES)})),
    Layout("NaN as a caption", files_beside({"x.jsonl": '{"image": "0.png", "text": NaN}\n' + lines(rows_of()[1:])}),
           kept=2, captions=2),
    Layout("names from a home folder", files_beside({"x.csv": _moved("/home/them/set/")}, _IN)),
    Layout("names from a drive", files_beside({"x.csv": _moved("C:\\sets\\", "\\")}, _IN)),
    Layout("names from the folder above", files_beside({"x.csv": _moved("sets/cats/")}, _IN)),
    Layout("names of a folder that is not here", files_beside(
        {"x.csv": _moved("/home/them/")}, ("val/0.png", "val/1.png")), rows=5, kept=0, captions=0),
    Layout("pictures as base64", files_beside({"x.jsonl": lines(rows_of("image", "text", _ENCODED))}, ())),
    Layout("pictures as data addresses", files_beside(
        {"x.jsonl": lines(rows_of("image", "text", [f"data:image/png;base64,{text}" for text in _ENCODED]))}, ())),
    Layout("Parquet, base64", parquet({"image": _ENCODED, "text": TEXTS})),
    Layout("Parquet, columns with numbers", parquet(
        {"image": [picture(i) for i in range(3)], "caption_0": TEXTS, "caption_1": [t + " too" for t in TEXTS]}),
        captions=6),
    Layout("Parquet, a number called description", parquet(
        {"image": [picture(i) for i in range(3)], "text": TEXTS, "description": [1, 2, 3]})),
    Layout("Parquet, conversations of two", parquet(
        {"image": [picture(i) for i in range(3)], "texts": [[{"user": "what?", "assistant": t}] for t in TEXTS]})),
    Layout("Arrow with names of a cache", _cached, rows=5),
    Layout("webdataset with several dots", members_of(_samples("img.v1.{}"))),
    Layout("webdataset with lists in JSON", members_of(_samples("{}", "json"))),
    Layout("webdataset with HEIC", members_of([("0.heic", b"\0\0\0\x18ftypheic" + bytes(40)), ("0.txt", b"x"),
                                         *_samples("s{}")]), rows=4),
    Layout("packed image folder", members_of([("0.png", picture(0)), ("metadata.jsonl", lines(rows_of()[:1]).encode()),
                                        *_samples("s{}")]), rows=5),
    Layout("file that is no source", files_beside({"x.rar": b"Rar!"}, ()), source="x.rar",
           refused="x.rar: a file that is no source; unpack it first"),
)  # fmt: skip
