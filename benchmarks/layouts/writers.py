"""Writers of small captioned sources in every layout that people have."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(seed: int, format: str = "PNG") -> bytes:
    """Return a small picture that differs from that of any other seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((40, 40), Image.Resampling.BILINEAR).save(buffer, format=format)
    return buffer.getvalue()


def pictures(folder: Path, names: Sequence[str]) -> None:
    """Write pictures of these names."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        format = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name.rpartition(".")[2].lower())
        (folder / name).write_bytes(picture(seed, format or name.rpartition(".")[2].upper()))


NAMES = ("0.png", "1.png", "2.png")
TEXTS = ("a red cat", "two dogs in the snow", "a house by the sea")


def table(name: str, text: str | bytes, names: Sequence[str] = NAMES) -> Callable[[Path], None]:
    """Return a function that writes pictures and one table."""

    def make(folder: Path) -> None:
        pictures(folder, names)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def rows_of(image: str = "file_name", text: str = "text", names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    return [{image: name, text: caption} for name, caption in zip(names, TEXTS, strict=True)]


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def separated(rows: Sequence[dict[str, Any]], mark: str = ",") -> str:
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]) + "\n"


def beside(names: Sequence[str], files: dict[str, str]) -> Callable[[Path], None]:
    """Return a function that writes pictures and caption files."""

    def make(folder: Path) -> None:
        pictures(folder, names)
        for name, text in files.items():
            (folder / name).write_text(text)

    return make


def shard(
    name: str, mode: str = "w", *, extra: Sequence[tuple[str, bytes]] = (), is_sorted: bool = True, first: int = 0
) -> Callable[[Path], None]:
    """Return a function that writes a webdataset shard of three samples, and further members."""

    def make(folder: Path) -> None:
        members = [(f"{i:05d}.png", picture(first + i)) for i in range(3)]
        members += [(f"{i:05d}.txt", text.encode()) for i, text in enumerate(TEXTS)]
        members += extra
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for member, data in sorted(members) if is_sorted else members:
                _add(tar, member, data)

    return make


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def parquet(columns: dict[str, Any], name: str = "train.parquet") -> Callable[[Path], None]:
    """Return a function that writes a Parquet file."""
    return lambda folder: pq.write_table(pa.table(columns), folder / name)


def arrow(kind: str, columns: dict[str, Any], folder_name: str = "") -> Callable[[Path], None]:
    """Return a function that writes an Arrow file as ``save_to_disk`` does, with its JSON files."""

    def make(folder: Path) -> None:
        place = folder / folder_name
        place.mkdir(parents=True, exist_ok=True)
        content = pa.table(columns)
        new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with new(place / "data-00000-of-00001.arrow", content.schema) as writer:
            writer.write_table(content, max_chunksize=2)
        (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (place / "dataset_info.json").write_text(json.dumps({"features": {}, "citation": ""}))

    return make


def structs() -> list[dict[str, Any]]:
    return [{"bytes": picture(i), "path": name} for i, name in enumerate(NAMES)]


def coco(folder: Path) -> None:
    """Write COCO's captions, with pictures in a folder beside the annotations."""
    pictures(folder, [f"train2017/{name}" for name in NAMES])
    images = [{"id": 10 + i, "file_name": name, "height": 40, "width": 40} for i, name in enumerate(NAMES)]
    notes = [{"id": 5 * i + j, "image_id": 10 + i, "caption": f"{TEXTS[i]} {j}"} for j in range(5) for i in range(3)]
    (folder / "annotations").mkdir()
    content = {"info": {}, "licenses": [], "images": images, "annotations": notes}
    (folder / "annotations/captions_train2017.json").write_text(json.dumps(content))
    boxes = [{"id": 1, "image_id": 10, "bbox": [0, 0, 1, 1], "category_id": 1}]
    (folder / "annotations/instances_train2017.json").write_text(json.dumps({**content, "annotations": boxes}))


def karpathy(folder: Path) -> None:
    """Write Karpathy's file for COCO."""
    pictures(folder, [f"val2014/{name}" for name in NAMES])
    images = [
        {"filename": name, "filepath": "val2014", "sentids": [i], "sentences": [{"raw": TEXTS[i], "tokens": ["a"]}] * 2}
        for i, name in enumerate(NAMES)
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))


def metadata_cap(folder: Path) -> None:
    """Write kohya's metadata file, whose keys are paths without ending."""
    pictures(folder, [f"img/{name}" for name in NAMES])
    content = {f"img/{name}": {"caption": text, "tags": "x"} for name, text in zip(NAMES, TEXTS, strict=True)}
    (folder / "meta_cap.json").write_text(json.dumps(content))


def flickr30k(folder: Path) -> None:
    """Write Flickr30k as it is shared: bars between cells, one line without its last cell."""
    pictures(folder, [f"flickr30k_images/{name}" for name in NAMES])
    rows = [f"{name}| {j}| {TEXTS[i]}, {j} ." for i, name in enumerate(NAMES) for j in range(5)]
    rows[-1] = rows[-1].rpartition("| ")[0]
    (folder / "results.csv").write_text("\n".join(["image_name| comment_number| comment", *rows]) + "\n")


def token(folder: Path) -> None:
    """Write Flickr8k's tokens."""
    pictures(folder, [f"Flicker8k_Dataset/{name}" for name in NAMES])
    rows = [f"{name}#{j}\t{TEXTS[i]} {j}" for i, name in enumerate(NAMES) for j in range(5)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(rows) + "\n")


def captions_txt(folder: Path) -> None:
    """Write Flickr8k's list with commas in captions."""
    pictures(folder, [f"Images/{name}" for name in NAMES])
    captions = [(name, f"{TEXTS[i]}, {j}", j % 2) for i, name in enumerate(NAMES) for j in range(5)]
    rows = [f'{name},"{text}"' if is_quoted else f"{name},{text}" for name, text, is_quoted in captions]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *rows]) + "\n")


def repeated_rows(folder: Path) -> None:
    """Write JSON lines with a row per caption, in any order."""
    pictures(folder, NAMES)
    rows = [{"file_name": name, "text": f"{TEXTS[i]} {j}"} for j in range(2) for i, name in enumerate(NAMES)]
    (folder / "metadata.jsonl").write_text(lines(rows))


def many_forms(folder: Path) -> None:
    """Write several forms into one folder."""
    pictures(folder, [*NAMES, "3.png", "4.png"])
    (folder / "metadata.jsonl").write_text(lines(rows_of()[:1]))
    (folder / "1.txt").write_text("beside")
    (folder / "more.csv").write_text("file_name,text\n2.png,of the csv\n")
    (folder / "array.json").write_text(json.dumps([{"image": "3.png", "caption": "of the array"}]))
    (folder / "README.md").write_text("about")
    pq.write_table(pa.table({"image": [picture(30)], "text": ["of parquet"]}), folder / "p.parquet")
    shard("0.tar", first=10)(folder)


def links_out(folder: Path) -> None:
    """Write a table one of whose names leads out of the source, and one that leads back in."""
    pictures(folder, NAMES)
    (folder / "tables").mkdir()
    rows = [{"file_name": name, "text": "x y"} for name in ("../0.png", "../tables/../1.png", "../../etc/passwd")]
    (folder / "tables" / "metadata.jsonl").write_text(lines(rows))


def composed(folder: Path) -> None:
    """Write pictures with decomposed names and a table with composed ones."""
    pictures(folder, [unicodedata.normalize("NFD", name) for name in ("é.png", "ü.png", "한.png")])
    (folder / "metadata.jsonl").write_text(lines(rows_of(names=("é.png", "ü.png", "한.png"))))


def formats(*endings: str) -> Callable[[Path], None]:
    """Return a function that writes a picture of each format with its caption."""

    def make(folder: Path) -> None:
        names = [f"{i}.{ending}" for i, ending in enumerate(endings)]
        pictures(folder, names)
        for name in names:
            (folder / f"{name.partition('.')[0]}.txt").write_text(f"a picture called {name}")

    return make


def hub_rows(folder: Path) -> None:
    """Write what a hub's viewer returns."""
    pictures(folder, NAMES)
    content = {"features": {}, "rows": [{"row_idx": i, "row": row} for i, row in enumerate(rows_of())]}
    del content["features"]
    (folder / "rows.json").write_text(json.dumps(content))


def downloader_files(folder: Path) -> None:
    """Write img2dataset's output format ``files``."""
    pictures(folder, [f"00000/0000{i}.jpg" for i in range(3)])
    for i in range(3):
        (folder / f"00000/0000{i}.txt").write_text(TEXTS[i])
        content = {"url": f"https://example.com/{i}", "caption": TEXTS[i], "status": "success", "key": f"0000{i}"}
        (folder / f"00000/0000{i}.json").write_text(json.dumps(content))
    pq.write_table(pa.table({"url": ["https://example.com/0"], "caption": ["x"]}), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text(json.dumps({"count": 3, "successes": 3}))


def downloader_parquet(folder: Path) -> None:
    """Write img2dataset's output format ``parquet``, one row of which failed."""
    rows: list[dict[str, Any]] = [
        {"url": f"https://example.com/{i}", "caption": TEXTS[i], "status": "success", "jpg": picture(i, "JPEG")}
        for i in range(3)
    ]
    rows.append({"url": "https://example.com/3", "caption": "gone", "status": "failed_to_download", "jpg": None})
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")


def conversations(folder: Path) -> None:
    """Write ShareGPT4V's array: the caption is what the model answers."""
    pictures(folder, [f"images/{name}" for name in NAMES])
    rows = [
        {
            "id": i,
            "image": f"images/{name}",
            "conversations": [{"from": "human", "value": "<image> Describe it."}, {"from": "gpt", "value": TEXTS[i]}],
        }
        for i, name in enumerate(NAMES)
    ]
    (folder / "share.json").write_text(json.dumps(rows))


def packed_table(folder: Path) -> None:
    """Write a compressed table beside pictures."""
    pictures(folder, NAMES)
    (folder / "metadata.jsonl.gz").write_bytes(gzip.compress(lines(rows_of()).encode()))


def metadata_parquet(folder: Path) -> None:
    """Write an image folder whose table is Parquet."""
    pictures(folder, NAMES)
    parquet({"file_name": NAMES, "text": TEXTS}, "metadata.parquet")(folder)


def classes(folder: Path) -> None:
    """Write pictures in folders by class, and a table that gives their names without the folder."""
    pictures(folder, [f"class{i}/{name}" for i, name in enumerate(NAMES)])
    (folder / "captions.csv").write_text(separated(rows_of("image", "caption")))


def kohya(folder: Path) -> None:
    """Write a folder of kohya's trainers, whose name begins with repeats."""
    (folder / "10_cat").mkdir()
    beside(NAMES, {f"{i}.txt": text for i, text in enumerate(TEXTS)})(folder / "10_cat")


def windows(folder: Path) -> None:
    """Write a table with names as Windows has them."""
    pictures(folder, [f"images/{name}" for name in NAMES])
    (folder / "metadata.jsonl").write_text(lines(rows_of(names=[f"images\\{name}" for name in NAMES])))


def hidden(folder: Path) -> None:
    """Write what macOS leaves beside pictures on other disks."""
    beside(NAMES, {f"{i}.txt": text for i, text in enumerate(TEXTS)})(folder)
    (folder / "._0.png").write_bytes(b"x")
