"""Poison is kept from the weights: skipped, gone back from, and bounded."""

import random
from pathlib import Path

import pytest
import torch

from infinity.training.guard import GuardConfig
from infinity.training.learner import LoopConfig, Losses, NonFiniteLossError
from tests.fixtures.jobs.toy_training import BATCH, Numbers, Regression, assert_same, run

CONFIG = LoopConfig(
    num_steps=24, batch_size=BATCH, log_every_steps=5, save_every_steps=6, sample_every_steps=100, ema_decay=0.9
)
KINDS = {"nan": float("nan"), "infinite": float("inf"), "times 1000": 1000.0}


class Poisoned(Regression):
    """The losses of some batches, or of some samples, are spoiled."""

    def __init__(self, batches: dict[int, float], samples: dict[str, float] | None = None) -> None:
        super().__init__()
        self.batches, self.samples = batches, samples or {}
        self.seen: list[str] = []

    def losses(self, part: Numbers, generator: torch.Generator, *, measured: bool) -> Losses:
        losses = super().losses(part, generator, measured=measured)
        self.seen += part.keys
        batch = int(part.keys[0].split("-")[1])
        factors = [self.samples.get(key, self.batches.get(batch, 1.0)) for key in part.keys]
        return Losses(losses.per_sample * torch.tensor(factors), losses.shared, losses.metrics)


@pytest.mark.parametrize(
    "wrong",
    [{"explosion": 1.0}, {"window": 0}, {"repeats": 0}, {"max_rewinds": -1}, {"max_skipped": -1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        GuardConfig(**wrong)  # type: ignore[arg-type]


def test_the_strictest_limits_are_possible() -> None:
    config = GuardConfig(explosion=1.01, window=1, repeats=1, max_rewinds=0, max_skipped=0)
    assert (config.max_rewinds, config.max_skipped) == (0, 0)
    assert GuardConfig(explosion=None).limit([1.0], 1.0) == float("inf")


def test_the_limit_is_a_multiple_of_the_median_or_of_the_start() -> None:
    config = GuardConfig(explosion=4.0)
    assert config.limit([], 0.7) == pytest.approx(2.8)
    assert config.limit([1.0, 50.0, 3.0], 0.7) == pytest.approx(12.0)
    assert config.limit([-2.0], 0.7) == pytest.approx(8.0)
    assert 0 < config.limit([0.0], 0.7) < 2.8, "a loss near zero has a floor"


@pytest.mark.parametrize("trial", range(8))
def test_a_poisoned_run_equals_one_that_never_had_those_batches(trial: int, exhaustive: bool) -> None:
    draw = random.Random(trial)
    for _ in range(20 if exhaustive else 1):
        apart = draw.sample(range(0, 26, 2), k=draw.randint(1, 5))  # never three in a row
        poisons = {batch: draw.choice(list(KINDS.values())) for batch in apart}
        poisoned = run(CONFIG, task=Poisoned(poisons))
        clean = run(CONFIG.replace(skip_batches=tuple(apart)))
        assert_same(poisoned, clean)
        assert [row["loss"] for row in poisoned.history] == [row["loss"] for row in clean.history]
        came = sorted(batch for batch in apart if batch < poisoned.position)
        assert [skipped.position for skipped in poisoned.skipped] == came


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_sample_is_named_and_its_batch_changes_nothing(kind: str) -> None:
    task = Poisoned({}, {"sample-9-3": KINDS[kind]})
    state = run(CONFIG, task=task)
    assert [(each.position, each.samples) for each in state.skipped] == [(9, ("sample-9-3",))]
    assert_same(state, run(CONFIG.replace(skip_batches=(9,))))
    assert state.history[-1]["skipped"] == 1


def test_several_in_a_row_go_back_to_the_checkpoint_and_leave_out_the_samples(tmp_path: Path) -> None:
    samples = {f"sample-{batch}-{batch % BATCH}": float("nan") for batch in (8, 9, 10)}
    task, notes = Poisoned({}, samples), []
    state = run(CONFIG, task=task, saves=tmp_path, note=notes.append)
    assert state.step == CONFIG.num_steps
    assert state.rewinds == 1
    assert state.excluded == sorted(samples)
    assert "went back from step 8 to step 6" in notes[-1]
    assert all(name in notes[-1] for name in samples)
    assert [task.seen.count(name) for name in samples] == [1, 1, 1], "never shown again"
    assert task.seen.count("sample-8-1") == 2, "its neighbours are"


def test_whole_batches_in_a_row_are_left_out_by_number(tmp_path: Path) -> None:
    state = run(CONFIG, task=Poisoned(dict.fromkeys((8, 9, 10), float("inf"))), saves=tmp_path)
    assert (state.rewinds, state.left_out) == (1, [8, 9, 10])
    assert_same(state, run(CONFIG.replace(skip_batches=(8, 9, 10))))


def test_a_run_that_stays_bad_ends_with_a_clear_error_and_unchanged_weights(tmp_path: Path) -> None:
    forever = Poisoned(dict.fromkeys(range(8, 1000), float("nan")))
    with pytest.raises(NonFiniteLossError, match=r"batch \d+ at step 9: loss nan.*3 bad batches in a row.*2 returns"):
        run(CONFIG, task=forever, saves=tmp_path)
    assert all(bool(torch.isfinite(value).all()) for value in forever.module.state_dict().values())


def test_too_many_skipped_batches_end_the_run() -> None:
    config = CONFIG.replace(guard=GuardConfig(max_skipped=2))
    with pytest.raises(NonFiniteLossError, match="one more than the 2 batches that may be skipped"):
        run(config, task=Poisoned({4: float("nan"), 8: float("nan"), 12: float("nan")}))


def test_an_explosion_is_measured_against_recent_losses() -> None:
    guard = GuardConfig(explosion=10.0)
    assert guard.limit([2.0, 3.0, 2.5], loss_at_start=1.0) == pytest.approx(25.0)
    assert guard.limit([], loss_at_start=0.7) == pytest.approx(7.0)
    assert guard.limit([0.001], loss_at_start=1.0) == pytest.approx(1.0), "small losses may grow in peace"
    assert GuardConfig(explosion=None).limit([1.0], loss_at_start=1.0) == float("inf")


def test_a_gradient_that_overflows_is_skipped_too() -> None:
    class Overflow(Regression):
        def losses(self, part: Numbers, generator: torch.Generator, *, measured: bool) -> Losses:
            losses = super().losses(part, generator, measured=measured)
            return Losses(losses.per_sample * 1e25, losses.shared, losses.metrics)

    config = CONFIG.replace(guard=GuardConfig(explosion=None, max_rewinds=0))
    with pytest.raises(NonFiniteLossError, match=r"gradient norm inf.*no single sample"):
        run(config, task=Overflow())


def test_poison_and_resume_together_equal_the_quiet_run(tmp_path: Path) -> None:
    poisons = {7: float("nan"), 14: 1000.0}
    whole = run(CONFIG, task=Poisoned(poisons), saves=tmp_path)
    for step in (6, 12, 18):
        resumed = run(CONFIG, task=Poisoned(poisons), resume=tmp_path / f"step-{step:08d}")
        assert_same(whole, resumed)
        assert resumed.skipped == whole.skipped
