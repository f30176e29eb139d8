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
from infinity.jobs.train_tokenizer import TrainTokenizerSpec
from infinity.jobs.train_transformer import TrainTransformerSpec
from infinity.jobs.training import Session, TrainSpec, WorkersConfig
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.ema import averaged
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
        limit: Largest difference that a logged loss may have at any step; None where the switch changes what is drawn
            or seen, so that only the ends can be compared.
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
    """A tokenizer that was trained a little."""
    spec = TrainTokenizerSpec(
        output=str(folder),
        manifest=manifest,
        resolution=RESOLUTION,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        loop=LOOP.replace(num_steps=80, num_parts=1),
        model=TokenizerConfig(
            num_bits=8,
            base_width=8,
            encoder_multipliers=(1, 2, 2, 2),
            decoder_multipliers=(1, 2, 2, 2),
            num_res_blocks=1,
            num_downsamples=3,
            norm_groups=4,
        ),
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
    tokenizer = make_tokenizer(folder, square)
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
        Switch("buckets: three aspect ratios for one (other pictures)", full, full.replace(manifest=mixed), None),
        Switch("two workers for one", full, full.replace(workers=two), 1e-5, processes=2),
        Switch("FSDP2 on two workers", full, full.replace(workers=two.replace(shard=True)), 1e-5, processes=2),
        Switch("stored latents", full, full.replace(encoded=stores["latents"].index), 0.0),
        Switch("stored text features", full, full.replace(encoded=stores["text"].index), 0.0),
    ]  # fmt: skip
    return full, rows


def measure(spec: TrainTransformerSpec, team: Team = Team()) -> Run:  # noqa: B008 - frozen
    """Train, and look at the next batches."""
    torch.set_num_threads(1)
    session = train_transformer.build(spec, team, torch.device("cpu"), _silent)
    moments = _train(spec, session, team)
    rows = session.state.history
    tenth = max(1, len(rows) // 10)
    held = 0.0
    if not session.joint:
        with torch.no_grad(), averaged(session.learner.module, session.state.ema):
            held = float(np.mean([_held(session, spec, LOOP.num_steps + n, team) for n in range(NUM_HELD)]))
    return Run(
        losses=tuple(row["loss"] for row in rows),
        accuracy=float(np.mean([row["bit_accuracy"] for row in rows[-tenth:]])),
        held=held,
        seconds=float(np.median([b - a for a, b in pairwise(moments)])),
    )


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


def table(rows: Sequence[tuple[Switch, Run, Run]], spread: float, seeds: Sequence[Run]) -> str:
    """The page."""
    lines = [
        "# Switches of a training",
        "",
        "Each switch against the same training without it: `python -m benchmarks.switches`, on a CPU. A transformer of "
        f"three blocks learns drawn scenes of {SIZE_PX} pixels for {LOOP.num_steps} steps of {LOOP.batch_size} "
        "pictures with wrong bits in the history, dropped captions and blocks; control and switch see the same "
        "batches. *Largest difference* is that of the logged losses over all steps. *At the end* is the mean loss of "
        "the last tenth of the steps in nats a bit, *next batches* the loss on the four batches after them (averaged "
        "weights where there are any; not measured for shared-out weights).",
        "",
        f"Trainings that differ in their seed alone end at {', '.join(f'{run.end:.4f}' for run in seeds)}: within "
        f"{spread:.4f}. A switch that changes what is drawn or seen must stay within twice that; every other one must "
        "stay below its limit at each step.",
        "",
        "| switch | largest difference | limit | at the end: without, with | next batches: without, with | bit "
        "accuracy: without, with | ms a step: without, with | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for switch, a, b in rows:
        differ = max(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True))
        held = "" if not b.held else f"{a.held:.4f}, {b.held:.4f}"
        lines.append(
            f"| {switch.name} | {differ:.2g} | {_limit(switch.limit)} | {a.end:.4f}, {b.end:.4f} | {held} | "
            f"{a.accuracy:.3f}, {b.accuracy:.3f} | {1000 * a.seconds:.0f}, {1000 * b.seconds:.0f} | "
            f"{verdict(switch, a, b, spread)} |"
        )
    return "\n".join(lines) + "\n"


def _limit(limit: float | None) -> str:
    return "ends alike" if limit is None else "none: equal bit for bit" if limit == 0.0 else f"{limit:g}"


def verdict(switch: Switch, without: Run, within: Run, spread: float) -> str:
    """Whether the switch changes the training more than it may."""
    if switch.limit is None:
        return "the same" if abs(without.end - within.end) <= 2 * spread else "DIFFERENT"
    differ = max(abs(x - y) for x, y in zip(without.losses, within.losses, strict=True))
    return "the same" if differ <= switch.limit else "DIFFERENT"


def main() -> None:
    """Parse the command line, train everything, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/switches.md"))
    parser.add_argument("--only", default="", help="switches whose name holds this text; prints instead of writing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        full, rows = switches(Path(folder))
        seeds = [measure(full.replace(seed=seed)) for seed in (0, *SEEDS)]
        ends = [run.end for run in seeds]
        spread = max(ends) - min(ends)
        known: dict[str, Run] = {full.digest(): seeds[0]}
        found = []
        for switch in rows:
            if args.only in switch.name:
                key = switch.without.digest()
                known[key] = known.get(key) or measured(switch.without, 1)
                found.append((switch, known[key], measured(switch.within, switch.processes)))
    page = table(found, spread, seeds)
    if args.only:
        print(page)
    else:
        args.output.write_text(page)


if __name__ == "__main__":
    main()
