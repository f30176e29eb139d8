"""Workers with unequal work, some with none, end together and give the training of one process.

``pytest --exhaustive`` runs two and three workers, parts 1 to 8 and any left-out sample, each with and without a kill
between, that the same and the other number of workers goes on from; by default a few of these run.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity.checkpoint import load_checkpoint
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.guard import GuardConfig
from infinity.training.learner import LoopConfig, Losses, NonFiniteLossError
from infinity.training.loaders.latents import LatentBatch
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.loop import train
from tests.fixtures.data.training_pictures import RESOLUTION, make_data
from tests.fixtures.jobs.process_groups import error_of, exit_codes, work_together
from tests.fixtures.jobs.toy_training import BATCH, Numbers, Regression, all_states, assert_same, quiet, run
from tests.fixtures.jobs.training_sessions import LOOP, OPTIMIZER, make_tokenizer, session, transformer_spec
from tests.fixtures.limits import AGES_S

CLOSE = 1e-5
STEPS, KILLED = 4, 2
LONG = LOOP.replace(
    num_steps=STEPS, save_every_steps=KILLED, log_every_steps=1, guard=GuardConfig(repeats=1, max_rewinds=1)
)
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # nothing changes its views in place


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: parts of a batch of all eight pictures, and the pictures whose loss is not a number."""

    parts: int
    bad: tuple[int, ...] = ()
    shard: bool = True

    @property
    def name(self) -> str:
        """Of a folder."""
        return f"{self.parts}-{'.'.join(map(str, self.bad))}-{self.shard}"

    def spec(self, folder: Path, size: int) -> TrainTransformerSpec:
        """With so many workers."""
        data = str(folder / "data" / "manifest.parquet"), str(folder / "data" / "tokenizer")
        workers = WorkersConfig(num_workers=size, threads=1, shard=self.shard and size > 1)
        return transformer_spec(folder, *data, loop=LONG.replace(num_parts=self.parts), workers=workers)


ALL = [
    Cell(parts, bad, shard)
    for shard in (True, False)
    for parts in range(2, 9)
    for bad in ((), *((picture,) for picture in range(BATCH)))
]
FEW = [Cell(3), Cell(8, (5,)), Cell(4, (0, 1, 2, 3, 4, 6, 7)), Cell(5, (2,), shard=False)]


class Spoiled:
    """A task that finds no number for some pictures, and may be killed in the middle of a step."""

    def __init__(self, task: Any, bad: Iterable[str], *, dies_at: int | None = None) -> None:
        self._task, self._bad, self._left = task, frozenset(bad), dies_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def losses(self, part: LatentBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        found: Losses = self._task.losses(part, generator, measured=measured)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        factors = torch.tensor([float("nan") if key in self._bad else 1.0 for key in part.keys])
        return Losses(found.per_sample * factors, found.shared, found.metrics)


def train_cell(
    folder: Path, cell: Cell, group: ProcessGroup, saves: str, *, resume: str | None = None, dies_at: int | None = None
) -> None:
    """To the end, or from the state of another run at ``KILLED`` to the end."""
    spec = cell.spec(folder, group.size)
    made, writers = session(spec, group), group if cell.shard else ProcessGroup()
    if resume is not None:
        place = folder / resume / cell.name
        all_states(place, writers).restore(made.state, str(place / f"step-{KILLED:08d}"))
    task = Spoiled(made.task, (f"picture-{number}.png" for number in cell.bad), dies_at=dies_at)
    place = folder / saves if cell.shard or group.leads else folder / f"{saves}-{group.rank}"
    train(
        made.state,
        task,
        made.loader,
        spec.loop,
        OPTIMIZER,
        quiet(place / cell.name, writers),
        seed=spec.seed,
        group=group,
    )


def trained(folder: Path, cells: Sequence[Cell], size: int, saves: str, *, resume: str | None = None) -> None:
    """Train all of them, one after the other, in one group of processes."""

    def work(group: ProcessGroup) -> None:
        for cell in cells:
            train_cell(folder, cell, group, saves, resume=resume)

    work_together(size, work, folder / f"meeting-{saves}", patience_s=AGES_S + 20 * len(cells), answer_s=60)


def difference(folder: Path, cell: Cell, saves: str, *, other: str = "alone") -> float:
    """The largest of all weights, averages and running means, and of the losses and gradient norms of all steps."""
    ends = [load_checkpoint(str(folder / each / cell.name / f"step-{STEPS:08d}")) for each in (saves, other)]
    mine, theirs = ends
    assert mine.tensors.keys() == theirs.tensors.keys()
    assert mine.extra["banned"] == theirs.extra["banned"]
    largest = max(float((value - theirs.tensors[name]).abs().max()) for name, value in mine.tensors.items())
    rows = zip(mine.extra["history"], theirs.extra["history"], strict=True)
    return max(largest, *(abs(a[name] - b[name]) for a, b in rows for name in ("loss", "grad_norm")))


@pytest.fixture(scope="module")
def cells(exhaustive: bool) -> list[Cell]:
    return ALL if exhaustive else FEW


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cells: list[Cell]) -> Path:
    """Every cell trained to the end by one, two and three processes, without a kill."""
    folder = tmp_path_factory.mktemp("uneven")
    make_tokenizer(folder / "data", make_data(folder / "data", num_train=BATCH))
    for cell in cells:
        train_cell(folder, cell, ProcessGroup(), "alone")
    for size in (2, 3):
        trained(folder, [cell for cell in cells if cell.parts >= size], size, f"by-{size}")
    return folder


@pytest.mark.parametrize("size", [2, 3])
def test_any_parts_and_left_out_samples_give_the_training_of_one_process(
    folder: Path, cells: list[Cell], size: int
) -> None:
    found = {cell: difference(folder, cell, f"by-{size}") for cell in cells if cell.parts >= size}
    print(f"{size} workers: {len(found)} trainings, largest difference {max(found.values()):.1e}")
    assert max(found.values()) < CLOSE, found
    for cell in found:
        left_out = load_checkpoint(str(folder / f"by-{size}" / cell.name / f"step-{STEPS:08d}")).extra["banned"]
        assert left_out == [f"picture-{number}.png" for number in cell.bad]


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (2, 2), (3, 3)])
def test_a_killed_training_goes_on_with_the_same_or_another_number_of_workers(
    folder: Path, cells: list[Cell], before: int, after: int, exhaustive: bool
) -> None:
    if before == after and not exhaustive:
        pytest.skip("the same number goes on in a test of its own; all cells run with --exhaustive")
    some = [cell for cell in cells if cell.parts >= max(before, after)]
    trained(folder, some, after, f"by-{after}-after-{before}", resume=f"by-{before}")
    found = {cell: difference(folder, cell, f"by-{after}-after-{before}") for cell in some}
    print(f"{before} workers, then {after}: {len(found)} trainings, largest difference {max(found.values()):.1e}")
    assert max(found.values()) < CLOSE, found


def test_a_left_out_sample_makes_another_training(folder: Path) -> None:
    """So that equal trainings say something."""
    train_cell(folder, Cell(8, (5,)), ProcessGroup(), "with-one-left-out")
    train_cell(folder, Cell(8), ProcessGroup(), "with-all")
    ends = [
        load_checkpoint(str(folder / saves / cell.name / f"step-{STEPS:08d}")).tensors
        for saves, cell in (("with-one-left-out", Cell(8, (5,))), ("with-all", Cell(8)))
    ]
    assert max(float((value - ends[1][name]).abs().max()) for name, value in ends[0].items()) > 100 * CLOSE


@pytest.mark.parametrize("shard", [True, False])
def test_a_worker_that_is_killed_in_a_step_leaves_no_other_waiting(folder: Path, shard: bool) -> None:
    cell = Cell(5, shard=shard)
    third_step = 2 * (3 if shard else 2) + 2  # of its passes this one is the second of that step

    def work(group: ProcessGroup) -> None:
        train_cell(folder, cell, group, "killed", dies_at=third_step if group.rank == 1 else None)

    meeting = folder / f"meeting-killed-{shard}"
    assert exit_codes(2, work, meeting) == [1, -signal.SIGKILL]
    assert re.search("closed|reset", error_of(meeting, 0).read_text()), "the connection says it, not a time-out"
    trained(folder, [cell], 3, f"after-a-kill-{shard}", resume="killed")
    train_cell(folder, cell, ProcessGroup(), "alone")
    assert difference(folder, cell, f"after-a-kill-{shard}") < CLOSE


@pytest.mark.parametrize(("size", "parts"), [(2, 1), (3, 1), (3, 2), (100, 8)])
def test_more_workers_than_parts_are_refused_by_the_spec(tmp_path: Path, size: int, parts: int) -> None:
    with pytest.raises(ValueError, match=f"num_workers: {size} workers.*loop.num_parts {parts}"):
        Cell(parts).spec(tmp_path, size)


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("parts", range(1, 9))
def test_workers_make_equally_many_passes_that_hold_their_parts(size: int, parts: int) -> None:
    groups = [ProcessGroup(rank, size) for rank in range(size)]
    passes = [list(group.passes(parts)) for group in groups]
    assert len({len(each) for each in passes}) == 1
    assert len(passes[0]) == len(groups[0].micro_batches(parts)), "no more than the one with the most parts needs"
    for group, each in zip(groups, passes, strict=True):
        assert each[: len(group.micro_batches(parts))] == list(group.micro_batches(parts))


TOY = LoopConfig(num_steps=12, batch_size=BATCH, log_every_steps=1, save_every_steps=4, sample_every_steps=100)


def banned_batches(numbers: Iterable[int]) -> list[str]:
    return [f"sample-{batch}-{row}" for batch in numbers for row in range(BATCH)]


def test_a_batch_of_which_nothing_is_left_is_no_update() -> None:
    def ban(state: Any) -> None:
        state.excluded = banned_batches((3, 4, 9))

    left_out = run(TOY, save=ban)
    assert_same(left_out, run(TOY.replace(skip_batches=(3, 4, 9))))
    assert left_out.position == TOY.num_steps + 3


def test_a_training_of_which_nothing_is_left_ends_with_a_sentence() -> None:
    def ban(state: Any) -> None:
        state.excluded = banned_batches(range(2, 100))

    config = TOY.replace(guard=GuardConfig(max_skipped=5))
    with pytest.raises(NonFiniteLossError, match=r"nothing is left of 6 batches in a row, guard\.max_skipped allows 5"):
        run(config, save=ban)


def test_blank_samples_cost_a_pass_and_say_nothing(folder: Path) -> None:
    part = Numbers(("a", "b"), torch.full((2, 4), float("nan")))
    losses = Regression().losses(part.blank(), torch.Generator(), measured=False)
    assert losses.per_sample.shape == (2,)
    assert bool(torch.isfinite(losses.per_sample).all())
    (latents,) = session(Cell(1).spec(folder, 1)).loader(0)
    nothing = latents.blank()
    assert (nothing.latents.shape, nothing.text.lengths) == (latents.latents.shape, latents.text.lengths)
    assert not nothing.latents.any()
    assert not nothing.text.features_TD.any()
    pictures = PictureBatch(("a", "b"), (3, 4), RESOLUTION.schedule(1.0), torch.full((2, 16, 16, 3), 9).byte(), 8)
    assert not pictures.blank().images_BHWC.any()
    assert nothing.without(frozenset(latents.keys)) is nothing, "blank samples have no names"
    assert pictures.blank().without(frozenset(pictures.keys)) is not None
