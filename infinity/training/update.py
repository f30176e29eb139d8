"""One update: gradients of all parts of all workers, judged before they reach the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from infinity.training.guard import Skipped
from infinity.training.loop import Learner, LoopConfig, Losses, Part
from infinity.training.optimizer import OptimizerConfig, learning_rate_at, set_learning_rate
from infinity.training.parallel import Team
from infinity.training.sharding import clip, gradient_norm, is_sharded
from infinity.training.state import Row, TrainState, generator_for

P = TypeVar("P", bound=Part)


class Update(Generic[P]):
    """Advances a state by one step, or leaves it as it is and says why.

    Attributes:
        row: Figures of the last update, if they were asked for.
        must_stop: Whether any worker was asked to stop.
    """

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
        self.sharded = is_sharded(learner.module)
        self.row: Row | None = None
        self.must_stop = False

    def __call__(self, parts: Sequence[P], measured: bool, *, stop: bool = False) -> Skipped | None:
        """Work off this worker's parts of the batch at ``state.position``.

        Args:
            parts: Of this worker, in order of their numbers.
            measured: Whether ``row`` is wanted.
            stop: Whether this worker was asked to stop.

        Returns:
            What was wrong with the batch; then nothing has changed but ``must_stop``.
        """
        state = self.state
        rate = learning_rate_at(self.optimizer, state.step, self.config.num_steps)
        set_learning_rate(state.optimizer, rate)
        state.optimizer.zero_grad(set_to_none=True)
        loss, seen = self._gradients(parts, measured, stop)
        norm = gradient_norm(self.weights)
        # One look at two numbers a step. On a GPU it waits for the step; updating weights with what was not looked at
        # would cost more.
        limit = self.config.guard.limit(state.recent, self.learner.loss_at_start)
        self.row = None
        if not (math.isfinite(norm_ := float(norm)) and math.isfinite(loss) and loss <= limit):
            state.optimizer.zero_grad(set_to_none=True)
            return self._skipped(seen, loss, norm_, limit)
        if self.optimizer.clip_norm is not None:
            clip(self.weights, self.optimizer.clip_norm, norm)
        state.optimizer.step()
        state.count(loss, window=self.config.guard.window)
        if state.ema is not None:
            state.ema.update(state.step)
        if measured:
            self.row = self._row([losses for _, losses in seen], rate, norm_)
        return None

    def _gradients(self, parts: Sequence[P], measured: bool, stop: bool) -> tuple[float, list[tuple[P, Losses]]]:
        """Sum gradients and losses of all parts of all workers, each weighed by its share of the batch."""
        shared = torch.zeros(2, device=self.device)  # the loss, and how many workers were asked to stop
        shared[1] = float(stop)
        seen = []
        banned = frozenset(self.state.banned)
        for number, whole in zip(self.team.parts(self.config.num_parts), parts, strict=True):
            part = whole.without(banned) if banned else whole
            if part is None:
                continue
            generator = generator_for(self.seed, "step", self.state.position, number)
            losses = self.learner.losses(part, generator, measured=measured)
            share = len(part.keys) / self.config.batch_size
            total = (losses.per_sample.mean() + losses.shared) * share
            total.backward()
            shared[0] += total.detach()
            seen.append((part, Losses(losses.per_sample.detach(), losses.shared.detach(), losses.metrics)))
        for weight in self.weights:
            if weight.grad is None:  # a weight no sample used, perhaps only on this worker
                weight.grad = torch.zeros_like(weight)
        # Sharded weights have the sums of the whole team already: each backward pass shares them out.
        self.team.sum_gradients([] if self.sharded else self.weights, shared)
        loss, asked = shared.tolist()
        self.must_stop = asked > 0
        return loss, seen

    def _row(self, seen: Sequence[Losses], rate: float, norm: float) -> Row:
        state = self.state
        row = {
            "loss": state.take_loss(),
            "learning_rate": rate,
            "grad_norm": norm,
            "skipped": float(len(state.skipped)),
        }
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

    def _skipped(self, seen: Sequence[tuple[P, Losses]], loss: float, norm: float, limit: float) -> Skipped:
        bad = [
            key
            for part, losses in seen
            for key, fine in zip(part.keys, _within(losses.per_sample, limit), strict=True)
            if not fine
        ]
        num_samples = sum(self.team.gather(sum(len(part.keys) for part, _ in seen)))
        samples = sorted(key for each in self.team.gather(bad) for key in each)
        if len(samples) == num_samples:
            samples = []  # then it is the weights, or the whole batch
        reason = f"loss {loss}, gradient norm {norm}"
        if math.isfinite(loss) and math.isfinite(norm):
            reason = f"loss {loss:.4g}, over the limit of {limit:.4g} that recent losses set"
        return Skipped(position=self.state.position, step=self.state.step, reason=reason, samples=tuple(samples))


def _within(per_sample: Tensor, limit: float) -> list[bool]:
    return (torch.isfinite(per_sample) & (per_sample <= limit)).tolist()
