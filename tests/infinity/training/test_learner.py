"""The loop advances, stops where it must, and one batch is the same however it is divided."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from infinity.training.distributed.parallel import ProcessGroup, micro_batch_of
from infinity.training.learner import LoopConfig, Losses
from infinity.training.meter import TIMED
from infinity.training.state import MetricRow
from tests.fixtures.jobs.toy_training import BATCH, Numbers, Regression, assert_same, run

CONFIG = LoopConfig(
    num_steps=12, batch_size=BATCH, log_every_steps=5, save_every_steps=4, sample_every_steps=100, ema_decay=0.9
)
TWO_PARTS = CONFIG.replace(num_parts=2)


def test_the_loss_falls_and_every_due_step_is_logged_once() -> None:
    state = run(CONFIG.replace(num_steps=102, ema_decay=None))
    assert [row["step"] for row in state.history] == [*range(5, 105, 5), 102]
    assert state.history[-1]["loss"] < 0.5 * state.history[0]["loss"]
    assert {
        "loss",
        "learning_rate",
        "grad_norm",
        *(TIMED - {"mfu"}),
        "skipped",
        "mean_error",
        "step",
    } == state.history[0].keys()
    assert all(math.isfinite(value) for row in state.history for value in row.values())


class Parted(Regression):
    """Three quarters of the loss are neither logged nor judged, but trained on."""

    def losses(self, part: Numbers, generator: torch.Generator, *, measured: bool) -> Losses:
        whole = super().losses(part, generator, measured=measured)
        guarded = whole.per_sample * 0.25
        return Losses(guarded, whole.shared, whole.metrics, unguarded=(whole.per_sample * 0.75).mean())


@pytest.mark.parametrize("num_parts", [1, 2])
def test_what_is_neither_logged_nor_judged_is_trained_on_all_the_same(num_parts: int) -> None:
    config = CONFIG.replace(num_parts=num_parts)
    parted, whole = run(config, task=Parted()), run(config)
    assert_same(parted, whole, exact=False)
    for a, b in zip(parted.history, whole.history, strict=True):
        assert a["loss"] == pytest.approx(0.25 * b["loss"], rel=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("step", range(13))
def test_a_run_resumed_at_any_step_equals_the_uninterrupted_run_bit_for_bit(tmp_path: Path, step: int) -> None:
    every = CONFIG.replace(save_every_steps=1)
    whole = run(every, saves=tmp_path)
    resumed = run(every, resume=tmp_path / f"step-{step:08d}")
    assert_same(whole, resumed)
    assert untimed(whole.history) == untimed(resumed.history)


def test_parts_worked_off_by_one_or_by_several_are_the_same_run() -> None:
    """Up to the order of sums, noise and all: it belongs to the part."""
    config = CONFIG.replace(num_parts=4)
    whole = run(config)
    assert whole.history[-1]["mean_error"] != run(CONFIG).history[-1]["mean_error"]
    assert_same(run(config), whole)


def test_parts_equal_the_big_batch_where_nothing_is_drawn() -> None:
    whole = run(CONFIG, task=Regression(noise=0.0))
    parts = run(CONFIG.replace(num_parts=3), task=Regression(noise=0.0))
    assert_same(whole, parts, exact=False)
    assert whole.history[-1]["mean_error"] == pytest.approx(parts.history[-1]["mean_error"], rel=1e-4)


def untimed(history: list[MetricRow]) -> list[MetricRow]:
    return [{name: value for name, value in row.items() if name not in TIMED} for row in history]


def test_the_learner_may_stop_a_run_whose_figures_are_hopeless() -> None:
    class Hopeless(Regression):
        def check(self, history):  # type: ignore[no-untyped-def]
            if history[-1]["step"] >= 10:
                raise RuntimeError(f"hopeless at step {history[-1]['step']:.0f}")

    with pytest.raises(RuntimeError, match="hopeless at step 10"):
        run(CONFIG, task=Hopeless())


def _two_ranks(rank: int, folder: str) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    group = ProcessGroup.current()
    run(TWO_PARTS, saves=Path(folder) / f"rank-{rank}", group=group)
    poisoned = run(TWO_PARTS, task=Regression(spoil="sample-6-2"), group=group)
    (Path(folder) / f"skipped-{rank}").write_text(str(*poisoned.skipped))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the states of a run of two workers, with and without poison."""
    folder = tmp_path_factory.mktemp("two-ranks")
    mp.spawn(_two_ranks, args=(str(folder),), nprocs=2)
    return folder


def test_two_ranks_equal_one_on_the_same_batches_and_skip_together(two_ranks: Path) -> None:
    alone = run(TWO_PARTS)
    for rank in (0, 1):
        state = run(TWO_PARTS, resume=two_ranks / f"rank-{rank}" / "step-00000012")
        assert_same(alone, state, exact=False)
        for mine, theirs in zip(alone.history, state.history, strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert "batch 6 at step 7: loss nan" in (two_ranks / f"skipped-{rank}").read_text()


def test_a_run_goes_on_with_another_number_of_workers(two_ranks: Path) -> None:
    """Two workers to step 4 or 8, one to the end."""
    whole = run(TWO_PARTS)
    for step in (4, 8):
        resumed = run(TWO_PARTS, resume=two_ranks / "rank-0" / f"step-{step:08d}")
        assert_same(resumed, whole, exact=False)


def test_more_workers_than_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 workers need at least as many micro-batches"):
        run(CONFIG, group=ProcessGroup(rank=0, size=2))


def test_parts_of_all_ranks_are_the_batch() -> None:
    items = tuple(range(7))
    dealt = [
        micro_batch_of(items, part, 3) for rank in (0, 1) for part in ProcessGroup(rank=rank, size=2).micro_batches(3)
    ]
    assert sorted(item for part in dealt for item in part) == list(items)


@pytest.mark.parametrize("name", ["num_steps", "batch_size", "num_parts", "log_every_steps"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"LoopConfig.{name}: expected at least 1, got 0"):
        CONFIG.replace(**{name: 0})
