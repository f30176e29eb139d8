"""Both trainings of the tiny models in this process, without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from infinity.jobs import train_tokenizer, train_transformer
from infinity.jobs.training import Session, TrainSpec
from infinity.training.loop import LoopConfig
from infinity.training.meter import TIMED
from infinity.training.optimizer import OptimizerConfig
from infinity.training.parallel import Team
from infinity.training.state import Row
from infinity.training.train import train
from tests.infinity.training.pictures import RESOLUTION, TEXT, TOKENIZER, TRANSFORMER
from tests.infinity.training.toy import all_states, quiet

LOOP = LoopConfig(
    num_steps=6, batch_size=8, log_every_steps=2, save_every_steps=3, sample_every_steps=100, ema_decay=0.9
)
OPTIMIZER = OptimizerConfig(learning_rate=2e-3, warmup_steps=2, decay="linear")
ALONE = Team()


def tokenizer_spec(output: Path | str, manifest: str, **changes: Any) -> train_tokenizer.TrainTokenizerSpec:
    """A tokenizer that trains in a second."""
    spec = train_tokenizer.TrainTokenizerSpec(
        output=str(output), manifest=manifest, model=TOKENIZER, resolution=RESOLUTION, optimizer=OPTIMIZER, loop=LOOP
    )
    return replace(spec, **changes)


def transformer_spec(
    output: Path | str, manifest: str, tokenizer: str, **changes: Any
) -> train_transformer.TrainTransformerSpec:
    """A transformer that trains in a second."""
    spec = train_transformer.TrainTransformerSpec(
        output=str(output),
        manifest=manifest,
        tokenizer=tokenizer,
        model=TRANSFORMER,
        text=TEXT,
        resolution=RESOLUTION,
        optimizer=OPTIMIZER,
        loop=LOOP,
        prompts=("a red square", "a blue square"),
    )
    return replace(spec, **changes)


def session(spec: TrainSpec, team: Team = ALONE) -> Session[Any]:
    """Made ready on the CPU."""
    build: Callable[..., Session[Any]] = train_tokenizer.build if spec.kind == "tokenizer" else train_transformer.build
    return build(spec, team, torch.device("cpu"), lambda _share, _message: None)


def train_here(
    spec: TrainSpec, *, saves: Path | None = None, resume: Path | None = None, team: Team = ALONE
) -> Session[Any]:
    """Train to the end in this process, saving each due state as ``<saves>/step-<step>``."""
    torch.set_num_threads(1)  # as the workers of a job: sums in another order are other sums
    made = session(spec, team)
    if resume is not None:
        all_states(resume.parent).restore(made.state, str(resume))
    listeners = quiet(saves, team if made.joint else ALONE)
    train(made.state, made.learner, made.feed, spec.loop, spec.optimizer, listeners, seed=spec.seed, team=team)
    return made


def make_tokenizer(folder: Path, manifest: str, num_steps: int = 40) -> str:
    """A tokenizer that was trained a little, as a checkpoint folder."""
    spec = tokenizer_spec(folder, manifest)
    train_here(spec.replace(loop=LOOP.replace(num_steps=num_steps))).export(str(folder / "tokenizer"))
    return str(folder / "tokenizer")


def untimed(history: list[Row]) -> list[Row]:
    """What two equal runs have in common."""
    return [{name: value for name, value in row.items() if name not in TIMED} for row in history]
