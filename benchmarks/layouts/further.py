"""Layouts of photo services, trainers and chats, of tables without endings, and of packed folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import (
    NAMES,
    PAIRS,
    TEXTS,
    each,
    files_beside,
    inside,
    lines,
    members_of,
    parquet,
    picture,
    rows_of,
    separated,
    structs,
)
from infinity.data.sources.columns import SourceColumns

_PICTURES = [picture(i) for i in range(3)]
_TAKEOUT = [json.dumps({"title": name, "description": text, "imageViews": "3"}) for name, text in PAIRS]


def _chat(*said: str) -> list[dict[str, str]]:
    return [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(said)]


_CHATS: list[dict[str, Any]] = [{"image": name, "conversations": _chat("Describe it.", text)} for name, text in PAIRS]
_ALONE: list[dict[str, Any]] = [{"id": 9, "conversations": _chat("Hello", "Good morning")}]
_LONG = [{"image": name, "conversations": _chat("Describe it.", text, "Its colour?", "red")} for name, text in PAIRS]


def _within(name: str, text: str) -> dict[str, Any]:
    asked = [{"type": "image", "image": name}, {"type": "text", "text": "Describe it."}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]}


def _with_table(folder: Path) -> None:
    """Write a tar of pictures, and a table of captions beside it."""
    members_of(list(zip(NAMES, _PICTURES, strict=True)), "images.tar")(folder)
    (folder / "metadata.jsonl").write_text(lines(rows_of()))


_ROCO = [f"images/ROCO_{i}.png" for i in range(3)]
_HUB = {"__key__": ["0", "1", "2"], "__url__": ["hf://sets/a/0.tar"] * 3, "png": structs(), "txt": list(TEXTS)}
_PAIRS_OF_NAMES = "".join(f"{a}\t{b}#2\t0.33\t1\t2\n" for a in NAMES for b in NAMES)
_CONCEPTS = [{"name": "a", "path": "/sets/a", "text": {"prompt_source": "sample"}, "image": {"enable_crop": True}}]
_SIZES = {f"/sets/a/{name}": {"original_size": [40, 40], "aspect_ratio": 1.0} for name in NAMES}

FURTHER: tuple[Layout, ...] = (
    Layout("Google Takeout", files_beside(each("{}.png.json", _TAKEOUT))),
    Layout("Google Takeout since 2024", files_beside(each("{}.png.supplemental-metadata.json", _TAKEOUT))),
    Layout("Google Takeout, long names", files_beside(each("{}.png.suppl.json", _TAKEOUT))),
    Layout("blank texts beside JSON", files_beside(
        {**each("{}.txt", ("", " ", "\n")), **each("{}.json", [json.dumps({"caption": text}) for text in TEXTS])})),
    Layout("chats: JSON, the first one without a picture", files_beside({"mix.json": json.dumps(_ALONE + _CHATS)}),
           rows=4),
    Layout("chats: JSON lines, the first one without a picture", files_beside({"mix.jsonl": lines(_ALONE + _CHATS)}),
           rows=4),
    Layout("chats: later answers are about details", files_beside({"mix.json": json.dumps(_LONG)})),
    Layout("chats: pictures within messages, the column named", files_beside(
        {"t.jsonl": lines([_within(*pair) for pair in PAIRS])}),
        columns=SourceColumns(picture="messages.content.image")),
    Layout("DOCCI: .jsonlines", files_beside({"docci.jsonlines": lines(
        [{"split": "train", "image_file": name, "description": text} for name, text in PAIRS])}, inside("images"))),
    Layout("a table called .tab", files_beside({"labels.tab": separated(rows_of("image", "caption"), "\t")})),
    Layout("ROCO: names without ending in a list", files_beside(
        {"captions.txt": "".join(f"ROCO_{i}\t{text}\n" for i, text in enumerate(TEXTS))}, _ROCO)),
    Layout("COCO-CN: names without ending, numbered", files_beside(
        {"imageid.human-written-caption.txt": "".join(f"COCO_{i}#0\t{text}\n" for i, text in enumerate(TEXTS))},
        [f"val2014/COCO_{i}.png" for i in range(3)])),
    Layout("Flickr8k: judgements beside its captions", files_beside({
        "Flickr8k.token.txt": "".join(f"{name}#{j}\t{text} {j}\n" for name, text in PAIRS for j in range(5)),
        "ExpertAnnotations.txt": _PAIRS_OF_NAMES,
        "CrowdFlowerAnnotations.txt": _PAIRS_OF_NAMES}, inside("Flicker8k_Dataset")), rows=5, captions=15),
    Layout("OneTrainer: concepts beside captions", files_beside({**each("{}.txt"), "c.json": json.dumps(_CONCEPTS)}),
           rows=4),
    Layout("SimpleTuner: sizes by path beside captions", files_beside(
        {**each("{}.txt"), "aspect_ratio_bucket_metadata_a.json": json.dumps(_SIZES)})),
    Layout("MJHQ: prompts by hash, folders by category", files_beside({"meta_data.json": json.dumps(
        {str(i): {"category": "animals", "prompt": text} for i, text in enumerate(TEXTS)})}, inside("animals"))),
    Layout("PixArt: data_info.json", files_beside({"InternData/data_info.json": json.dumps(
        [{"height": 40, "width": 40, "ratio": 1, "path": name, "prompt": text} for name, text in PAIRS])},
        inside("InternImgs"))),
    Layout("DCI: a JSON document per picture", files_beside(
        {f"complete/{i}.json": json.dumps({"image": name, "short_caption": text, "mask_data": {"0": {"label": "x"}}})
         for i, (name, text) in enumerate(PAIRS)}, inside("photos"))),
    Layout("NWPU: sentences in numbered columns by class", files_beside({"dataset_nwpu.json": json.dumps(
        {name: [{"filename": name, "raw": text, "raw_1": f"{text} again"}] for name, text in PAIRS})}), captions=6),
    Layout("hub: a shard as Parquet", parquet(_HUB)),
    Layout("hub: several pictures in a row", parquet({"images": [structs()[:2]], "texts": [list(TEXTS[:2])]}),
           rows=1, kept=0, captions=0),
    Layout("JSON lines with several pictures in a row", files_beside(
        {"train.jsonl": lines([{"images": list(NAMES[:2]), "text": "two"}])}), rows=4, kept=0, captions=0),
    Layout("tar: pictures and captions in folders", members_of(
        [(f"images/{i}.png", data) for i, data in enumerate(_PICTURES)]
        + [(f"captions/{i}.txt", text.encode()) for i, text in enumerate(TEXTS)])),
    Layout("tar: a folder per picture", members_of(
        [part for i, text in enumerate(TEXTS)
         for part in ((f"{i}/image.png", _PICTURES[i]), (f"{i}/caption.txt", text.encode()))])),
    Layout("tar: captions with a name of their own, compressed", members_of(
        [part for i, text in enumerate(TEXTS)
         for part in ((f"{i}.png", _PICTURES[i]), (f"{i}_caption.txt", text.encode()))], "0.tar.gz", "w:gz")),
    Layout("tar: pictures, and a table beside it", _with_table, rows=6, kept=0, captions=0),
)  # fmt: skip
"""Layouts of photo services, trainers, chats and packed folders."""
