"""Layouts of finetuning tools and collectors: tags, masks, captions in names, packed tables, texts of other systems."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.layouts.cases import Layout
from benchmarks.layouts.writers import NAMES, TEXTS, each, files_beside, lines, picture, pictures, rows_of, separated
from infinity.data.sources.columns import SourceColumns

_NO_CAPTIONS = "no captions at all"


def zstd(data: bytes) -> bytes:
    """Return data that is packed by Zstandard, in frames that do not tell their length."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def _packed(name: str, text: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return files_beside({name: pack(text.encode())})


def _each(form: str, texts: tuple[str, ...] = TEXTS, encoding: str = "utf-8") -> dict[str, bytes]:
    return {form.format(i): text.encode(encoding) for i, text in enumerate(texts)}


def _with_prompts(folder: Path) -> None:
    """Write pictures whose PNG texts hold what they were drawn from, as two programs write it."""
    for i, name in enumerate(NAMES):
        info = PngInfo()
        info.add_text("parameters", f"{TEXTS[i]}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 1")
        info.add_text("prompt", json.dumps({"6": {"class_type": "CLIPTextEncode", "inputs": {"text": TEXTS[i]}}}))
        Image.open(io.BytesIO(picture(i))).save(folder / name, pnginfo=info)


def _booru(i: int) -> dict[str, object]:
    tags = ["1girl", "solo", "blue eyes"]
    about = {"category": "danbooru", "id": i, "tags": tags, "tag_string": " ".join(tags), "rating": "g"}
    return {**about, "filename": "0123", "extension": "png", "file_url": f"https://example.com/{i}.png"}


_HYDRUS = {f"{i}.png.txt": "creator:somebody\nblue eyes\nlong hair\n" for i in range(3)}
_XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:description>a cat</dc:description></x:xmpmeta>'
_LINES, _CSV = lines(rows_of()), separated(rows_of())
_GALLERY = {f"{name}.json": json.dumps(_booru(i)) for i, name in enumerate(NAMES)}
_TEXT_FILES = each("{}.txt")
_NAMES_ALONE = tuple(f"{text}_{i}.png" for i, text in enumerate(TEXTS))
_GERMAN = ("eine schöne Katze", "zwei müde Hunde", "ein Häuschen am Meer")
_JAPANESE, _CHINESE = ("赤い猫", "雪の中の犬", "海辺の家"), ("一只红色的猫", "雪地里的两只狗", "海边的房子")

TRAINERS: tuple[Layout, ...] = (
    Layout("JSON lines, gzip", _packed("metadata.jsonl.gz", _LINES, gzip.compress)),
    Layout("JSON lines, bzip2", _packed("train.jsonl.bz2", _LINES, bz2.compress)),
    Layout("JSON lines, xz", _packed("train.ndjson.xz", _LINES, lzma.compress)),
    Layout("JSON lines, zstd, itself the source", _packed("train.jsonl.zst", _LINES, zstd), source="train.jsonl.zst"),
    Layout("CSV, zstd", _packed("train.csv.zst", _CSV, zstd)),
    Layout("CSV, gzip, in UTF-16", files_beside({"train.csv.gz": gzip.compress(_CSV.encode("utf-16"))})),
    Layout("TSV, gzip in two parts", files_beside({"train.tsv.gz": gzip.compress(
        separated(rows_of(), "\t")[:30].encode()) + gzip.compress(separated(rows_of(), "\t")[30:].encode())})),
    Layout("JSON array, gzip", _packed("data.json.gz", json.dumps(rows_of()), gzip.compress)),
    Layout("JSON lines, gzip that is cut off", files_beside({"train.jsonl.gz": gzip.compress(_LINES.encode())[:-12]}),
           refused="train.jsonl.gz"),
    Layout("JSON lines, gzip that is cut off, beside captions", files_beside(
        {"train.jsonl.gz": gzip.compress(_LINES.encode())[:-12], **_TEXT_FILES}), rows=4),
    Layout("a packed table of something else", files_beside({"scores.csv.gz": gzip.compress(b"a,b\n1,2\n"),
                                                             **_TEXT_FILES}), rows=4),
    Layout("a packed list of addresses", files_beside({"list.jsonl.gz": gzip.compress(lines(
        [{"url": f"https://example.com/{i}.jpg", "caption": text} for i, text in enumerate(TEXTS)]).encode())}, ()),
        kept=0, captions=0),
    Layout("something packed that is no table", files_beside({"backup.sql.gz": gzip.compress(b"x"), **_TEXT_FILES}),
           rows=4),
    Layout("tags in .tags files", files_beside(_each("{}.tags"))),
    Layout("tags in .tags files beside captions", files_beside(
        {**_each("{}.tags", ("1girl, solo",) * 3), **_each("{}.txt")})),
    Layout("captions in .cap files", files_beside(_each("{}.cap"))),
    Layout("captions in .prompt files", files_beside(_each("{}.png.prompt"))),
    Layout("gallery-dl: JSON of tags beside pictures", files_beside(_GALLERY), kept=0, captions=0),
    Layout("gallery-dl: JSON of tags, the column named", files_beside(_GALLERY), columns=SourceColumns(caption="tags")),
    Layout("hydrus: a tag per line", files_beside(_HYDRUS)),
    Layout("OneTrainer: masks by name", files_beside({**_TEXT_FILES, **{f"{i}-masklabel.png": picture(30 + i)
                                                                       for i in range(3)}}), rows=6),
    Layout("ai-toolkit: controls of the same names", files_beside(
        {f"target/{i}.txt": text for i, text in enumerate(TEXTS)},
        [f"{part}/{name}" for part in ("control", "target") for name in NAMES]), rows=6),
    Layout("EveryDream: captions in names", lambda f: pictures(f, _NAMES_ALONE), refused=_NO_CAPTIONS),
    Layout("kohya: latents beside pictures", files_beside({**_TEXT_FILES, **{f"{i}.npz": b"PK" for i in range(3)},
                                                          "dataset.toml": "[general]\n"}), rows=7),
    Layout("XMP beside pictures", files_beside({f"{i}.xmp": _XMP for i in range(3)}), rows=6, refused=_NO_CAPTIONS),
    Layout("prompts in PNG texts", _with_prompts, refused=_NO_CAPTIONS),
    Layout("captions of CRLF lines", files_beside(_each("{}.txt", tuple(f"{t}\r\nby day\r\n" for t in TEXTS)))),
    Layout("captions in Windows-1252", files_beside(_each("{}.txt", _GERMAN, "cp1252")), kept=0, captions=0),
    Layout("captions in Shift-JIS", files_beside(_each("{}.txt", _JAPANESE, "shift_jis")), kept=0, captions=0),
    Layout("captions in GB18030", files_beside(_each("{}.txt", _CHINESE, "gb18030")), kept=0, captions=0),
    Layout("CSV in Windows-1252", files_beside({"t.csv": ("file_name,text\n" + "".join(
        f"{name},{text}\n" for name, text in zip(NAMES, _GERMAN, strict=True))).encode("cp1252")}), rows=6,
        kept=0, captions=0),
    Layout("JSON lines in Shift-JIS", files_beside({"t.jsonl": "".join(
        f'{{"file_name": "{name}", "text": "{text}"}}\n' for name, text in zip(NAMES, _JAPANESE, strict=True)
    ).encode("shift_jis")}), rows=6, kept=0, captions=0),
    Layout("7z and rar beside captions", files_beside({**_TEXT_FILES, "a.7z": b"7z", "b.part1.rar": b"Rar!"}), rows=5),
    Layout("LMDB alone", files_beside({"x.lmdb/data.mdb": b"x", "x.lmdb/lock.mdb": b"x"}, ()),
           refused="as webdataset shards"),
)  # fmt: skip
"""Layouts of tools."""
