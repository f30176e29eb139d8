"""What the trainings of ``benchmarks.switches`` share: pictures, tokenizer, stores, and the control."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infinity.data.images.contact_sheet import encode_png
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.dataset.build import MANIFEST_FILE, BuildDatasetSpec, fingerprint
from infinity.jobs.dataset.build import run as build_dataset
from infinity.jobs.training import encode
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.jobs.training.base import Session, TrainSpec
from infinity.jobs.training.encode import EncodeSpec
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import tokenizer_preset
from infinity.recipes.runs import SCENE_LOSSES
from infinity.scales import Resolution
from infinity.scenes.drawing import ScenesConfig, draw_scenes
from infinity.text import BuiltinTextConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import LoopConfig
from infinity.training.loop import Callbacks, train
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.transformer.config import TransformerConfig

SIZE_PX, NUM_PICTURES, NUM_HELD = 32, 160, 16
RESOLUTION = Resolution(sides=(1, 2, 4))
LOOP = LoopConfig(num_steps=80, batch_size=8, num_parts=2, log_every_steps=1, ema_decay=0.95)
ONE = WorkersConfig(num_workers=1, threads=1)


def write_pictures(folder: Path, *, mixed: bool) -> None:
    """Write drawn scenes as an image folder; if mixed, two of three lose a quarter of their height or width."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, scene in enumerate(draw_scenes(ScenesConfig(count=NUM_PICTURES, size_px=SIZE_PX))):
        image, quarter = np.asarray(scene.image), SIZE_PX // 8
        if mixed and number % 3:
            image = image[quarter:-quarter] if number % 3 == 1 else image[:, quarter:-quarter]
        (folder / f"{number:05d}.png").write_bytes(encode_png(np.ascontiguousarray(image)))
        lines.append(json.dumps({"file_name": f"{number:05d}.png", "text": scene.prompt.prompt}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def make_manifest(folder: Path, *, mixed: bool) -> str:
    """Return a data set of these pictures."""
    if not (folder / "pictures" / "metadata.jsonl").exists():
        write_pictures(folder / "pictures", mixed=mixed)
    source = str(folder / "pictures")
    spec = BuildDatasetSpec(output=str(folder), source=source, fingerprint=fingerprint(source))
    spec = spec.replace(filters=spec.filters.replace(min_side_px=8, duplicates="keep"))
    with in_process():
        build_dataset(spec)
    return f"{spec.folder}/{MANIFEST_FILE}"


def make_tokenizer(folder: Path, manifest: str) -> str:
    """Train a tokenizer a little; at three times this rate some orders of pictures leave dead bits."""
    if (folder / "tokenizer" / "COMMITTED").exists():
        return str(folder / "tokenizer")
    spec = TrainTokenizerSpec(
        output=str(folder),
        manifest=manifest,
        resolution=RESOLUTION,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=20, decay="cosine", clip_norm=1.0, weight_decay=0.0),
        loop=LOOP.replace(num_steps=500, num_parts=1),
        losses=SCENE_LOSSES,
        model=tokenizer_preset("scenes").replace(num_bits=8),
    )
    session = train_tokenizer.build(spec, ProcessGroup(), torch.device("cpu"), nobody)
    train_alone(spec, session, ProcessGroup())
    session.export(str(folder / "tokenizer"))
    return str(folder / "tokenizer")


def control(folder: Path, manifest: str, tokenizer: str) -> TrainTransformerSpec:
    """Return the full recipe in small: wrong bits in the history, dropped captions and blocks."""
    model = TransformerConfig(width=64, num_heads=4, depth=3, num_bits=8, text_channels=64, max_text_tokens=16)
    return TrainTransformerSpec(
        output=str(folder),
        manifest=manifest,
        tokenizer=tokenizer,
        resolution=RESOLUTION,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=10, decay="cosine"),
        loop=LOOP,
        model=model,
        text=BuiltinTextConfig(channels=64, max_tokens=16),
        workers=ONE,
        prompts=("a photo of a red circle",),
        self_correction=0.2,
    )


@dataclass(frozen=True)
class Bench:
    """What all trainings share.

    Attributes:
        full: The full recipe on square pictures.
        still: The same training without anything drawn at random.
        mixed: Manifest of pictures of three ratios.
        stores: Stored latents, stored text features, and stored latents of the pictures of three ratios.
    """

    full: TrainTransformerSpec
    still: TrainTransformerSpec
    mixed: str
    stores: dict[str, str]


def prepare(folder: Path) -> Bench:
    """Make data sets, tokenizer and stores."""
    square, mixed = (make_manifest(folder / name, mixed=name == "mixed") for name in ("square", "mixed"))
    tokenizer = make_tokenizer(folder, mixed)
    full = control(folder, square, tokenizer)
    still = full.replace(model=full.model.replace(drop_path=0.0, condition_drop=0.0), self_correction=0.0)
    both = EncodeSpec(
        output=str(folder), manifest=square, resolution=RESOLUTION, tokenizer=tokenizer, text=full.text, workers=ONE
    )
    stores = {
        "latents": both.replace(text=None),
        "text": both.replace(tokenizer=None),
        "mixed": both.replace(manifest=mixed, text=None),
    }
    with in_process():
        for each in stores.values():
            encode.run(each)
    return Bench(full, still, mixed, {name: each.index for name, each in stores.items()})


def train_alone(spec: TrainSpec, session: Session[Any], group: ProcessGroup) -> list[float]:
    """Train without storing anything; return the time of every step."""
    moments: list[float] = []
    ears = Callbacks(
        log=lambda _: moments.append(time.perf_counter()),
        sample=lambda _: None,
        save=lambda _: None,
        rewind=_never,
    )
    loop, optimizer = spec.loop, spec.optimizer
    train(session.state, session.task, session.loader, loop, optimizer, ears, seed=spec.seed, group=group)
    return moments


def _never(_: object) -> None:
    raise AssertionError("a benchmark's batches are never bad")


def nobody(_share: float, _message: str) -> None:
    """Ignore the progress of a training."""
