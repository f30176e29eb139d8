"""Writers of small captioned sources in every layout that people have."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
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
PAIRS = tuple(zip(NAMES, TEXTS, strict=True))
"""Names of the pictures with their captions."""


def files_beside(files: Mapping[str, str | bytes], names: Sequence[str] = NAMES) -> Callable[[Path], None]:
    """Return a function that writes pictures, and files of any kind."""

    def make(folder: Path) -> None:
        pictures(folder, names)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def each(form: str, texts: Sequence[str] = TEXTS) -> dict[str, str]:
    """Return texts by the names of their files, such as "{}.txt" with the number of the picture."""
    return {form.format(i): text for i, text in enumerate(texts)}


def inside(folder: str) -> tuple[str, ...]:
    """Return the names of the pictures in a folder."""
    return tuple(f"{folder}/{name}" for name in NAMES)


def rows_of(image: str = "file_name", text: str = "text", names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    return [{image: name, text: caption} for name, caption in zip(names, TEXTS, strict=True)]


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def separated(rows: Sequence[dict[str, Any]], mark: str = ",") -> str:
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]) + "\n"


def shard(
    name: str, mode: str = "w", *, extra: Sequence[tuple[str, bytes]] = (), is_sorted: bool = True, first: int = 0
) -> Callable[[Path], None]:
    """Return a function that writes a webdataset shard of three samples, and further members."""

    members = [(f"{i:05d}.png", picture(first + i)) for i in range(3)]
    members += [(f"{i:05d}.txt", text.encode()) for i, text in enumerate(TEXTS)]
    members += extra
    return members_of(sorted(members) if is_sorted else members, name, mode)


def members_of(members: Sequence[tuple[str, bytes]], name: str = "0.tar", mode: str = "w") -> Callable[[Path], None]:
    """Return a function that writes a shard of these members."""

    def make(folder: Path) -> None:
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    return make


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


def formats(*endings: str) -> Callable[[Path], None]:
    """Return a function that writes a picture of each format with its caption."""

    def make(folder: Path) -> None:
        names = [f"{i}.{ending}" for i, ending in enumerate(endings)]
        pictures(folder, names)
        for name in names:
            (folder / f"{name.partition('.')[0]}.txt").write_text(f"a picture called {name}")

    return make


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


def metadata_parquet(folder: Path) -> None:
    """Write an image folder whose table is Parquet."""
    pictures(folder, NAMES)
    parquet({"file_name": NAMES, "text": TEXTS}, "metadata.parquet")(folder)
