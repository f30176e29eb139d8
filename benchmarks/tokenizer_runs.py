"""Small trainings of tokenizers on drawn scenes, for figures: one JSON and one picture a training."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infinity.data.pictures import compose_sheet
from infinity.data.scenes import ScenesConfig, draw_scenes
from infinity.jobs.recipes import SCENE_LOSSES
from infinity.presets import tokenizer_preset
from infinity.scales import Resolution, ScaleSchedule
from infinity.tokenizer.pixels import to_images, to_pixels
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.collapse import CollapseConfig, psnr_db
from infinity.training.discriminator import AdversarialConfig, PatchDiscriminator, opponent_of
from infinity.training.loop import LoopConfig
from infinity.training.opponent import Opponent
from infinity.training.optimizer import OptimizerConfig, make_optimizer
from infinity.training.pictures import PictureBatch
from infinity.training.state import TrainState, generator_for
from infinity.training.tokenizer_step import TokenizerLearner, TokenizerLosses
from infinity.training.train import Listeners, train

SIZE_PX, BATCH, NUM_SHOWN, NUM_MEASURED = 32, 16, 12, 128
SCHEDULE = Resolution(sides=(1, 2, 3, 4)).schedule(1.0)
MODEL = tokenizer_preset("scenes").replace(num_bits=16)
RATE = 6e-3


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: Of its files.
        num_bits: d.
        losses: Weights of the terms.
        share: Of the steps that are asked for.
        start: The training whose tokenizer it goes on with, at a low rate that stays; None for random weights.
        adversarial: Weight of the discriminator's term, from the first step on; None for no discriminator.
    """

    name: str
    num_bits: int = 16
    losses: TokenizerLosses = SCENE_LOSSES
    share: float = 1.0
    start: str | None = None
    adversarial: float | None = None


RUNS = (
    Run("d16"),
    Run("d64", num_bits=64),
    Run("no-entropy", losses=SCENE_LOSSES.replace(certainty=0.0, balance=0.0)),
    Run("base", share=0.4),
    Run("alone", share=0.2, start="base"),
    Run("weak-discriminator", share=0.2, start="base", adversarial=0.005),
    Run("discriminator", share=0.2, start="base", adversarial=0.02),
    Run("strong-entropy", losses=SCENE_LOSSES.replace(certainty=0.2, balance=0.2)),
    Run("reg", losses=SCENE_LOSSES.replace(truncated=0.5)),
)


def train_one(run: Run, asked_steps: int, out: Path, threads: int) -> None:
    """Train, measure on pictures that were not trained on, and write ``<name>.json`` and ``<name>.npy``."""
    torch.set_num_threads(threads)
    num_steps = round(run.share * asked_steps)
    images = scenes(4000 + NUM_MEASURED)
    measured, images = images[:NUM_MEASURED], images[NUM_MEASURED:]
    tokenizer = Tokenizer(MODEL.replace(num_bits=run.num_bits))
    tokenizer.init_weights(generator_for(0, "weights"))
    optimizer = OptimizerConfig(learning_rate=RATE, clip_norm=1.0, weight_decay=0.0, warmup_steps=60, decay="cosine")
    if run.start is not None:
        tokenizer.load_state_dict(torch.load(out / f"{run.start}.pt"))
        optimizer = optimizer.replace(learning_rate=RATE / 6, warmup_steps=0, decay="constant")
    loop = LoopConfig(num_steps=num_steps, batch_size=BATCH, log_every_steps=max(1, num_steps // 60))
    opponent = _opponent(run)
    state = TrainState(tokenizer, make_optimizer(tokenizer, optimizer), opponent=opponent)
    curves: list[dict[str, float]] = []

    def look(now: TrainState) -> None:
        curves.append({"step": now.step, **figures(tokenizer, measured)})

    def feed(step: int) -> list[PictureBatch]:
        rows = torch.randint(len(images), (BATCH,), generator=generator_for(0, "rows", step))
        names = tuple(str(int(row)) for row in rows)
        return [PictureBatch(names, tuple(int(row) for row in rows), SCHEDULE, images[rows], BATCH)]

    learner = TokenizerLearner(tokenizer, run.losses, CollapseConfig(from_step=num_steps + 1), opponent=opponent)
    started, busy = time.monotonic(), time.process_time()
    nothing = Listeners(log=look, sample=lambda _: None, save=lambda _: None, rewind=lambda _: None)
    train(state, learner, feed, loop, optimizer, nothing, seed=0)
    result = {
        "name": run.name,
        "num_bits": run.num_bits,
        "num_steps": asked_steps,
        "wall_s": time.monotonic() - started,
        "processor_s": time.process_time() - busy,
        "load": os.getloadavg()[0],
        "skipped": len(state.skipped),
        "curves": curves,
        "history": state.history,
        "by_scale": by_scale(tokenizer, measured),
        "bits": usage(tokenizer, measured),
    }
    (out / f"{run.name}.json").write_text(json.dumps(result))
    with torch.no_grad():
        tokenizer.eval()
        shown = to_images(tokenizer.reconstruct(to_pixels(measured[:NUM_SHOWN]), SCHEDULE))
    torch.save(tokenizer.state_dict(), out / f"{run.name}.pt")
    np.save(out / f"{run.name}.npy", shown.numpy())


def scenes(count: int) -> Tensor:
    """Drawn scenes as RGB bytes."""
    return torch.from_numpy(
        np.stack([scene.image for scene in draw_scenes(ScenesConfig(count=count, size_px=SIZE_PX))])
    )


def _opponent(run: Run) -> Opponent | None:
    if run.adversarial is None:
        return None
    rate = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9), clip_norm=1.0, weight_decay=0.0)
    config = AdversarialConfig(optimizer=rate, num_layers=2, base_width=32, weight=run.adversarial)
    discriminator = PatchDiscriminator(config)
    discriminator.init_weights(generator_for(0, "discriminator"))
    return opponent_of(discriminator)


@torch.no_grad()
def figures(tokenizer: Tokenizer, images: Tensor) -> dict[str, float]:
    """Reconstruction and sharpness on pictures that were not trained on."""
    was, pixels = tokenizer.training, to_pixels(images)
    tokenizer.eval()
    rebuilt = tokenizer.reconstruct(pixels, SCHEDULE)
    tokenizer.train(was)
    return {
        "psnr_db": float(psnr_db((rebuilt - pixels).square().mean())),
        "sharpness": float(edges(rebuilt) / edges(pixels)),
        "flat_error": float((rebuilt - pixels).abs().median()),
    }


def edges(pixels: Tensor) -> Tensor:
    """Mean square of the differences of neighbouring pixels: blur lowers it, noise and false edges raise it."""
    down, across = pixels.diff(dim=-2), pixels.diff(dim=-1)
    return down.square().mean() + across.square().mean()


@torch.no_grad()
def by_scale(tokenizer: Tokenizer, images: Tensor) -> list[float]:
    """Decibels of what is decoded from the first 1, 2, ... scales."""
    tokenizer.eval()
    pixels = to_pixels(images)
    labels = tokenizer.quantize(tokenizer.encode(pixels), SCHEDULE).labels
    found = []
    loop = tokenizer.start_loop(SCHEDULE, len(images))
    for k in range(SCHEDULE.num_scales):
        loop.add(labels.scale(k))
        found.append(float(psnr_db((tokenizer.decode(loop.total_BCHW.clone()) - pixels).square().mean())))
    return found


@torch.no_grad()
def usage(tokenizer: Tokenizer, images: Tensor, schedule: ScaleSchedule = SCHEDULE) -> dict[str, float]:
    """How the bits of the last scale are used: entropy of a bit, share of dead ones, different codes a position."""
    tokenizer.eval()
    labels = tokenizer.quantize(tokenizer.encode(to_pixels(images)), schedule).labels
    bits = labels.scale(schedule.num_scales - 1).flatten(0, 2)
    shares = bits.float().mean(dim=0).clamp(1e-9, 1 - 1e-9)
    entropy = -(shares * shares.log2() + (1 - shares) * (1 - shares).log2())
    return {
        "entropy": float(entropy.mean()),
        "dead": float((entropy < 0.03).float().mean()),
        "codes": len(torch.unique(bits, dim=0)) / len(bits),
    }


def sheet(rows: list[np.ndarray]) -> bytes:
    """PNG bytes of rows of pictures below each other, magnified."""
    return compose_sheet([picture for row in rows for picture in row], columns=NUM_SHOWN, enlarge=3)
