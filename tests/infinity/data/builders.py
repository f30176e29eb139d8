"""Pictures and folders that tests of the data stage are built from."""

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(height: int = 40, width: int = 40, seed: int = 0) -> np.ndarray:
    """A smooth picture that differs from that of any other seed."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def encoded(image: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def huge_png(side: int = 30_000) -> bytes:
    """A PNG whose header promises side x side pixels (900 million by default)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def image_folder(folder: Path, pictures: Mapping[str, bytes], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write pictures by name, and metadata.jsonl with the rows."""
    for name, data in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def good_folder(folder: Path, count: int = 12, sizes: Sequence[tuple[int, int]] = ((40, 40),)) -> Path:
    """An image folder of ``count`` different pictures with captions."""
    names = [f"images/{index:03d}.png" for index in range(count)]
    pictures = {name: encoded(noise(*sizes[i % len(sizes)], seed=i)) for i, name in enumerate(names)}
    return image_folder(folder, pictures, [{"file_name": name, "text": f"picture {i}"} for i, name in enumerate(names)])
