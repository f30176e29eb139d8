"""One update: how long it is, what the averages take of it, and what a skipped batch leaves behind."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from infinity.training.adversary import AdversarialLoss, Adversary
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.guard import GuardConfig
from infinity.training.learner import LoopConfig, Losses, NonFiniteLossError
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.state import TrainState
from infinity.training.step import TrainStep
from tests.fixtures.jobs.toy_training import BATCH, Numbers, Regression, loader, new_state, run

CONFIG = LoopConfig(num_steps=6, batch_size=BATCH, log_every_steps=1, save_every_steps=1, sample_every_steps=100)
RATE = 0.5


class Duel(Regression):
    """With a second network of one weight; both gradients have a length that is asked for."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__(noise=0.0)
        self.second = second

    def losses(self, part: Numbers, generator: torch.Generator, *, measured: bool) -> Losses:
        losses = super().losses(part, generator, measured=measured)
        answer = self.second(part.values).square().mean()
        return replace(losses, adversarial=AdversarialLoss(answer, torch.zeros(0)))


class Second(nn.Linear):
    def absorb(self, seen: Tensor) -> None:
        assert not len(seen)


def plain_update(clip_norm: float | None, second_clip: float | None) -> tuple[list[float], dict[str, float]]:
    """Lengths of one step of plain gradient descent, of both networks, over the rate; and what was logged."""
    torch.manual_seed(0)
    second = Second(4, 1)
    task = Duel(second)
    optimizer = OptimizerConfig(learning_rate=RATE, clip_norm=clip_norm)
    adversary = Adversary(
        module=second,
        optimizer=torch.optim.SGD(second.parameters()),
        config=OptimizerConfig(learning_rate=RATE, clip_norm=second_clip),
    )
    state = TrainState(task.module, torch.optim.SGD(task.module.parameters()), adversary=adversary)
    before = [[w.detach().clone() for w in module.parameters()] for module in (task.module, second)]
    update = TrainStep(state, task, CONFIG, optimizer, 3, ProcessGroup())
    assert update(loader(0), True) is None
    assert update.row is not None
    moved = [
        math.sqrt(sum(float((w.detach() - b).square().sum()) for w, b in zip(module.parameters(), old, strict=True)))
        / RATE
        for module, old in zip((task.module, second), before, strict=True)
    ]
    return moved, update.row


def test_a_gradient_is_shortened_to_the_longest_that_is_allowed_and_no_further() -> None:
    (whole, of_second), row = plain_update(None, None)
    assert row["grad_norm"] == pytest.approx(whole, rel=1e-4)
    assert row["opponent_grad_norm"] == pytest.approx(of_second, rel=1e-4)
    (clipped, second), row = plain_update(whole / 3, of_second / 5)
    assert clipped == pytest.approx(whole / 3, rel=1e-4)
    assert second == pytest.approx(of_second / 5, rel=1e-4)
    assert row["grad_norm"] == pytest.approx(whole, rel=1e-4), "as it was before"
    (short, second), _ = plain_update(2 * whole, 2 * of_second)
    assert short == pytest.approx(whole, rel=1e-4)
    assert second == pytest.approx(of_second, rel=1e-4)


def test_the_running_means_of_adam_take_the_shortened_gradient() -> None:
    task = Regression(noise=0.0)
    state = new_state(task, CONFIG)
    clip_norm = 1e-3
    update = TrainStep(state, task, CONFIG, OptimizerConfig(learning_rate=1e-3, clip_norm=clip_norm), 3, ProcessGroup())
    assert update(loader(0), True) is None
    means = [state.optimizer.state[weight]["exp_avg"] for weight in task.module.parameters()]
    length = float(torch.cat([mean.flatten() for mean in means]).norm())
    beta = state.optimizer.param_groups[0]["betas"][0]
    assert length == pytest.approx((1 - beta) * clip_norm, rel=1e-3)


def test_the_average_is_fed_with_the_number_of_updates_done_from_one() -> None:
    """Every stored average is its predecessor and the new weights, weighed 2 / 11, 3 / 12, 4 / 13 and so on."""
    averages: list[dict[str, Tensor]] = []
    weights: list[dict[str, Tensor]] = []

    def save(state: TrainState) -> None:
        assert state.ema is not None
        averages.append({name: value.clone() for name, value in state.ema.weights().items()})
        weights.append({name: value.clone() for name, value in state.module.state_dict().items()})

    run(CONFIG.replace(ema_decay=0.99), save=save)
    assert len(averages) == 1 + CONFIG.num_steps
    for n in range(1, len(averages)):
        kept = (2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16)[n - 1]
        for name, value in averages[n].items():
            expected = kept * averages[n - 1][name] + (1 - kept) * weights[n][name]
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)


def test_no_gradient_of_a_skipped_batch_is_left_for_the_next_update() -> None:
    """An explosion is finite, so that its gradient would only be added to the next one and pass."""

    class Explodes(Regression):
        def losses(self, part: Numbers, generator: torch.Generator, *, measured: bool) -> Losses:
            losses = super().losses(part, generator, measured=measured)
            return replace(losses, per_sample=losses.per_sample * (1e4 if "sample-2-0" in part.keys else 1.0))

    config = CONFIG.replace(guard=GuardConfig(explosion=10.0))
    exploded = run(config, task=Explodes())
    assert [each.position for each in exploded.skipped] == [2]
    clean = run(config.replace(skip_batches=(2,)))
    assert [row["grad_norm"] for row in exploded.history] == [row["grad_norm"] for row in clean.history]


@pytest.mark.parametrize(("loss", "skipped"), [(40.0, False), (40.1, True)])
def test_a_loss_of_exactly_the_limit_is_trained_on(loss: float, skipped: bool) -> None:
    task, config = Regression(), CONFIG.replace(guard=GuardConfig(explosion=10.0))
    update = TrainStep(new_state(task, config), task, config, OptimizerConfig(learning_rate=1e-3), 3, ProcessGroup())
    limit = config.guard.limit([], task.loss_at_start)
    assert limit == 40.0
    assert (update._wrong("", loss, 1.0, limit) is not None) == skipped


def test_the_adversary_remembers_as_many_losses_as_are_asked_for() -> None:
    second = Second(4, 1)
    adversary = Adversary(
        module=second, optimizer=torch.optim.SGD(second.parameters()), config=OptimizerConfig(learning_rate=RATE)
    )
    for loss in range(5):
        adversary.count(float(loss), torch.zeros(0), window=3)
    assert adversary.recent == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_as_many_batches_in_a_row_may_be_empty_as_the_guard_allows(allowed: int) -> None:
    task, config = Regression(), CONFIG.replace(guard=GuardConfig(max_skipped=allowed))
    optimizer = OptimizerConfig(learning_rate=RATE)
    update = TrainStep(new_state(task, config), task, config, optimizer, 3, ProcessGroup())
    for _ in range(allowed):
        assert update._pass_over(0)
    assert not update._pass_over(5), "a batch with samples begins the count anew"
    for _ in range(allowed):
        assert update._pass_over(0)
    with pytest.raises(NonFiniteLossError, match=f"nothing is left of {allowed + 1} batches in a row"):
        update._pass_over(0)


@pytest.mark.parametrize("stop", [False, True])
def test_one_worker_that_is_asked_to_stop_is_enough(stop: bool) -> None:
    task = Regression()
    update = TrainStep(new_state(task, CONFIG), task, CONFIG, OptimizerConfig(learning_rate=RATE), 3, ProcessGroup())
    update(loader(0), False, stop=stop)
    assert update.must_stop is stop
