"""Good inputs that the doors start from: a tiny model, a data set, specs, a summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infinity.convert import export_tokenizer, export_transformer
from infinity.generation.pipeline import Pipeline, save_model
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.registry import KINDS, job_of
from infinity.recipes.paper_transformer import TransformerInputs, paper_stages
from infinity.recipes.runs import end_to_end
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.tokenizer.saved import save_tokenizer
from infinity.transformer import Transformer, TransformerConfig
from tests.fixtures.data.pictures_on_disk import good_folder
from tests.fixtures.faults.hostile_pictures import hostile_pictures, newer_formats
from tests.fixtures.jobs.run_summaries import example_summary


@dataclass(frozen=True)
class World:
    """Where everything lies; ``scratch`` may be written to."""

    folder: Path
    model: Path
    pictures: Path
    manifest: Path
    published: Path
    pipeline: Pipeline
    specs: tuple[dict[str, Any], ...]
    summary: dict[str, Any]
    hostile: tuple[bytes, ...]

    @property
    def scratch(self) -> Path:
        """A folder for what a trial writes."""
        return self.folder / "scratch"


def build_world(folder: Path) -> World:
    """Make all good inputs below a folder; takes seconds."""
    for kind in KINDS:
        job_of(kind)  # imported before the clock of a trial runs
    config = TokenizerConfig(
        num_bits=4,
        base_width=32,
        encoder_multipliers=(1, 1),
        decoder_multipliers=(1, 1),
        num_res_blocks=1,
        num_downsamples=1,
    )
    tokenizer = Tokenizer(config)
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    save_tokenizer(str(folder / "tokenizer"), tokenizer)
    shape = TransformerConfig(width=16, num_heads=2, depth=1, num_bits=4, text_channels=128, max_text_tokens=16)
    transformer = Transformer(shape)
    transformer.init_weights(torch.Generator().manual_seed(1))
    save_model(
        str(folder / "model"),
        transformer,
        text=BuiltinTextConfig(channels=128, max_tokens=16),
        resolution=Resolution(sides=(1, 2, 4)),
        tokenizer_uri=str(folder / "tokenizer"),
    )
    (folder / "published").mkdir()
    export_transformer(str(folder / "model"), str(folder / "published" / "model.pth"))
    export_tokenizer(str(folder / "tokenizer"), str(folder / "published" / "vae.pth"))
    pictures = good_folder(folder / "pictures", count=6)
    with in_process():
        report = build_dataset.run(
            build_dataset.BuildDatasetSpec(
                output=str(folder / "sets"), source=str(pictures), fingerprint=build_dataset.fingerprint(str(pictures))
            )
        )
    return World(
        folder=folder,
        model=folder / "model",
        pictures=pictures,
        manifest=Path(report.manifest),
        published=folder / "published",
        pipeline=Pipeline.load(str(folder / "model")),
        specs=_specs(folder, report.manifest),
        summary=example_summary(folder / "summary").to_json(),
        hostile=(*hostile_pictures("http://127.0.0.1:9/canary").values(), *newer_formats().values()),
    )


def _specs(folder: Path, manifest: str) -> tuple[dict[str, Any], ...]:
    plan = end_to_end("mini", source=None, output=str(folder / "runs"))
    inputs = TransformerInputs(
        manifests=(manifest,), tokenizer=str(folder / "tokenizer"), output=str(folder / "runs"), model="125M"
    )
    pretrain = plan.pretrain.replace(manifest=manifest, tokenizer=str(folder / "tokenizer"))
    specs = (
        plan.dataset,
        plan.tokenizer.replace(manifest=manifest),
        pretrain,
        plan.evaluation,
        paper_stages(inputs)[0],
    )
    return tuple(json.loads(json.dumps(spec.to_file())) for spec in specs)
