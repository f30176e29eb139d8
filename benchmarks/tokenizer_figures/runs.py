"""Small trainings of tokenizers on drawn scenes or on emoji, for figures: one JSON and one array a training."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from infinity.data.images.contact_sheet import compose_sheet
from infinity.presets import tokenizer_preset
from infinity.recipes.runs import SCENE_LOSSES
from infinity.scales import Resolution, ScaleSchedule
from infinity.scenes.drawing import ScenesConfig, draw_scenes
from infinity.tokenizer.pixels import to_images, to_pixels
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.adversary import Adversary
from infinity.training.learner import LoopConfig
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.loop import Callbacks, train
from infinity.training.optimizers.optimizer import OptimizerConfig, make_optimizer
from infinity.training.state import TrainState, generator_for
from infinity.training.tokenizer.collapse import CollapseConfig, psnr_db
from infinity.training.tokenizer.discriminator import AdversarialConfig, PatchDiscriminator, adversary_of
from infinity.training.tokenizer.objective import TokenizerLosses, TokenizerTask

BATCH, NUM_SHOWN = 16, 12
MODEL = tokenizer_preset("scenes").replace(num_bits=16)
RATE = 6e-3
WEIGHTS = (0.005, 0.02, 0.05)
"""Weights of the adversarial loss."""
SEEDS = (0, 1)
"""Of the trainings with and without a discriminator."""
SPECTRUM_BANDS = 12

World = Literal["scenes", "emoji"]


@dataclass(frozen=True)
class TokenizerRun:
    """One training.

    Attributes:
        num_bits: d.
        losses: Weights of the terms.
        share: Share of the requested steps.
        start: The training whose tokenizer it goes on with, at a third of the rate that falls to zero; None for random
            weights.
        adversarial: Weight of the discriminator's term, from the first step on; None for no discriminator.
        seed: Seed of the batches and of the discriminator's weights.
    """

    name: str
    num_bits: int = 16
    losses: TokenizerLosses = SCENE_LOSSES
    share: float = 1.0
    start: str | None = None
    adversarial: float | None = None
    seed: int = 0
    world: World = "scenes"


BLURRED = "emoji"
"""The training from which those with and without a discriminator go on."""


def sharpening(weight: float | None, seed: int) -> TokenizerRun:
    """Return a tokenizer of emoji that goes on with a discriminator of this weight, or without."""
    name = f"{BLURRED}-{'alone' if weight is None else weight}-{seed}"
    return TokenizerRun(name, share=0.3, start=BLURRED, adversarial=weight, seed=seed, world="emoji")


RUNS = (
    TokenizerRun("d16"),
    TokenizerRun("d64", num_bits=64),
    TokenizerRun("no-entropy", losses=SCENE_LOSSES.replace(certainty=0.0, balance=0.0)),
    TokenizerRun("strong-entropy", losses=SCENE_LOSSES.replace(certainty=0.2, balance=0.2)),
    TokenizerRun("reg", losses=SCENE_LOSSES.replace(truncated=0.5)),
    TokenizerRun(BLURRED, share=1.0, world="emoji"),
    *(sharpening(weight, seed) for seed in SEEDS for weight in (None, *WEIGHTS)),
)


@dataclass(frozen=True)
class Pictures:
    """What is trained and measured on: RGB bytes (count, side, side, 3), and their grids."""

    training: Tensor
    measured: Tensor
    schedule: ScaleSchedule


@cache
def drawn_scenes() -> Pictures:
    """Scenes of 32 px; 128 are measured on."""
    drawn = draw_scenes(ScenesConfig(count=4128, size_px=32))
    images = torch.from_numpy(np.stack([scene.image for scene in drawn]))
    return Pictures(images[128:], images[:128], Resolution(sides=(1, 2, 3, 4)).schedule(1.0))


@cache
def emoji(folder: Path) -> Pictures:
    """Return pictures of a folder on white, 48 px; 256, drawn at random, are measured on.

    Raises:
        SystemExit: Too few pictures there.
    """
    paths = sorted(folder.glob("**/*.png"))
    if len(paths) < 512:
        raise SystemExit(f"--emoji {folder}: expected at least 512 PNG files there, found {len(paths)}")
    images = torch.from_numpy(np.stack([_on_white(path, 48) for path in paths]))
    images = images[torch.randperm(len(images), generator=generator_for(0, "measured"))]
    return Pictures(images[256:], images[:256], Resolution(sides=(1, 2, 4, 6)).schedule(1.0))


def _on_white(path: Path, side_px: int) -> np.ndarray:
    picture = Image.open(path).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return np.asarray(paper.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS))


def train_one(run: TokenizerRun, asked_steps: int, out: Path, pictures: Pictures) -> None:
    """Train, measure on pictures that were not trained on, and write ``<name>.json`` and ``<name>.npy``."""
    num_steps, images, measured = round(run.share * asked_steps), pictures.training, pictures.measured
    schedule = pictures.schedule
    tokenizer = Tokenizer(MODEL.replace(num_bits=run.num_bits))
    tokenizer.init_weights(generator_for(0, "weights"))
    optimizer = OptimizerConfig(learning_rate=RATE, clip_norm=1.0, weight_decay=0.0, warmup_steps=60, decay="cosine")
    if run.start is not None:
        tokenizer.load_state_dict(torch.load(out / f"{run.start}.pt"))
        optimizer = optimizer.replace(learning_rate=RATE / 3, warmup_steps=20, decay="linear")
    loop = LoopConfig(num_steps=num_steps, batch_size=BATCH, log_every_steps=max(1, num_steps // 10))
    adversary = _adversary(run)
    state = TrainState(tokenizer, make_optimizer(tokenizer, optimizer), adversary=adversary)
    curves: list[dict[str, float]] = []

    def look(now: TrainState) -> None:
        curves.append({"step": now.step, **figures(tokenizer, pictures)})

    def loader(step: int) -> list[PictureBatch]:
        rows = torch.randint(len(images), (BATCH,), generator=generator_for(run.seed, "rows", step))
        names = tuple(str(int(row)) for row in rows)
        return [PictureBatch(names, tuple(int(row) for row in rows), schedule, images[rows], BATCH)]

    task = TokenizerTask(tokenizer, run.losses, CollapseConfig(from_step=num_steps + 1), adversary=adversary)
    busy = time.process_time()
    nothing = Callbacks(log=look, sample=lambda _: None, save=lambda _: None, rewind=lambda _: None)
    train(state, task, loader, loop, optimizer, nothing, seed=run.seed)
    tokenizer.eval()
    rebuilt = rebuild(tokenizer, pictures)
    result = {
        "name": run.name,
        "num_bits": run.num_bits,
        "num_steps": asked_steps,
        "processor_s": time.process_time() - busy,
        "skipped": len(state.skipped),
        "curves": curves,
        "history": state.history,
        "by_scale": by_scale(tokenizer, pictures),
        "bits": usage(tokenizer, pictures),
        "balance": None if adversary is None else balance(task, adversary, loader(num_steps)[0]),
        "spectrum": (spectrum(rebuilt) / spectrum(to_pixels(measured))).tolist(),
    }
    (out / f"{run.name}.json").write_text(json.dumps(result))
    torch.save(tokenizer.state_dict(), out / f"{run.name}.pt")
    np.save(out / f"{run.name}.npy", to_images(rebuilt[:NUM_SHOWN]).numpy())


def _adversary(run: TokenizerRun) -> Adversary | None:
    if run.adversarial is None:
        return None
    rate = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9), clip_norm=1.0, weight_decay=0.0)
    config = AdversarialConfig(optimizer=rate, num_layers=1, base_width=32, weight=run.adversarial)
    discriminator = PatchDiscriminator(config)
    discriminator.init_weights(generator_for(run.seed, "discriminator"))
    return adversary_of(discriminator)


def balance(task: TokenizerTask, adversary: Adversary, part: PictureBatch) -> float:
    """Return the weight at which adversarial loss and pixel losses have equal gradients at the decoder's last layer.

    VQGAN weighs the term by this ratio anew at every step; the published recipe of this tokenizer has a fixed weight.
    """
    module = task.module
    pixels = to_pixels(part.images_BHWC)
    rebuilt = module(pixels, part.schedule).reconstruction_B3HW
    last = [layer.weight for layer in module.decoder.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    difference = rebuilt - pixels
    terms = (
        difference.abs().mean() + difference.square().mean(),
        cast(PatchDiscriminator, adversary.module).generator_loss(rebuilt),
    )
    norms = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in terms]
    return float(norms[0] / norms[1])


@torch.no_grad()
def rebuild(tokenizer: Tokenizer, pictures: Pictures) -> Tensor:
    """Return the measured pictures through their bits, RGB in [-1, 1]."""
    was = tokenizer.training
    tokenizer.eval()
    parts = to_pixels(pictures.measured).split(64)
    rebuilt = torch.cat([tokenizer.reconstruct(part, pictures.schedule) for part in parts])
    tokenizer.train(was)
    return rebuilt


@torch.no_grad()
def figures(tokenizer: Tokenizer, pictures: Pictures) -> dict[str, float]:
    """Return reconstruction and sharpness on pictures that were not trained on."""
    pixels, rebuilt = to_pixels(pictures.measured), rebuild(tokenizer, pictures)
    return {
        "psnr_db": float(psnr_db((rebuilt - pixels).square().mean())),
        "sharpness": float(edges(rebuilt) / edges(pixels)),
    }


def edges(pixels: Tensor) -> Tensor:
    """Return the mean square of differences of neighbouring pixels: blur lowers it, noise and false edges raise it."""
    down, across = pixels.diff(dim=-2), pixels.diff(dim=-1)
    return down.square().mean() + across.square().mean()


@torch.no_grad()
def by_scale(tokenizer: Tokenizer, pictures: Pictures) -> list[float]:
    """Decibels of what is decoded from the first 1, 2, ... scales."""
    tokenizer.eval()
    pixels, schedule = to_pixels(pictures.measured), pictures.schedule
    labels = tokenizer.quantize(tokenizer.encode(pixels), schedule).labels
    found = []
    loop = tokenizer.start_loop(schedule, len(pixels))
    for k in range(schedule.num_scales):
        loop.add(labels.scale(k))
        found.append(float(psnr_db((tokenizer.decode(loop.total_BCHW.clone()) - pixels).square().mean())))
    return found


def spectrum(pixels: Tensor) -> Tensor:
    """Return the mean power of grey values by spatial frequency: SPECTRUM_BANDS rings up to half a cycle per pixel.

    A Hann window keeps the borders of the pictures from counting as edges.
    """
    side = pixels.shape[-1]
    window = torch.hann_window(side, periodic=False)
    grey = pixels.mean(dim=1)
    grey = (grey - grey.mean(dim=(1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(grey).abs().square().mean(dim=0).flatten()
    along = torch.fft.fftfreq(side)
    rings = ((along[:, None].square() + along.square()).sqrt() * 2 * SPECTRUM_BANDS).long().flatten()
    within = rings < SPECTRUM_BANDS
    return torch.zeros(SPECTRUM_BANDS).index_add(0, rings[within], power[within])


@torch.no_grad()
def usage(tokenizer: Tokenizer, pictures: Pictures) -> dict[str, float]:
    """Return the use of the last scale's bits: entropy per bit, share of dead bits, different codes per position."""
    tokenizer.eval()
    schedule = pictures.schedule
    labels = tokenizer.quantize(tokenizer.encode(to_pixels(pictures.measured)), schedule).labels
    bits = labels.scale(schedule.num_scales - 1).flatten(0, 2)
    shares = bits.float().mean(dim=0).clamp(1e-9, 1 - 1e-9)
    entropy = -(shares * shares.log2() + (1 - shares) * (1 - shares).log2())
    return {
        "entropy": float(entropy.mean()),
        "dead": float((entropy < 0.03).float().mean()),
        "codes": len(torch.unique(bits, dim=0)) / len(bits),
    }


def sheet(rows: list[np.ndarray]) -> bytes:
    """Return PNG bytes of rows of pictures below each other, magnified."""
    return compose_sheet([picture for row in rows for picture in row], columns=NUM_SHOWN, enlarge=3)
