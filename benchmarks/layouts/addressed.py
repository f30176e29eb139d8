"""Layouts of tables with addresses beside pictures that lie there, of chats, of typed lists, and of lone captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import NAMES, TEXTS, arrow, files_beside, lines, parquet, picture, pictures, separated
from infinity.data.sources.columns import SourceColumns

_WHERE = tuple(f"images/{name}" for name in NAMES)
_PAGES = tuple(f"https://example.com/page/{i}" for i in range(3))


def _rows(image: str, text: str = "text", names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    found = zip(_PAGES, names, TEXTS, strict=True)
    return [{"url": page, image: name, text: caption} for page, name, caption in found]


def _columns(image: str, names: Sequence[str] = NAMES) -> dict[str, Any]:
    return {"url": list(_PAGES), image: list(names), "text": list(TEXTS)}


def _with(write: Callable[[Path], None], names: Sequence[str] = NAMES) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        pictures(folder, names)
        write(folder)

    return make


def _chat(text: str, parts: bool = False) -> list[dict[str, Any]]:
    said = (("user", "<image>Describe it."), ("assistant", text))
    return [{"role": who, "content": [{"type": "text", "text": words}] if parts else words} for who, words in said]


_CHATS = [{"messages": _chat(text), "images": [name]} for name, text in zip(NAMES, TEXTS, strict=True)]
_PARTED = [{"messages": _chat(text, parts=True), "images": [name]} for name, text in zip(NAMES, TEXTS, strict=True)]
_SAID = pa.array([_chat(text) for text in TEXTS])


def _typed(form: str) -> dict[str, str | bytes]:
    return {"captions.txt": "".join(form.format(name, text) for name, text in zip(NAMES, TEXTS, strict=True))}


def _each(form: str) -> dict[str, str | bytes]:
    return {form.format(i): text for i, text in enumerate(TEXTS)}


ADDRESSED: tuple[Layout, ...] = (
    Layout("addresses and names: JSON lines", files_beside({"train.jsonl": lines(_rows("image"))})),
    Layout("addresses and names: AI Challenger", files_beside(
        {"captions.json": json.dumps(_rows("image_id", "caption"))}, _WHERE)),
    Layout("addresses and names: CSV", files_beside({"train.csv": separated(_rows("filename", names=_WHERE))}, _WHERE)),
    Layout("addresses and names: CSV, itself the source", files_beside({"t.csv": separated(_rows("img_path"))}),
           source="t.csv"),
    Layout("addresses and names: Parquet", _with(parquet(_columns("filename")))),
    Layout("addresses and names: Arrow", _with(arrow("stream", _columns("img_path", _WHERE)), _WHERE),
           rows=5),
    Layout("addresses and names: some are missing", files_beside(
        {"train.jsonl": lines(_rows("image", names=("0.png", "1.png", "lost.png")))}, NAMES[:2]), kept=2, captions=2),
    Layout("addresses and numbers of their own", files_beside(
        {"train.jsonl": lines(_rows("image_id", names=("a1", "b2", "c3")))}, ()), kept=0, captions=0),
    Layout("chats: JSON lines", files_beside({"train.jsonl": lines(_CHATS)})),
    Layout("chats: JSON with texts in parts", files_beside({"train.json": json.dumps(_PARTED)})),
    Layout("chats: Parquet", _with(parquet({"image_path": list(NAMES), "messages": _SAID}))),
    Layout("captions by model, one named", files_beside({"train.jsonl": lines(
        [{"image": name, "captions": {"blip": "?", "llava": text}} for name, text in zip(NAMES, TEXTS, strict=True)])}),
        columns=SourceColumns(caption="captions.llava")),
    Layout("webdataset of a hub as Parquet, its JSON named", parquet(
        {"png": [picture(i) for i in range(3)], "json": [json.dumps({"prompt": text}) for text in TEXTS]}),
        columns=SourceColumns(caption="json.prompt")),
    Layout("JSON of captions in a folder of annotations", files_beside(
        {f"annotations/{i}.json": json.dumps({"caption": text}) for i, text in enumerate(TEXTS)}, _WHERE)),
    Layout("list: a colon behind names", files_beside(_typed("{}: {}\n"))),
    Layout("list: a blank behind names", files_beside(_typed("{} {}\n"))),
    Layout("list: Flickr8k-CN", files_beside(_typed("{0}#zhb#0 {1}\n{0}#zhb#1 {1} again\n")), captions=6),
    Layout("list: classes behind names", files_beside(_typed("{} 7\n")), refused="no captions at all"),
    Layout("list: masks behind names", files_beside(_typed("{} SegmentationClass/{}.png\n")),
           refused="no captions at all"),
    Layout("captions in files that end in _caption", files_beside(_each("{}_caption.txt"))),
    Layout("captions in files that end in -prompt", files_beside(_each("{}-prompt.txt"))),
    Layout("a folder per picture, with its caption", files_beside(
        _each("{}/caption.txt"), [f"{i}/image.png" for i in range(3)])),
    Layout("a folder of several pictures and one caption.txt", files_beside({"caption.txt": "cats"}),
           refused="no captions at all"),
)  # fmt: skip
