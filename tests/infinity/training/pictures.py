"""A tiny data set of coloured rectangles, and the smallest models that learn from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from infinity.data.manifest import SCHEMA, Manifest, ManifestHead
from infinity.data.pictures import encode_png
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.transformer.config import TransformerConfig

SIZE_PX = 16
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "white": (250, 250, 250)}
RESOLUTION = Resolution(sides=(1, 2, 4))
TOKENIZER = TokenizerConfig(
    num_bits=8,
    base_width=8,
    encoder_multipliers=(1, 2, 2),
    decoder_multipliers=(1, 2, 2),
    num_res_blocks=1,
    num_downsamples=2,
    norm_groups=4,
)
TEXT = BuiltinTextConfig(channels=32, max_tokens=16)
TRANSFORMER = TransformerConfig(width=32, num_heads=2, depth=2, num_bits=8, text_channels=32, max_text_tokens=16)


def make_data(folder: Path, num_train: int = 24, num_validation: int = 4, *, same: bool = False) -> str:
    """Write a data set and return the URI of its manifest; ``same`` repeats one grey picture."""
    random = np.random.default_rng(7)
    rows, blob = [], b""
    for index in range(num_train + num_validation):
        name = sorted(COLOURS)[random.integers(len(COLOURS))]
        image = np.full((SIZE_PX, SIZE_PX, 3), 128, np.uint8)
        top, left = random.integers(1, SIZE_PX // 2, size=2)
        if not same:
            image[top : top + SIZE_PX // 2, left : left + SIZE_PX // 2] = COLOURS[name]
        data = encode_png(image)
        rows.append(
            {
                "key": f"{index:08d}",
                "shard": "shard.bin",
                "offset": len(blob),
                "num_bytes": len(data),
                "width_px": SIZE_PX,
                "height_px": SIZE_PX,
                "aspect_ratio": 1.0,
                "caption": f"a {name} square",
                "split": "train" if index < num_train else "validation",
                "sha256": hashlib.sha256(data).hexdigest(),
                "source": f"picture-{index}.png",
            }
        )
        blob += data
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shard.bin").write_bytes(blob)
    head = ManifestHead(counts={"read": len(rows), "kept": len(rows)}, unreadable={}, shards=(), spec={})
    manifest = Manifest(
        uri=str(folder / "manifest.parquet"), head=head, table=pa.Table.from_pylist(rows, schema=SCHEMA)
    )
    manifest.save()
    return manifest.uri
