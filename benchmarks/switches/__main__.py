"""Every switch of a training against the training without it, on the same batches: ``python -m benchmarks.switches``.

A tiny transformer learns drawn scenes on the CPU, in this process or in two. The table goes to ``docs/switches.md``;
what counts as the same is said in ``benchmarks.switches.rules``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.switches.data import LOOP, NUM_HELD, ONE, SIZE_PX, Bench, nobody, prepare, train_alone
from benchmarks.switches.rules import NUM_SEEDS, Rule, SwitchRow, SwitchRun, apart, prose, rules, table
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.base import Session
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.state import generator_for
from infinity.training.transformer.engine import EngineConfig

NUM_NUDGED = 3
"""Trainings from which the reach of rounding is taken, for each control."""


@dataclass(frozen=True)
class Switch:
    """What is trained for one row of the table.

    Attributes:
        rule: Rule by which the switch counts as changing nothing.
        without: The control.
        within: The same training with the switch.
        processes: Number of processes of the training with the switch.
        planted: Whether it is a fault, which the rule has to find.
    """

    name: str
    rule: Rule
    without: TrainTransformerSpec
    within: TrainTransformerSpec
    processes: int = 1
    planted: bool = False


def exact_switches(bench: Bench) -> list[Switch]:
    """Return the switches that compute the same numbers, or the same sums in another order."""
    full, still, stores = bench.full, bench.still, bench.stores
    two = ONE.replace(num_workers=2)
    one_part, four_parts = (still.replace(loop=LOOP.replace(num_parts=number)) for number in (1, 4))
    # Stored latents, since a bit that the tokenizer finds by a hair may fall otherwise in a batch of another size.
    single, bucket = (
        still.replace(manifest=bench.mixed, encoded=stores["mixed"], loop=LOOP.replace(num_parts=number))
        for number in (LOOP.batch_size, 1)
    )
    faster = still.optimizer.replace(learning_rate=1.001 * still.optimizer.learning_rate)
    return [
        Switch("averaged weights (EMA): what is averaged", "bits",
               full.replace(loop=LOOP.replace(ema_decay=None)), full),
        Switch("activation checkpointing", "bits", full, full.replace(recompute=True)),
        Switch("stored latents", "bits", full, full.replace(encoded=stores["latents"])),
        Switch("stored text features", "bits", full, full.replace(encoded=stores["text"])),
        Switch("another seed", "bits", full, full.replace(seed=1), planted=True),
        Switch("accumulation: 4 parts of a batch for 1, nothing drawn", "rounding", one_part, four_parts),
        Switch("compiled blocks (torch.compile)", "rounding", full, full.replace(engine=EngineConfig(compile=True))),
        Switch("attention with one dense mask", "rounding", full, full.replace(engine=EngineConfig(attention="dense"))),
        Switch("buckets: batches of one ratio for single pictures, of three ratios, nothing drawn", "rounding",
               single, bucket),
        Switch("two workers for one", "rounding", full, full.replace(workers=two), processes=2),
        Switch("FSDP2 on two workers", "rounding", full, full.replace(workers=two.replace(shard=True)), processes=2),
        Switch("the rate a thousandth higher", "rounding", one_part, one_part.replace(optimizer=faster), planted=True),
    ]  # fmt: skip


def drawn_switches(bench: Bench) -> list[Switch]:
    """Return switches that draw other numbers or see other pictures; averaged weights come from the controls."""
    full = bench.full
    parts = {number: full.replace(loop=LOOP.replace(num_parts=number)) for number in (1, 4)}
    slower = full.optimizer.replace(learning_rate=full.optimizer.learning_rate / 2)
    return [
        Switch("accumulation: 4 parts for 1, each with its draws", "seeds", parts[1], parts[4]),
        Switch("other pictures: of three ratios for squares, judged on squares", "seeds", full,
               full.replace(manifest=bench.mixed), planted=True),
        Switch("half the rate", "seeds", full, full.replace(optimizer=slower), planted=True),
    ]  # fmt: skip


class Trainer:
    """Trains what is asked for, every training once: what came of it is kept in the present folder."""

    def __init__(self, bench: Bench) -> None:
        self._judge = train_transformer.build(bench.still, ProcessGroup(), torch.device("cpu"), nobody)

    def run(self, spec: TrainTransformerSpec, *, processes: int = 1, nudged: int | None = None) -> SwitchRun:
        """Train, and judge what came of it; with a number, from weights that are nudged before every step."""
        name = hashlib.sha256(f"{spec.dump()} {processes} {nudged}".encode()).hexdigest()[:16]
        kept = Path("trainings") / f"{name}.json"
        if kept.exists():
            return SwitchRun.parse(kept.read_text())
        run = self._two(spec) if processes == 2 else measure(spec, self._judge, nudged=nudged)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(asdict(run)))
        return run

    def rounding(self, spec: TrainTransformerSpec) -> tuple[float, float]:
        """Return how far the losses of a training move by rounding, in the first steps and in all."""
        plain = self.run(spec)
        moved = [apart(plain, self.run(spec, nudged=number)) for number in range(NUM_NUDGED)]
        return max(first for first, _ in moved), max(whole for _, whole in moved)

    def row(self, switch: Switch) -> SwitchRow:
        """Return the figures of one row."""
        without, within = switch.without, switch.within
        seeds = range(NUM_SEEDS) if switch.rule == "seeds" else range(1)
        pairs = tuple(
            (self.run(_seeded(without, seed)), self.run(_seeded(within, seed), processes=switch.processes))
            for seed in seeds
        )
        rounding = self.rounding(without) if switch.rule == "rounding" else (0.0, 0.0)
        return SwitchRow(switch.name, switch.rule, pairs, rounding, switch.planted)

    def averages(self, spec: TrainTransformerSpec) -> SwitchRow:
        """Averaged weights against the weights themselves, of the same trainings."""
        runs = [self.run(_seeded(spec, seed)) for seed in range(NUM_SEEDS)]
        pairs = tuple((run, replace(run, held=run.averaged)) for run in runs)
        return SwitchRow("averaged weights (EMA): the average for the weights themselves", "seeds", pairs)

    @staticmethod
    def _two(spec: TrainTransformerSpec) -> SwitchRun:
        with tempfile.TemporaryDirectory() as folder:
            spawn(_member, args=(folder, spec.dump()), nprocs=2)
            losses, seconds = json.loads((Path(folder) / "run.json").read_text())
        return SwitchRun(tuple(losses), "", None, None, seconds)


def _seeded(spec: TrainTransformerSpec, number: int) -> TrainTransformerSpec:
    """Return the training with the seed that lies so far from its own."""
    return spec if number == 0 else spec.replace(seed=spec.seed + number)


def measure(spec: TrainTransformerSpec, judge: Session[Any], *, nudged: int | None = None) -> SwitchRun:
    """Train in this process, and look at the next batches of ``judge``, which draws nothing."""
    torch.set_num_threads(1)
    session = train_transformer.build(spec, ProcessGroup(), torch.device("cpu"), nobody)
    if nudged is not None:
        session = _nudging(session, nudged)
    moments = train_alone(spec, session, ProcessGroup())
    state = session.state
    weights = {name: value.detach() for name, value in state.module.state_dict().items()}
    return SwitchRun(
        losses=tuple(row["loss"] for row in state.history),
        weights=_checksum(weights),
        held=_held(judge, weights),
        averaged=None if state.ema is None else _held(judge, state.ema.weights()),
        seconds=_median(moments),
    )


def _nudging(session: Session[Any], number: int) -> Session[Any]:
    """Return the training, but move half of the weights to the next larger or smaller number before every step."""

    def loader(step: int) -> Sequence[Any]:
        generator = generator_for(number, "nudge", step)
        with torch.no_grad():
            for weight in session.state.module.parameters():
                drawn = torch.rand(weight.shape, generator=generator)
                towards = torch.where(drawn < 0.25, weight - 1, torch.where(drawn < 0.5, weight + 1, weight))
                weight.copy_(torch.nextafter(weight, towards))
        return session.loader(step)

    return replace(session, loader=loader)


def _held(judge: Session[Any], weights: Mapping[str, Tensor]) -> float:
    """Loss of weights on the batches after the last step, without draws."""
    judge.task.module.load_state_dict(dict(weights))
    judge.task.module.eval()
    losses = []
    with torch.no_grad():
        for step in range(LOOP.num_steps, LOOP.num_steps + NUM_HELD):
            generator = generator_for(0, "held", step)
            losses += [judge.task.losses(part, generator, measured=False).per_sample for part in judge.loader(step)]
    return float(torch.cat(losses).mean())


def _checksum(weights: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def _median(moments: Sequence[float]) -> float:
    return float(np.median([b - a for a, b in pairwise(moments)]))


def _member(rank: int, folder: str, spec: str) -> None:
    """One of two processes; the first writes what came of it."""
    os.environ.update(GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    parsed = TrainTransformerSpec.parse(spec)
    session = train_transformer.build(parsed, ProcessGroup.current(), torch.device("cpu"), nobody)
    moments = train_alone(parsed, session, ProcessGroup.current())
    if rank == 0:
        values = [[row["loss"] for row in session.state.history], _median(moments)]
        (Path(folder) / "run.json").write_text(json.dumps(values))
    dist.barrier()
    dist.destroy_process_group()


def page(rows: Sequence[SwitchRow]) -> str:
    """Return the page of the documentation."""
    lines = [
        "# Switches of a training",
        "",
        prose(
            "Each switch against the same training without it: `python -m benchmarks.switches`, float32 on a CPU. A "
            f"transformer of three blocks learns drawn scenes of {SIZE_PX} pixels for {LOOP.num_steps} steps of "
            f"{LOOP.batch_size} pictures, with wrong bits in the history and with dropped captions and blocks, unless "
            "a row says that nothing is drawn. Control and switch see the same batches. Losses are in nats per bit; "
            f"*next batches* is the loss on the {NUM_HELD} batches of squares after the last step, without draws."
        ),
        "",
        "These rules were written down before this table was made:",
        "",
        *rules(NUM_NUDGED),
        *table(rows),
        "",
        prose(
            "An interval that holds 0 means that these seeds do not tell the two apart, whatever the rule says of the "
            "mean. A training on pictures of three ratios sees a third of the squares, so the rule has to tell it "
            "from one on squares alone. What batches of one ratio change by themselves stands under rounding."
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line, train everything, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/switches.md"))
    parser.add_argument("--work", type=Path, help="folder that keeps finished trainings; a fleeting one if left out")
    parser.add_argument("--only", default="", help="switches whose name holds this text; prints instead of writing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    output = args.output.absolute()
    with tempfile.TemporaryDirectory() as fleeting:
        folder = args.work or Path(fleeting)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)  # names of data sets hold their paths, and the order of pictures follows from the names
        bench = prepare(Path())
        trainer, rows = Trainer(bench), []
        for switch in (*exact_switches(bench), *drawn_switches(bench)):
            if args.only in switch.name:
                rows.append(trainer.row(switch))
                print(rows[-1].name, rows[-1].verdict, flush=True)
        if not args.only:
            rows.append(trainer.averages(bench.full))
        os.chdir("/")
    if args.only:
        print(page(rows))
    else:
        output.write_text(page(rows))


if __name__ == "__main__":
    main()
