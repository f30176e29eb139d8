"""The loop: batches in, a trained state out, whatever is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.config import Config
from infinity.training.optimizer import OptimizerConfig, learning_rate_at, set_learning_rate
from infinity.training.parallel import Team
from infinity.training.state import Row, TrainState, generator_for


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig(Config):
    """How long and how often.

    Attributes:
        num_steps: Updates of the whole run.
        batch_size: Samples of one update, over all workers and parts.
        accumulate: Parts in which a worker works off its share of a batch, to save memory.
        log_every_steps: Steps between two logged ones; the last step is always logged.
        save_every_steps: Steps that an interrupted run loses at most.
        sample_every_steps: Steps between two sheets of sample pictures; the last step always has one.
        ema_decay: Decay of the averaged weights, which are drawn with and exported; None for none.
    """

    num_steps: int
    batch_size: int
    accumulate: int = 1
    log_every_steps: int = 50
    save_every_steps: int = 1000
    sample_every_steps: int = 1000
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        for name in (
            "num_steps", "batch_size", "accumulate", "log_every_steps", "save_every_steps", "sample_every_steps",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"LoopConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"LoopConfig.ema_decay: expected a share from 0 to below 1, got {self.ema_decay}")

    def is_due(self, step: int, every_steps: int) -> bool:
        """Whether something that happens every so many steps happens after ``step``; always after the last."""
        return step % every_steps == 0 or step == self.num_steps


class Part(Protocol):
    """What the loop knows of the samples that go through the model at once."""

    @property
    def keys(self) -> Sequence[str]:
        """Names of the samples, for error messages; one a sample."""
        ...


P_contra = TypeVar("P_contra", bound=Part, contravariant=True)
P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Losses:
    """What a learner says about one part.

    Attributes:
        per_sample: Loss of each sample.
        shared: A loss of the part as a whole, for example of the balance of bits; zero where there is none.
        metrics: Figures of the part, averaged over parts and workers by their samples; empty unless asked.
    """

    per_sample: Float[Tensor, " B"]
    shared: Float[Tensor, ""]
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Learner(Protocol[P_contra]):
    """A model with its loss."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    def losses(self, part: P_contra, generator: torch.Generator, *, measured: bool) -> Losses:
        """Loss of a part; all randomness comes from ``generator``, and metrics only when ``measured``."""
        ...

    def check(self, metrics: Row, step: int) -> None:
        """Raise if the figures of a logged step show that going on is pointless."""
        ...


Feed = Callable[[int], Sequence[P]]
"""This worker's parts of the batch that follows so many finished steps: a pure function of the step."""


class TrainingError(RuntimeError):
    """A training had to stop, for a reason that all its workers found and that a restart would find again."""


class NonFiniteLossError(TrainingError):
    """A loss or gradient is infinite or not a number; the weights are those before the step."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is called when something is due; each gets the state after the step.

    Attributes:
        log: After a row was added to the history.
        sample: To draw pictures.
        save: To store the state. All workers are called, since storing may be a joint act.
    """

    log: Callable[[TrainState], None]
    sample: Callable[[TrainState], None]
    save: Callable[[TrainState], None]


def train(
    state: TrainState,
    learner: Learner[P],
    feed: Feed[P],
    config: LoopConfig,
    optimizer: OptimizerConfig,
    listeners: Listeners,
    *,
    seed: int,
    team: Team = Team(),  # noqa: B008 - frozen
) -> None:
    """Advance ``state`` to ``config.num_steps``.

    Raises:
        NonFiniteLossError: A loss or gradient is not finite; raised by all workers before the update.
    """
    learner.module.train()
    update = Update(state, learner, config, optimizer, seed, team)
    busy_s, num_timed = 0.0, 0
    while state.step < config.num_steps:
        started = time.monotonic()
        measured = config.is_due(state.step + 1, config.log_every_steps)
        metrics = update(feed(state.step), measured)
        busy_s, num_timed = busy_s + time.monotonic() - started, num_timed + 1
        if measured:
            metrics["pictures_per_s"] = num_timed * config.batch_size / max(busy_s, 1e-9)
            busy_s, num_timed = 0.0, 0
            state.history.append({"step": state.step, **metrics})
            listeners.log(state)
            learner.check(metrics, state.step)
        if config.is_due(state.step, config.sample_every_steps):
            listeners.sample(state)
        if config.is_due(state.step, config.save_every_steps):
            listeners.save(state)


class Update(Generic[P]):
    """One step: gradients of all parts of all workers, one update, and the figures when they are asked for."""

    def __init__(
        self,
        state: TrainState,
        learner: Learner[P],
        config: LoopConfig,
        optimizer: OptimizerConfig,
        seed: int,
        team: Team,
    ) -> None:
        self.state, self.learner, self.config, self.optimizer = state, learner, config, optimizer
        self.seed, self.team = seed, team
        self.weights = [weight for weight in learner.module.parameters() if weight.requires_grad]
        self.device = self.weights[0].device

    def __call__(self, parts: Sequence[P], measured: bool) -> Row:
        """Advance the state by one step; the figures are complete only when ``measured``."""
        state = self.state
        rate = learning_rate_at(self.optimizer, state.step, self.config.num_steps)
        set_learning_rate(state.optimizer, rate)
        state.optimizer.zero_grad(set_to_none=True)
        loss, seen = self._gradients(parts, measured)
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        # One look at two numbers a step. On a GPU it waits for the step; updating weights with what was not looked at
        # would cost more.
        if not math.isfinite(float(loss) + float(norm)):
            raise self._error(parts, seen, float(loss), float(norm))
        if self.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.weights, self.optimizer.clip_norm, norm)
        state.optimizer.step()
        state.step += 1
        if state.ema is not None:
            state.ema.update(state.step)
        state.loss_sum += float(loss)
        state.loss_count += 1
        return self._row(seen, rate, float(norm)) if measured else {}

    def _gradients(self, parts: Sequence[P], measured: bool) -> tuple[Tensor, list[Losses]]:
        """Sum gradients and losses of all parts of all workers, each weighed by its share of the batch."""
        loss = torch.zeros(1, device=self.device)
        seen = []
        for number, part in enumerate(parts):
            generator = generator_for(self.seed, "step", self.state.step, self.team.rank, number)
            losses = self.learner.losses(part, generator, measured=measured)
            share = len(part.keys) / self.config.batch_size
            total = (losses.per_sample.mean() + losses.shared) * share
            total.backward()
            loss += total.detach()
            seen.append(Losses(losses.per_sample.detach(), losses.shared.detach(), losses.metrics))
        for weight in self.weights:
            if weight.grad is None:  # a weight no sample used, perhaps only on this worker
                weight.grad = torch.zeros_like(weight)
        self.team.sum_gradients(self.weights, loss)
        return loss[0], seen

    def _row(self, seen: Sequence[Losses], rate: float, norm: float) -> Row:
        state = self.state
        row = {"loss": state.loss_sum / state.loss_count, "learning_rate": rate, "grad_norm": norm}
        state.loss_sum, state.loss_count = 0.0, 0
        names = sorted({name for losses in seen for name in losses.metrics})
        if self.team.size > 1:
            names = sorted({name for each in self.team.gather(names) for name in each})
        sums = torch.zeros(2, len(names), dtype=torch.float64, device=self.device)
        for losses in seen:
            for column, name in enumerate(names):
                if name in losses.metrics:  # batches of several workers are of one ratio, so all have the same names
                    sums[0, column] += losses.metrics[name].double() * len(losses.per_sample)
                    sums[1, column] += len(losses.per_sample)
        total, count = self.team.sum(sums)
        return row | dict(zip(names, (total / count).tolist(), strict=True))

    def _error(self, parts: Sequence[P], seen: Sequence[Losses], loss: float, norm: float) -> NonFiniteLossError:
        bad = [
            key
            for part, losses in zip(parts, seen, strict=True)
            for key, finite in zip(part.keys, torch.isfinite(losses.per_sample).tolist(), strict=True)
            if not finite
        ]
        keys = [key for each in self.team.gather(bad) for key in each]
        whose = f"samples {', '.join(keys[:8])}" if keys else "no single sample, but their sum or its gradient"
        more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
        return NonFiniteLossError(
            f"step {self.state.step + 1}: loss {loss}, gradient norm {norm}; not finite: {whose}{more}. The weights "
            "were not changed. Look at these samples, or lower the learning rate and start from the last checkpoint"
        )
