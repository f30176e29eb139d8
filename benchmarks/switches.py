"""Every switch of a training against the training without it, on the same batches: ``python -m benchmarks.switches``.

A tiny transformer learns drawn scenes on the CPU, in this process or in two. The table goes to ``docs/switches.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from infinity.data.pictures import encode_png
from infinity.data.scenes import ScenesConfig, draw_scenes
from infinity.jobs import encode, train_tokenizer, train_transformer
from infinity.jobs.build_dataset import MANIFEST_FILE, BuildDatasetSpec, fingerprint
from infinity.jobs.build_dataset import run as build_dataset
from infinity.jobs.cluster import in_process
from infinity.jobs.encode import EncodeSpec
from infinity.jobs.recipes import SCENE_LOSSES
from infinity.jobs.train_tokenizer import TrainTokenizerSpec
from infinity.jobs.train_transformer import TrainTransformerSpec
from infinity.jobs.training import Session, TrainSpec, WorkersConfig
from infinity.presets import tokenizer_preset
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.training.ema import averaged
from infinity.training.engine import EngineConfig
from infinity.training.loop import LoopConfig
from infinity.training.optimizer import OptimizerConfig
from infinity.training.parallel import Team
from infinity.training.state import generator_for
from infinity.training.train import Listeners, train
from infinity.transformer.config import TransformerConfig

SIZE_PX, NUM_PICTURES, NUM_HELD = 32, 160, 4
RESOLUTION = Resolution(sides=(1, 2, 4))
LOOP = LoopConfig(num_steps=80, batch_size=8, num_parts=2, log_every_steps=1, ema_decay=0.95)
ONE = WorkersConfig(num_workers=1, threads=1)
EARLY = 10
"""Steps in which rounding has not grown yet."""

SEEDS = (1, 2)
"""Of further controls: how far trainings differ that differ in their draws alone."""


@dataclass(frozen=True)
class Run:
    """What a training came to.

    Attributes:
        losses: Of every step.
        accuracy: Mean bit accuracy of the last tenth of the steps.
        held: Loss on the next batches, without draws, with the averaged weights where there are any.
        seconds: Of a step; the median.
    """

    losses: tuple[float, ...]
    accuracy: float
    held: float
    seconds: float

    @property
    def end(self) -> float:
        """Mean loss of the last tenth of the steps."""
        return float(np.mean(self.losses[-max(1, len(self.losses) // 10) :]))


@dataclass(frozen=True)
class Switch:
    """One row of the table.

    Attributes:
        name: What is switched.
        without: The control.
        within: The same training with the switch.
        limit: Largest difference that a logged loss may have in the first ``EARLY`` steps; later rounding has grown,
            and the ends are compared. None where the switch changes what is drawn or seen: then only the ends are.
        processes: Of the training with the switch.
    """

    name: str
    without: TrainTransformerSpec
    within: TrainTransformerSpec
    limit: float | None
    processes: int = 1


def write_pictures(folder: Path, *, mixed: bool) -> None:
    """Drawn scenes as an image folder; if mixed, two of three lose a quarter of their height or width."""
    folder.mkdir(parents=True)
    lines = []
    for number, scene in enumerate(draw_scenes(ScenesConfig(count=NUM_PICTURES, size_px=SIZE_PX))):
        image, quarter = np.asarray(scene.image), SIZE_PX // 8
        if mixed and number % 3:
            image = image[quarter:-quarter] if number % 3 == 1 else image[:, quarter:-quarter]
        (folder / f"{number:05d}.png").write_bytes(encode_png(np.ascontiguousarray(image)))
        lines.append(json.dumps({"file_name": f"{number:05d}.png", "text": scene.prompt.prompt}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def make_manifest(folder: Path, *, mixed: bool) -> str:
    """A data set of these pictures."""
    write_pictures(folder / "pictures", mixed=mixed)
    source = str(folder / "pictures")
    spec = BuildDatasetSpec(output=str(folder), source=source, fingerprint=fingerprint(source))
    spec = spec.replace(filters=spec.filters.replace(min_side_px=8, duplicates="keep"))
    with in_process():
        build_dataset(spec)
    return f"{spec.folder}/{MANIFEST_FILE}"


def make_tokenizer(folder: Path, manifest: str) -> str:
    """A tokenizer that was trained a little; it has to beat a constant picture, or the training stops."""
    spec = TrainTokenizerSpec(
        output=str(folder),
        manifest=manifest,
        resolution=RESOLUTION,
        optimizer=OptimizerConfig(learning_rate=6e-3, warmup_steps=20, decay="cosine", clip_norm=1.0, weight_decay=0.0),
        loop=LOOP.replace(num_steps=500, num_parts=1),
        losses=SCENE_LOSSES,
        model=tokenizer_preset("scenes").replace(num_bits=8),
    )
    session = train_tokenizer.build(spec, Team(), torch.device("cpu"), _silent)
    _train(spec, session, Team())
    session.export(str(folder / "tokenizer"))
    return str(folder / "tokenizer")


def control(folder: Path, manifest: str, tokenizer: str) -> TrainTransformerSpec:
    """The full recipe in small: wrong bits in the history, dropped captions and blocks."""
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


def switches(folder: Path) -> tuple[TrainTransformerSpec, list[Switch]]:
    """The control, and every switch with the control that it is compared with."""
    square, mixed = (make_manifest(folder / name, mixed=name == "mixed") for name in ("square", "mixed"))
    tokenizer = make_tokenizer(folder, mixed)
    full = control(folder, square, tokenizer)
    still = full.replace(model=full.model.replace(drop_path=0.0, condition_drop=0.0), self_correction=0.0)
    store = EncodeSpec(
        output=str(folder), manifest=square, resolution=RESOLUTION, tokenizer=tokenizer, text=full.text, workers=ONE
    )
    stores = {"latents": store.replace(text=None), "text": store.replace(tokenizer=None)}
    with in_process():
        for each in stores.values():
            encode.run(each)
    two = ONE.replace(num_workers=2)
    parts = {number: still.replace(loop=LOOP.replace(num_parts=number)) for number in (1, 4)}
    rows = [
        Switch("averaged weights (EMA)", full.replace(loop=LOOP.replace(ema_decay=None)), full, 0.0),
        Switch("accumulation: 4 parts of a batch for 1, nothing drawn", parts[1], parts[4], 1e-5),
        Switch("accumulation: 4 parts for 1, each with its draws", full.replace(loop=LOOP.replace(num_parts=1)),
               full.replace(loop=LOOP.replace(num_parts=4)), None),
        Switch("activation checkpointing", full, full.replace(recompute=True), 0.0),
        Switch("compiled blocks (torch.compile)", full, full.replace(engine=EngineConfig(compile=True)), 1e-5),
        Switch("attention with one dense mask", full, full.replace(engine=EngineConfig(attention="dense")), 1e-5),
        Switch("buckets: batches of one ratio for single pictures, of three ratios, nothing drawn",
               still.replace(manifest=mixed, loop=LOOP.replace(num_parts=LOOP.batch_size)),
               still.replace(manifest=mixed, loop=LOOP.replace(num_parts=1)), 1e-5),
        Switch("buckets: pictures of three ratios for squares (other pictures)", full, full.replace(manifest=mixed),
               None),
        Switch("two workers for one", full, full.replace(workers=two), 1e-5, processes=2),
        Switch("FSDP2 on two workers", full, full.replace(workers=two.replace(shard=True)), 1e-5, processes=2),
        Switch("stored latents", full, full.replace(encoded=stores["latents"].index), 0.0),
        Switch("stored text features", full, full.replace(encoded=stores["text"].index), 0.0),
    ]  # fmt: skip
    return full, rows


def measure(spec: TrainTransformerSpec, team: Team = Team(), *, nudged: bool = False) -> Run:  # noqa: B008 - frozen
    """Train, and look at the next batches; if nudged, from weights of which half are the next larger numbers."""
    torch.set_num_threads(1)
    session = train_transformer.build(spec, team, torch.device("cpu"), _silent)
    if nudged:
        _nudge(session)
    moments = _train(spec, session, team)
    rows = session.state.history
    tenth = max(1, len(rows) // 10)
    held = 0.0
    if team.size == 1:
        with torch.no_grad(), averaged(session.learner.module, session.state.ema):
            held = float(np.mean([_held(session, spec, LOOP.num_steps + n, team) for n in range(NUM_HELD)]))
    return Run(
        losses=tuple(row["loss"] for row in rows),
        accuracy=float(np.mean([row["bit_accuracy"] for row in rows[-tenth:]])),
        held=held,
        seconds=float(np.median([b - a for a, b in pairwise(moments)])),
    )


def _nudge(session: Session[Any]) -> None:
    generator = generator_for(0, "nudge")
    with torch.no_grad():
        for weight in session.state.module.parameters():
            chosen = torch.rand(weight.shape, generator=generator) < 0.5
            weight.copy_(torch.where(chosen, torch.nextafter(weight, weight + 1), weight))


def _held(session: Session[Any], spec: TrainTransformerSpec, step: int, team: Team) -> float:
    generator = generator_for(0, "held", step)
    losses = [session.learner.losses(part, generator, measured=False).per_sample for part in session.feed(step)]
    return float(torch.cat(losses).mean())


def _train(spec: TrainSpec, session: Session[Any], team: Team) -> list[float]:
    """Train without storing anything; the time of every step."""
    moments: list[float] = []
    ears = Listeners(
        log=lambda _: moments.append(time.perf_counter()),
        sample=lambda _: None,
        save=lambda _: None,
        rewind=_never,
    )
    loop, optimizer = spec.loop, spec.optimizer
    train(session.state, session.learner, session.feed, loop, optimizer, ears, seed=spec.seed, team=team)
    return moments


def _never(_: object) -> None:
    raise AssertionError("a benchmark's batches hold no poison")


def _silent(_share: float, _message: str) -> None:
    """Nobody watches."""


def _member(rank: int, folder: str, spec: str) -> None:
    """One of two processes; the first writes what came of it."""
    os.environ.update(GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    run = measure(TrainTransformerSpec.parse(spec), Team.current())
    if rank == 0:
        values = [list(run.losses), run.accuracy, run.held, run.seconds]
        (Path(folder) / "run.json").write_text(json.dumps(values))
    dist.barrier()
    dist.destroy_process_group()


def measured(spec: TrainTransformerSpec, processes: int) -> Run:
    """Train in this process or in two."""
    if processes == 1:
        return measure(spec)
    with tempfile.TemporaryDirectory() as folder:
        spawn(_member, args=(folder, spec.dump()), nprocs=processes)
        losses, accuracy, held, seconds = json.loads((Path(folder) / "run.json").read_text())
        return Run(tuple(losses), accuracy, held, seconds)


@dataclass(frozen=True)
class Noise:
    """How far trainings differ that mean the same.

    Attributes:
        rounding: Largest difference of a logged loss between the control and itself from weights that differ in their
            last bit.
        ends: Losses at the end of trainings that differ in their seed.
    """

    rounding: float
    ends: tuple[float, ...]

    @property
    def spread(self) -> float:
        """From the smallest end to the largest."""
        return max(self.ends) - min(self.ends)


def difference(a: Run, b: Run, steps: int | None = None) -> float:
    """Largest difference of the losses of the first steps, or of all."""
    pairs = zip(a.losses[:steps], b.losses[:steps], strict=True)
    return max(abs(x - y) for x, y in pairs)


def verdict(switch: Switch, without: Run, within: Run, noise: Noise) -> str:
    """Whether the switch changes the training more than it may."""
    apart = abs(without.end - within.end)
    if switch.limit is None:
        same = apart <= 2 * noise.spread
    elif switch.limit == 0.0:
        same = without.losses == within.losses
    else:
        same = difference(without, within, EARLY) <= switch.limit and apart <= 0.1 * noise.spread
    return "the same" if same else "DIFFERENT"


def table(rows: Sequence[tuple[Switch, Run, Run]], noise: Noise) -> str:
    """The page."""
    lines = [
        "# Switches of a training",
        "",
        "Each switch against the same training without it: `python -m benchmarks.switches`, on a CPU. A transformer",
        f"of three blocks learns drawn scenes of {SIZE_PX} pixels for {LOOP.num_steps} steps of {LOOP.batch_size}",
        "pictures, with wrong bits in the history, dropped captions and blocks, and both see the same batches.",
        "",
        f"- *Differences* are the largest of the logged losses, in the first {EARLY} steps and in all. From weights of",
        "  which half are the next larger float32 the control's own losses differ by up to "
        f"{noise.rounding:.2g}: rounding grows.",
        "- *At the end* is the mean loss of the last tenth of the steps in nats a bit. Trainings that differ in their",
        f"  seed end at {', '.join(f'{end:.4f}' for end in noise.ends)}: {noise.spread:.3f} apart.",
        "- A switch either changes no bit; or stays within its limit at first and ends within a tenth of that spread;",
        "  or, where it changes what is drawn or seen, ends within twice the spread, which finds only large faults.",
        "- *Next batches* is the loss on the four batches after the last step, without draws, with averaged weights",
        "  where there are any; not measured with two workers.",
        "",
        "| switch | differences: at first, in all | limit | at the end: without, with | next batches: without, with "
        "| bit accuracy: without, with | ms a step: without, with | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for switch, a, b in rows:
        held = f"{a.held:.4f}, {b.held:.4f}" if b.held else ""
        lines.append(
            f"| {switch.name} | {difference(a, b, EARLY):.2g}, {difference(a, b):.2g} | {_limit(switch.limit)} | "
            f"{a.end:.4f}, {b.end:.4f} | {held} | {a.accuracy:.3f}, {b.accuracy:.3f} | "
            f"{1000 * a.seconds:.0f}, {1000 * b.seconds:.0f} | {verdict(switch, a, b, noise)} |"
        )
    return "\n".join(lines) + "\n"


def _limit(limit: float | None) -> str:
    return "ends alike" if limit is None else "no bit" if limit == 0.0 else f"{limit:g}, ends alike"


def main() -> None:
    """Parse the command line, train everything, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/switches.md"))
    parser.add_argument("--only", default="", help="switches whose name holds this text; prints instead of writing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        full, rows = switches(Path(folder))
        seeds = [measure(full.replace(seed=seed)) for seed in (full.seed, *SEEDS)]
        rounding = difference(seeds[0], measure(full, nudged=True))
        noise = Noise(rounding=rounding, ends=tuple(run.end for run in seeds))
        known: dict[str, Run] = {full.digest(): seeds[0]}
        found = []
        for switch in rows:
            if args.only in switch.name:
                key = switch.without.digest()
                known[key] = known.get(key) or measured(switch.without, 1)
                found.append((switch, known[key], measured(switch.within, switch.processes)))
    page = table(found, noise)
    if args.only:
        print(page)
    else:
        args.output.write_text(page)


if __name__ == "__main__":
    main()
