"""The loop advances, stops where it must, and one batch is the same however it is divided."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from infinity.training.loop import LoopConfig, NonFiniteLossError
from infinity.training.parallel import Team
from tests.infinity.training.toy import BATCH, Regression, assert_same, new_state, run

CONFIG = LoopConfig(
    num_steps=12, batch_size=BATCH, log_every_steps=5, save_every_steps=4, sample_every_steps=100, ema_decay=0.9
)


def test_the_loss_falls_and_every_due_step_is_logged_once() -> None:
    state = run(CONFIG.replace(num_steps=102, ema_decay=None))
    assert [row["step"] for row in state.history] == [*range(5, 105, 5), 102]
    assert state.history[-1]["loss"] < 0.5 * state.history[0]["loss"]
    assert {"loss", "learning_rate", "grad_norm", "pictures_per_s", "mean_error", "step"} == state.history[0].keys()
    assert all(math.isfinite(value) for row in state.history for value in row.values())


@pytest.mark.parametrize("step", [4, 8])
def test_a_resumed_run_equals_the_uninterrupted_run_bit_for_bit(tmp_path: Path, step: int) -> None:
    whole = run(CONFIG, saves=tmp_path)
    resumed = run(CONFIG, resume=tmp_path / str(step))
    assert_same(whole, resumed)
    timed = {"pictures_per_s"}
    assert [{k: v for k, v in row.items() if k not in timed} for row in whole.history] == [
        {k: v for k, v in row.items() if k not in timed} for row in resumed.history
    ]


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    whole = run(CONFIG, saves=tmp_path)
    assert_same(whole, run(CONFIG, resume=tmp_path / "12"))


def test_accumulated_parts_equal_the_big_batch() -> None:
    """Up to the order of sums: the parts draw their own noise, so it is off."""
    whole = run(CONFIG, learner=Regression(noise=0.0))
    parts = run(CONFIG.replace(accumulate=3), learner=Regression(noise=0.0))
    assert_same(whole, parts, exact=False)
    assert whole.history[-1]["mean_error"] == pytest.approx(parts.history[-1]["mean_error"], rel=1e-4)


def test_a_non_finite_loss_stops_before_the_update_and_names_the_sample(tmp_path: Path) -> None:
    learner = Regression(spoil="sample-6-2")
    with pytest.raises(NonFiniteLossError, match=r"step 7: loss nan.*samples sample-6-2"):
        run(CONFIG.replace(save_every_steps=1), learner=learner, saves=tmp_path)
    before = new_state(Regression(), CONFIG)
    before.load(tmp_path / "6")
    for name, value in before.module.state_dict().items():
        assert torch.equal(value, learner.module.state_dict()[name])


def test_a_gradient_that_overflows_stops_too() -> None:
    class Overflow(Regression):
        def losses(self, part, generator, *, measured):  # type: ignore[no-untyped-def]
            losses = super().losses(part, generator, measured=measured)
            return type(losses)(losses.per_sample * 1e25, losses.shared, losses.metrics)

    with pytest.raises(NonFiniteLossError, match=r"gradient norm inf.*no single sample"):
        run(CONFIG, learner=Overflow())


def test_the_learner_may_stop_a_run_whose_figures_are_hopeless() -> None:
    class Hopeless(Regression):
        def check(self, metrics, step):  # type: ignore[no-untyped-def]
            if step >= 10:
                raise RuntimeError(f"hopeless at step {step}")

    with pytest.raises(RuntimeError, match="hopeless at step 10"):
        run(CONFIG, learner=Hopeless())


def _two_ranks(rank: int, folder: str) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    team = Team.current()
    run(CONFIG, learner=Regression(noise=0.0), saves=Path(folder) / f"rank-{rank}", team=team)
    try:
        run(CONFIG, learner=Regression(spoil="sample-6-2"), team=team)
    except NonFiniteLossError as error:
        (Path(folder) / f"error-{rank}").write_text(str(error))
    dist.destroy_process_group()


def test_two_ranks_equal_one_on_the_same_batches_and_stop_together(tmp_path: Path) -> None:
    mp.spawn(_two_ranks, args=(str(tmp_path),), nprocs=2)
    alone = run(CONFIG, learner=Regression(noise=0.0), saves=tmp_path / "alone")
    for rank in (0, 1):
        state = run(CONFIG, resume=tmp_path / f"rank-{rank}" / "12")
        assert_same(alone, state, exact=False)
        assert state.history[-1]["mean_error"] == pytest.approx(alone.history[-1]["mean_error"], rel=1e-4)
        assert "samples sample-6-2" in (tmp_path / f"error-{rank}").read_text()


def test_shares_of_all_ranks_and_parts_are_the_batch() -> None:
    items = tuple(range(7))
    shares = [Team(rank=r, size=2).share(items, part, 3) for r in (0, 1) for part in range(3)]
    assert sorted(item for share in shares for item in share) == list(items)


@pytest.mark.parametrize("name", ["num_steps", "batch_size", "accumulate", "log_every_steps"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"LoopConfig.{name}: expected at least 1, got 0"):
        CONFIG.replace(**{name: 0})
