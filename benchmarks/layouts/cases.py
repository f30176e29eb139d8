"""All layouts, and what becomes of each: opened, measured and judged as a data set would be, without a cluster.

The sum must be right: rows that were read and rows that are named as not read are all rows that lie there.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from benchmarks.layouts.writers import (
    NAMES,
    PAIRS,
    TEXTS,
    arrow,
    downloader_files,
    downloader_parquet,
    each,
    files_beside,
    formats,
    inside,
    lines,
    many_forms,
    metadata_parquet,
    parquet,
    picture,
    pictures,
    rows_of,
    separated,
    shard,
    structs,
)
from infinity.data.curation.decisions import decide
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import FilterConfig
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.opening import open_source
from infinity.data.sources.samples import SourceError


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to lay out captioned pictures.

    Attributes:
        make: Function that writes it into an empty folder.
        kept: Rows that must be kept.
        source: Name of the file that is the source; empty for the folder.
        captions: Captions of all kept rows together.
        refused: Part of the error where the layout is refused; empty where it is read.
        columns: Names of columns that a user has to give.
    """

    name: str
    make: Callable[[Path], None]
    rows: int = 3
    kept: int = 3
    source: str = ""
    captions: int = 3
    refused: str = ""
    columns: SourceColumns = field(default_factory=SourceColumns)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutResult:
    """What became of a layout.

    Attributes:
        captions: Captions of these rows.
        left_out: Number of rows by the reason why they are not kept.
        not_read: What is named as not read, with its number.
        error: Error if the source was refused, else empty.
    """

    read: int = 0
    kept: int = 0
    captions: int = 0
    left_out: dict[str, int]
    not_read: dict[str, int]
    error: str = ""

    def is_as_expected(self, layout: Layout) -> bool:
        """Return whether the layout was refused or read as it should, and no row was lost."""
        if layout.refused:
            return layout.refused in self.error
        lost = layout.rows - self.read - sum(self.not_read.values())
        return not lost and (self.kept, self.captions) == (layout.kept, layout.captions)

    @property
    def told(self) -> str:
        """The outcome for people."""
        if self.error:
            return f"refused: {self.error.split('; expected')[0][:150]}"
        parts = [f"{self.kept} kept"]
        parts += [f"{self.captions} captions"] if self.captions != self.kept else []
        parts += [f"{number} {reason}" for reason, number in {**self.left_out, **self.not_read}.items()]
        return ", ".join(parts)


def outcome(folder: Path, layout: Layout) -> LayoutResult:
    """Open, measure and judge what lies in a folder."""
    try:
        source = open_source(str(folder / layout.source), columns=layout.columns)
        facts = pa.concat_tables([measure_slice(piece, 10**7).facts for piece in source.slices])
    except SourceError as error:
        return LayoutResult(
            error=str(error).replace(f"{folder}/", "").replace(str(folder), "."), left_out={}, not_read={}
        )
    decisions = decide(facts, FilterConfig())
    left_out = {f"unreadable_{reason}": number for reason, number in decisions.tally.unreadable.items()}
    further = [len(json.loads(text)) if text else 0 for text in decisions.kept["further"].to_pylist()]
    return LayoutResult(
        read=facts.num_rows,
        kept=decisions.kept.num_rows,
        captions=decisions.kept.num_rows + sum(further),
        left_out=left_out | decisions.tally.dropped,
        not_read={each.why: each.number for each in source.not_read},
    )


_IMAGES = {"image": structs(), "text": list(TEXTS)}
_BYTES = [picture(i) for i in range(3)]
_LISTS = pa.array([[{"raw": text}, {"raw": text + " again"}] for text in TEXTS])

_ACCENTS = ("é.png", "ü.png", "한.png")
_FIVE = [(name, text, j) for name, text in PAIRS for j in range(5)]
_FLICKR30K = [f"{name}| {j}| {text}, {j} ." for name, text, j in _FIVE]
_COCO = {
    "info": {}, "licenses": [],
    "images": [{"id": 10 + i, "file_name": name, "height": 40, "width": 40} for i, name in enumerate(NAMES)],
}  # fmt: skip
_COCO_NOTES = [{"id": 5 * i + j, "image_id": 10 + i, "caption": f"{TEXTS[i]} {j}"} for j in range(5) for i in range(3)]
_COCO_BOXES = [{"id": 1, "image_id": 10, "bbox": [0, 0, 1, 1], "category_id": 1}]
_KARPATHY = {"dataset": "coco", "images": [
    {"filename": name, "filepath": "val2014", "sentids": [i], "sentences": [{"raw": TEXTS[i], "tokens": ["a"]}] * 2}
    for i, name in enumerate(NAMES)]}  # fmt: skip
_CONVERSATIONS = [
    {"id": i, "image": f"images/{name}",
     "conversations": [{"from": "human", "value": "<image> Describe it."}, {"from": "gpt", "value": TEXTS[i]}]}
    for i, name in enumerate(NAMES)]  # fmt: skip

LAYOUTS: tuple[Layout, ...] = (
    Layout("metadata.jsonl beside pictures", files_beside({"metadata.jsonl": lines(rows_of())})),
    Layout("metadata.csv beside pictures", files_beside({"metadata.csv": separated(rows_of())})),
    Layout("metadata.parquet beside pictures", metadata_parquet),
    Layout("JSON lines of another name", files_beside({"train.jsonl": lines(rows_of("image", "prompt"))})),
    Layout("JSON lines called .ndjson", files_beside({"train.ndjson": lines(rows_of("img", "caption"))})),
    Layout("JSON lines called .json", files_beside({"train.json": lines(rows_of("image", "caption"))})),
    Layout(
        "JSON lines of the reference",
        files_beside({"1.000_3.jsonl": lines(rows_of("image_path", "long_caption"))}),
        source="1.000_3.jsonl",
    ),
    Layout("CSV of another name", files_beside({"labels.csv": separated(rows_of("filename", "description"))})),
    Layout("TSV", files_beside({"labels.tsv": separated(rows_of("image", "caption"), "\t")})),
    Layout("CSV with semicolons", files_beside({"labels.csv": separated(rows_of("image", "caption"), ";")})),
    Layout("CSV without header", files_beside({"labels.csv": "".join(f"{n},{t}\n" for n, t in PAIRS)})),
    Layout("CSV in UTF-16", files_beside({"metadata.csv": separated(rows_of()).encode("utf-16")})),
    Layout("JSON lines in UTF-16", files_beside({"metadata.jsonl": lines(rows_of()).encode("utf-16")})),
    Layout(
        "CSV with byte order mark and CRLF",
        files_beside({"metadata.csv": b"\xef\xbb\xbf" + separated(rows_of()).replace("\n", "\r\n").encode()}),
    ),
    Layout(
        "columns that must be named",
        files_beside({"metadata.jsonl": lines(rows_of("picture_file", "blurb"))}),
        columns=SourceColumns(picture="picture_file", caption="blurb"),
    ),
    Layout(
        "columns that nobody guesses",
        files_beside({"metadata.jsonl": lines(rows_of("picture_file", "blurb"))}),
        rows=6,
        kept=0,
        captions=0,
    ),
    Layout(
        "table without a column for pictures",
        files_beside({"labels.csv": separated(rows_of("picture_file", "blurb"))}),
        refused="labels.csv: expected columns",
    ),
    Layout("JSON array", files_beside({"data.json": json.dumps(rows_of("image", "caption"))})),
    Layout("JSON array under a key", files_beside(
        {"data.json": json.dumps({"version": 1, "data": rows_of("image", "caption")})})),
    Layout("JSON rows of a hub's viewer", files_beside({"rows.json": json.dumps(
        {"rows": [{"row_idx": i, "row": row} for i, row in enumerate(rows_of())]})})),
    Layout("JSON object by name", files_beside({"captions.json": json.dumps(dict(PAIRS))})),
    Layout(
        "JSON object by name, lists",
        files_beside({"captions.json": json.dumps({n: [t, t + " too"] for n, t in PAIRS})}),
        captions=6,
    ),
    Layout("kohya's meta_cap.json", files_beside({"meta_cap.json": json.dumps(
        {name: {"caption": text, "tags": "x"} for name, text in zip(inside("img"), TEXTS, strict=True)})},
        inside("img"))),
    Layout("ShareGPT4V's conversations", files_beside({"share.json": json.dumps(_CONVERSATIONS)}, inside("images"))),
    Layout("COCO captions", files_beside({
        "annotations/captions_train2017.json": json.dumps(_COCO | {"annotations": _COCO_NOTES}),
        "annotations/instances_train2017.json": json.dumps(_COCO | {"annotations": _COCO_BOXES}),
    }, inside("train2017")), rows=4, captions=15),
    Layout("Karpathy's COCO", files_beside({"dataset_coco.json": json.dumps(_KARPATHY)}, inside("val2014"))),
    Layout("Flickr30k results.csv", files_beside({"results.csv": "\n".join(
        ["image_name| comment_number| comment", *_FLICKR30K[:-1], _FLICKR30K[-1].rpartition("| ")[0]]) + "\n"},
        inside("flickr30k_images")), rows=4, captions=14),
    Layout("Flickr8k captions.txt", files_beside({"captions.txt": "image,caption\n" + "".join(
        f'{name},"{text}, {j}"\n' if j % 2 else f"{name},{text}, {j}\n" for name, text, j in _FIVE)}, inside("Images")),
        captions=15),
    Layout("Flickr8k.token.txt", files_beside({"Flickr8k.token.txt": "".join(
        f"{name}#{j}\t{text} {j}\n" for name, text, j in _FIVE)}, inside("Flicker8k_Dataset")), captions=15),
    Layout("captions in .txt files", files_beside(each("{}.txt"))),
    Layout("captions in .caption files", files_beside(each("{}.caption"))),
    Layout("captions in .json files", files_beside(each("{}.json", [json.dumps({"caption": t}) for t in TEXTS]))),
    Layout("captions in .png.txt files", files_beside(each("{}.png.txt"))),
    Layout(
        "two caption files per picture",
        files_beside({f"{i}.{e}": t + e for i, t in enumerate(TEXTS) for e in ("txt", "caption")}),
        captions=6,
    ),
    Layout("some pictures without a caption", files_beside({"0.txt": TEXTS[0]}), kept=1, captions=1),
    Layout("texts without a picture", files_beside({**each("{}.txt"), "9.txt": "x"}), rows=4),
    Layout("kohya's folders", files_beside(each("10_cat/{}.txt"), inside("10_cat"))),
    Layout("pictures without any caption", lambda f: pictures(f, NAMES), refused="no captions at all"),
    Layout(
        "a list of captions per row",
        files_beside({"metadata.jsonl": lines([{"file_name": n, "text": [t, t + " too"]} for n, t in PAIRS])}),
        captions=6,
    ),
    Layout("a row per caption", files_beside({"metadata.jsonl": lines(
        [{"file_name": name, "text": f"{text} {j}"} for j in range(2) for name, text in PAIRS]
    )}), rows=6, captions=6),
    Layout("short and long captions", files_beside({"metadata.jsonl": lines(
        [{**row, "long_caption": row["text"] + ", at length"} for row in rows_of()])})),
    Layout("webdataset", shard("0.tar")),
    Layout("webdataset, gzip", shard("0.tar.gz", "w:gz")),
    Layout("webdataset, xz", shard("0.tar.xz", "w:xz")),
    Layout("webdataset, bzip2", shard("0.tar.bz2", "w:bz2")),
    Layout("webdataset, unsorted", shard("0.tar", is_sorted=False)),
    Layout("webdataset with masks", shard("0.tar", extra=[(f"{i:05d}.mask.png", picture(20 + i)) for i in range(3)])),
    Layout("webdataset with hidden members", shard("0.tar", extra=[("._00000.png", b"resource fork")])),
    Layout("webdataset with a broken sample", shard("0.tar", extra=[("zz.txt", b"no picture")]), rows=4),
    Layout("Parquet, struct of a hub", parquet(_IMAGES)),
    Layout("Parquet, plain bytes", parquet({"image": _BYTES, "caption": TEXTS})),
    Layout("Parquet, list of structs", parquet({"images": [[each] for each in structs()], "text": TEXTS})),
    Layout("Parquet, dictionary", parquet({"image": _BYTES, "text": pa.array(TEXTS).dictionary_encode()})),
    Layout(
        "Parquet, views",
        parquet({"image": pa.array(_BYTES, pa.binary_view()), "text": pa.array(TEXTS, pa.string_view())}),
    ),
    Layout("Parquet, sentences as structs", parquet({"image": _BYTES, "sentences": _LISTS}), captions=6),
    Layout("img2dataset, parquet", downloader_parquet, rows=4),
    Layout("img2dataset, files", downloader_files, rows=5),
    Layout(
        "JSON lines with images in a list",
        files_beside({"train.jsonl": lines([{"images": [n], "text": t} for n, t in PAIRS])}),
    ),
    Layout("folders by class and one CSV of names alone", files_beside(
        {"captions.csv": separated(rows_of("image", "caption"))},
        [f"class{i}/{name}" for i, name in enumerate(NAMES)])),
    Layout("save_to_disk, stream", arrow("stream", _IMAGES), rows=5),
    Layout("save_to_disk, file", arrow("file", _IMAGES), rows=5),
    Layout("save_to_disk, dictionary of splits", arrow("stream", _IMAGES, "train"), rows=5),
    Layout(
        "Arrow with dictionaries",
        arrow("stream", {"image": _BYTES, "text": pa.array(TEXTS).dictionary_encode()}),
        rows=5,
    ),
    Layout("names from Windows", files_beside({"metadata.jsonl": lines(rows_of(
        names=[f"images\\{name}" for name in NAMES]))}, inside("images"))),
    Layout("names in other case", files_beside({"metadata.jsonl": lines(rows_of(names=["0.PNG", "1.Png", "2.png"]))})),
    Layout("names with composed accents", files_beside({"metadata.jsonl": lines(rows_of(names=_ACCENTS))},
           [unicodedata.normalize("NFD", name) for name in _ACCENTS])),
    Layout("names without ending", files_beside(
        {"captions.csv": separated(rows_of("image", "caption", ["0", "1", "2"]))})),
    Layout("names that lead out", files_beside({"tables/metadata.jsonl": lines(
        [{"file_name": name, "text": "x y"} for name in ("../0.png", "../tables/../1.png", "../../etc/passwd")])}),
        rows=4, kept=2, captions=2),
    Layout("AVIF, BMP, TIFF, JPEG 2000", formats("avif", "bmp", "tif", "jp2"), rows=4, kept=4, captions=4),
    Layout("several forms in one folder", many_forms, rows=10, kept=8, captions=8),
    Layout("a compressed table", files_beside({"metadata.jsonl.gz": gzip.compress(lines(rows_of()).encode())})),
    Layout("a hidden picture", files_beside({**each("{}.txt"), "._0.png": b"x"}), rows=4),
    Layout("an empty folder", lambda f: None, rows=0, refused="found no files"),
)  # fmt: skip
