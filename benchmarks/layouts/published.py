"""Layouts of published data sets: addresses with and without what was made of them, narratives, classes, odd shards."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import (
    NAMES,
    PAIRS,
    TEXTS,
    files_beside,
    lines,
    members_of,
    parquet,
    picture,
    pictures,
    rows_of,
)
from infinity.data.sources.columns import SourceColumns

_ADDRESSES = tuple(f"https://example.com/{i}.jpg" for i in range(3))
_NO_CAPTIONS = "no captions at all"


def _downloaded(
    tables: Mapping[str, Mapping[str, Sequence[Any]]], *, stats: bool = True, addresses: bool = True
) -> Callable[[Path], None]:
    """Return a function that writes a shard as downloaders do, and tables of addresses anywhere in the folder."""

    def make(folder: Path) -> None:
        (folder / "shards").mkdir()
        members = []
        for i, text in enumerate(TEXTS):
            about = {"key": f"{i:09d}", "status": "success", "caption": text, "sha256": "0" * 64}
            about |= {"url": _ADDRESSES[i]} if addresses else {}
            content = (picture(i, "JPEG"), text.encode(), json.dumps(about).encode())
            members += [(f"{i:09d}.{e}", data) for e, data in zip(("jpg", "txt", "json"), content, strict=True)]
        members_of(members)(folder / "shards")
        for name, columns in tables.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(dict(columns)), folder / name)
        if stats:
            (folder / "shards/0_stats.json").write_text(json.dumps({"count": 3, "successes": 3, "status_dict": {}}))

    return make


_SIX: dict[str, Sequence[Any]] = {"uid": [f"{i:032x}" for i in range(6)], 
    "url": [*_ADDRESSES, *(f"{a}?" for a in _ADDRESSES)],
        "text": [*TEXTS, *TEXTS]}  # fmt: skip
_DATACOMP: dict[str, Sequence[Any]] = {
    **_SIX,
    "clip_b32_similarity_score": [0.3] * 6,
    "face_bboxes": [[]] * 6,
    "sha256": ["0" * 64] * 6,
}
_LAION: dict[str, Sequence[Any]] = {
    "SAMPLE_ID": [1, 2, 3], "URL": _ADDRESSES, "TEXT": TEXTS, "HEIGHT": [9] * 3, "LICENSE": ["?"] * 3,
          "NSFW": ["UNLIKELY"] * 3, "similarity": [0.3] * 3}  # fmt: skip
_COYO = {
    "id": [1, 2, 3],
    "url": _ADDRESSES,
    "text": TEXTS,
    "image_phash": ["0"] * 3,
    "aesthetic_score_laion_v2": [5.0] * 3,
}
_REDCAPS = {"info": {"url": "https://example.com"}, "annotations": [
    {"image_id": f"x{i}", "author": "a", "url": url, "raw_caption": text, "caption": text, "subreddit": "cats"}
    for i, (url, text) in enumerate(zip(_ADDRESSES, TEXTS, strict=True))]}  # fmt: skip
_SBU = {"image_urls": list(_ADDRESSES), "user_ids": ["a"] * 3, "captions": list(TEXTS)}
_NARRATIVES = lines([
    {"dataset_id": "open_images_train", "image_id": f"{i:016x}", "annotator_id": 1, "caption": text,
     "timed_caption": [{"utterance": text, "start_time": 0.0, "end_time": 1.0}],
     "traces": [[{"x": 0.1, "y": 0.2, "t": 0.0}]], "voice_recording": f"{i}.ogg"}
    for i, text in enumerate(TEXTS)])  # fmt: skip
_REGIONS = [
    {"id": i, "regions": [{"region_id": i, "image_id": i, "phrase": "an ear", "x": 1, "y": 2}]} for i in range(3)
]
_IMAGE_DATA = [{"image_id": i, "url": f"https://example.com/{i}.jpg", "width": 40, "height": 40} for i in range(3)]
_IDS = tuple(f"val2014/COCO_val2014_{i + 7:012d}.png" for i in range(3))
_JOURNEY = lines([
    {"img_path": f"./00{i}/{i}.png", "prompt": text, "Task2": {"Caption": text}, "Task1": {}}
    for i, text in enumerate(TEXTS)])  # fmt: skip
_TEN = {f"celeba-caption/{i}.txt": "\n".join(f"{text} {j}" for j in range(3)) for i, text in enumerate(TEXTS)}
_EDITS = lines([
    {"input_file_name": name, "edited_file_name": name, "edit_prompt": text}
    for name, text in PAIRS])  # fmt: skip
_HF_INFO = json.dumps({"default": {"description": "", "features": {"image": {"_type": "Image"}, "text": {
    "dtype": "string"}}, "splits": {"train": {"name": "train", "num_examples": 3}}}})  # fmt: skip
_CLASSES = {"info": {"features": {"image": {"_type": "Image"},
                                  "label": {"names": ["cat", "dog", "house"], "_type": "ClassLabel"}}}}  # fmt: skip


def _labelled(folder: Path) -> None:
    """Write Parquet of pictures with numbers of classes, whose names stand in the file's metadata."""
    content = pa.table({"image": [{"bytes": picture(i), "path": f"{i}.png"} for i in range(3)], "label": [0, 1, 2]})
    kept = content.replace_schema_metadata({"huggingface": json.dumps(_CLASSES)})
    pq.write_table(kept, folder / "train.parquet")


def _cached(folder: Path) -> None:
    """Write what save_to_disk leaves, and a cache of a filter beside it that holds row numbers alone."""
    from benchmarks.layouts.writers import arrow, structs

    arrow("stream", {"image": structs(), "text": list(TEXTS)})(folder)
    numbers = pa.table({"indices": pa.array([0, 1], pa.uint64())})
    with pa.ipc.new_stream(folder / "cache-0123abcd.arrow", numbers.schema) as writer:
        writer.write_table(numbers)


def _parts(folder: Path) -> None:
    """Write DiffusionDB's pictures in parts, and its one table."""
    pictures(folder, [f"images/part-00000{i}/{i}.png" for i in range(3)])
    columns = {"image_name": list(NAMES), "prompt": list(TEXTS), "part_id": [0, 1, 2], "seed": [1] * 3}
    parquet(columns, "metadata.parquet")(folder)


def _database(folder: Path) -> None:
    """Write a database of SQLite beside pictures."""
    pictures(folder, NAMES)
    with sqlite3.connect(folder / "tags.sqlite") as base:
        base.execute("create table pictures (file_name text, caption text)")
    base.close()


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with tarfile.open(folder / "0.tar", "w", format=form) as tar:
            for info, data in members:
                info.size = len(data) if info.type == tarfile.REGTYPE else 0
                tar.addfile(info, io.BytesIO(data))

    return make


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


_LONG = "very-long-" * 14
_PAIRS = [(f"{i}", picture(i), text.encode()) for i, text in enumerate(TEXTS)]
_NAMED = [
    (_member(f"{_LONG}/é{n}.{e}"), data) for n, *both in _PAIRS for e, data in zip(("png", "txt"), both, strict=True)
]
_LINKED = [(_member(f"{n}.{e}"), data) for n, *both in _PAIRS for e, data in zip(("png", "txt"), both, strict=True)]
_LINKED += [(_member("copy.png", tarfile.LNKTYPE, "0.png"), b""), (_member("copy.txt"), b"a copy")]


def _mask() -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(40))).convert("L").save(buffer, format="PNG")
    return buffer.getvalue()


_FOLDERS = [part for i, text in enumerate(TEXTS) for part in (
    (f"./v1.0/class.{i}/{i:04d}.PNG", picture(i)), (f"./v1.0/class.{i}/{i:04d}.TXT", text.encode()))]  # fmt: skip
_WITH_MASKS = [part for i, text in enumerate(TEXTS) for part in (
    (f"{i}.jpg", picture(i, "JPEG")), (f"{i}.png", _mask()), (f"{i}.txt", text.encode()))]  # fmt: skip
_KEYS = [part for i, text in enumerate(TEXTS) for part in (
    (f"{i}.__key__", f"{i}".encode()), (f"{i}.__url__", b"x.tar"), (f"{i}.png", picture(i)),
    (f"{i}.caption.json", json.dumps({"caption": text}).encode()))]  # fmt: skip
_PICKLED = [part for i, text in enumerate(TEXTS) for part in (
    (f"{i}.png", picture(i)), (f"{i}.txt", text.encode()), (f"{i}.features.pkl", b"cos\nsystem\n."))]  # fmt: skip

PUBLISHED: tuple[Layout, ...] = (
    Layout("DataComp: metadata beside shards", _downloaded({"metadata/0a1b.parquet": _DATACOMP}), rows=5),
    Layout("DataComp: metadata beside shards without figures", _downloaded({"metadata/0a1b.parquet": _DATACOMP},
                                                                          stats=False), rows=4),
    Layout("img2dataset: its list beside its shards", _downloaded({"laion.parquet": _LAION, "shards/0.parquet": _SIX}),
           rows=6),
    Layout("addresses beside shards of other pictures", _downloaded({"more.parquet": _SIX}, stats=False,
                                                                    addresses=False), rows=9),
    Layout("LAION's table", parquet(_LAION), kept=0, captions=0),
    Layout("COYO's table", parquet(_COYO), kept=0, captions=0),
    Layout("CC3M: caption and address", files_beside({"Train_GCC-training.tsv": "".join(
        f"{text}\t{url}\n" for text, url in zip(TEXTS, _ADDRESSES, strict=True))}, ()), kept=0, captions=0),
    Layout("CC12M: address and caption", files_beside({"cc12m.tsv": "".join(
        f"{url}\t{text}\n" for text, url in zip(TEXTS, _ADDRESSES, strict=True))}, ()), kept=0, captions=0),
    Layout("RedCaps", files_beside({"cats_2020.json": json.dumps(_REDCAPS)}, ()), kept=0, captions=0),
    Layout("SBU", files_beside({"sbu-captions-all.json": json.dumps(_SBU)}, ()), kept=0, captions=0),
    Layout("addresses without captions", files_beside({"urls.jsonl": lines([{"url": a} for a in _ADDRESSES])}, ()),
           refused="urls.jsonl: no captions at all"),
    Layout("Visual Genome: regions and addresses", files_beside({
        "region_descriptions.json": json.dumps(_REGIONS), "image_data.json": json.dumps(_IMAGE_DATA)},
        [f"VG_100K/{i}.jpg" for i in range(3)]), rows=5, refused=_NO_CAPTIONS),
    Layout("OpenImages: localized narratives", files_beside({"open_images_train_v6_captions.jsonl": _NARRATIVES},
           [f"train/{i:016x}.jpg" for i in range(3)])),
    Layout("COCO: results by number", files_beside({"captions_val2014_results.json": json.dumps(
        [{"image_id": i + 7, "caption": text} for i, text in enumerate(TEXTS)])}, _IDS)),
    Layout("nocaps", files_beside({"nocaps_val_4500_captions.json": json.dumps({
        "licenses": [], "info": {}, "images": [
            {"id": i, "file_name": name, "open_images_id": "x", "coco_url": _ADDRESSES[i]}
            for i, name in enumerate(NAMES)],
        "annotations": [{"image_id": i, "id": i, "caption": text} for i, text in enumerate(TEXTS)]})},
        [f"images/{name}" for name in NAMES])),
    Layout("JourneyDB", files_beside({"data/train/train_anno.jsonl": _JOURNEY},
                                     [f"data/train/imgs/00{i}/{i}.png" for i in range(3)])),
    Layout("DiffusionDB: one table for all parts", _parts),
    Layout("CelebA-HQ: a folder of texts with several lines", files_beside(
        _TEN, [f"CelebA-HQ-img/{i}.jpg" for i in range(3)])),
    Layout("InstructPix2Pix: two pictures in a row", files_beside({"metadata.jsonl": _EDITS}),
           columns=SourceColumns(picture="edited_file_name", caption="edit_prompt")),
    Layout("hub: one column that ends with _file_name", files_beside({"metadata.jsonl": lines(
        rows_of("photo_file_name"))})),
    Layout("hub: a list of one name", files_beside({"metadata.jsonl": lines(
        [{"file_names": [name], "text": text} for name, text in PAIRS])})),
    Layout("hub: splits, card and infos", files_beside({
        "train/metadata.csv": "file_name,text\n0.png,a red cat\n1.png,two dogs\n",
        "test/metadata.csv": "file_name,text\n2.png,a house by the sea\n", "dataset_infos.json": _HF_INFO,
        "README.md": "---\nlicense: mit\n---\n"}, ("train/0.png", "train/1.png", "test/2.png")), rows=5),
    Layout("hub: pictures by class", files_beside({}, ("cat/0.png", "dog/1.png", "house/2.png")), refused=_NO_CAPTIONS),
    Layout("hub: Parquet of classes", _labelled, refused="name the columns"),
    Layout("hub: Parquet of classes, the column named", _labelled, columns=SourceColumns(caption="label")),
    Layout("hub: a cache of row numbers", _cached, rows=6),
    Layout("SQLite beside pictures", _database, rows=4, refused="save its table as CSV"),
    Layout("webdataset in folders with dots and capitals", members_of(_FOLDERS)),
    Layout("webdataset with masks of the same name", members_of(_WITH_MASKS)),
    Layout("webdataset with keys as members", members_of(_KEYS)),
    Layout("webdataset with pickles", members_of(_PICKLED), kept=0, captions=0),
    Layout("webdataset with long pax names", _tar(_NAMED)),
    Layout("webdataset with long GNU names", _tar(_NAMED, tarfile.GNU_FORMAT)),
    Layout("webdataset with hard links", _tar(_LINKED), rows=4),
)  # fmt: skip
"""Layouts of data sets that were published."""
