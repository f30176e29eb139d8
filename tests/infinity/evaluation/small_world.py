"""A data set of a few pictures in two aspect ratios, and a model folder with random weights that fits it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from infinity.data.manifest import SCHEMA, Manifest, ManifestHead
from infinity.data.pictures import encode_png
from infinity.evaluation.measure import Subject
from infinity.generation.pipeline import save_model
from infinity.generation.sampling import SamplingConfig
from infinity.scales import Resolution
from infinity.tokenizer.saved import save_tokenizer
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer import Transformer
from tests.infinity.training import pictures as trained

RESOLUTION = Resolution(sides=(1, 2, 3, 6))
TOKENIZER = trained.TOKENIZER.replace(num_bits=4)
TEXT = trained.TEXT.replace(max_tokens=32)
TRANSFORMER = trained.TRANSFORMER.replace(num_bits=4, max_text_tokens=32)


def write_model(folder: Path, *, tokenizer: TokenizerConfig = TOKENIZER) -> str:
    """A model folder with random weights; the transformer's bits are as many as the tokenizer's."""
    model = Tokenizer(tokenizer)
    model.init_weights(torch.Generator().manual_seed(0))
    tokenizer_uri = str(folder / "tokenizer-source")
    save_tokenizer(tokenizer_uri, model)
    transformer = Transformer(TRANSFORMER.replace(num_bits=tokenizer.token_bits))
    transformer.init_weights(torch.Generator().manual_seed(1))
    uri = str(folder / "model")
    save_model(uri, transformer, text=TEXT, resolution=RESOLUTION, tokenizer_uri=tokenizer_uri)
    return uri


def write_data(folder: Path, *, num_train: int = 3, num_validation: int = 11) -> str:
    """A manifest over smooth random pictures, two thirds square and one third twice as high as wide."""
    random = np.random.default_rng(3)
    rows, blob = [], b""
    for index in range(num_train + num_validation):
        ratio = 2.0 if index % 3 == 2 else 1.0
        height, width = (40, 20) if ratio == 2.0 else (30, 30)
        waves = np.sin(np.linspace(0, random.uniform(2, 9), height)[:, None, None] + random.uniform(0, 6, 3))
        image = np.broadcast_to(127 + 100 * waves, (height, width, 3)).astype(np.uint8)
        data = encode_png(image)
        rows.append(
            {
                "key": f"{index:08d}", "shard": "shard.bin", "offset": len(blob), "num_bytes": len(data),
                "width_px": width, "height_px": height, "aspect_ratio": ratio, "caption": f"waves number {index}",
                "split": "train" if index < num_train else "validation",
                "sha256": hashlib.sha256(data).hexdigest(), "source": f"picture-{index}.png",
            }
        )  # fmt: skip
        blob += data
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shard.bin").write_bytes(blob)
    head = ManifestHead(counts={"read": len(rows), "kept": len(rows)}, unreadable={}, shards=(), spec={})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    manifest = Manifest(uri=str(folder / "manifest.parquet"), head=head, table=table)
    manifest.save()
    return manifest.uri


def subject(model: str, manifest: str, *, batch_size: int = 4, sampling: SamplingConfig | None = None) -> Subject:
    """The validation split on the CPU, greedy unless said otherwise."""
    return Subject(
        model=model,
        manifest=manifest,
        split="validation",
        sampling=sampling or SamplingConfig(greedy=True),
        seed=5,
        batch_size=batch_size,
        inception=None,
        device="cpu",
    )


def values(scores: Sequence[object]) -> dict[str, float | None]:
    """Figures by name."""
    return {score.metric: score.value for score in scores}  # type: ignore[attr-defined]
