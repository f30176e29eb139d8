"""One update: gradients of all parts of all workers, judged before they reach the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from infinity.training.adversary import LOSS_AT_START, Adversary
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import clip, gradient_norm, is_sharded
from infinity.training.guard import Skipped
from infinity.training.learner import LoopConfig, Losses, MicroBatch, NonFiniteLossError, Task
from infinity.training.optimizer import OptimizerConfig, learning_rate_at, set_learning_rate
from infinity.training.state import MetricRow, TrainState, generator_for

P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class _Sums(Generic[P]):
    """What all parts of all workers gave, each weighed by its share of the batch.

    Attributes:
        loss: Of the module.
        move: Loss of the opponent, 0 where it rests.
        num_samples: Trained on, over all workers.
        figures: What the opponent has seen.
        seen: This worker's parts with their losses.
    """

    loss: float
    move: float
    num_samples: int
    figures: Tensor
    seen: list[tuple[P, Losses]]


class TrainStep(Generic[P]):
    """Advances a state by one step, or leaves it as it is and says why.

    Where the state has an opponent, both learn from the same pass, each with its own optimizer and clipping: either
    both take their step or neither does.

    Attributes:
        batch_size: Samples of the last batch, over all workers.
        row: Figures of the last update, if they were asked for.
        must_stop: Whether any worker was asked to stop.
        was_empty: Whether nothing of the last batch was left after what is left out; then no update was made of it.
    """

    def __init__(
        self,
        state: TrainState,
        learner: Task[P],
        config: LoopConfig,
        optimizer: OptimizerConfig,
        seed: int,
        team: ProcessGroup,
    ) -> None:
        self.state, self.learner, self.config, self.optimizer = state, learner, config, optimizer
        self.seed, self.team = seed, team
        self.weights = [weight for weight in learner.module.parameters() if weight.requires_grad]
        self.device = self.weights[0].device
        self.sharded = is_sharded(learner.module)
        self.row: MetricRow | None = None
        self.must_stop = self.was_empty = False
        self._num_empty = 0
        self.batch_size = config.batch_size

    def __call__(self, parts: Sequence[P], measured: bool, *, stop: bool = False) -> Skipped | None:
        """Work off this worker's parts of the batch at ``state.position``.

        Args:
            parts: Of this worker, in order of their numbers.
            measured: Whether ``row`` is wanted.
            stop: Whether this worker was asked to stop.

        Returns:
            What was wrong with the batch; then nothing has changed but ``must_stop``.

        Raises:
            NonFiniteLossError: Nothing is left of many batches in a row; raised by all workers.
        """
        state = self.state
        rate = learning_rate_at(self.optimizer, state.step, self.config.num_steps)
        set_learning_rate(state.optimizer, rate)
        opponent = self._wake()
        self._forget()
        sums = self._gradients(parts, measured, stop, opponent)
        self.row = None
        if self._pass_over(sums.num_samples):
            return None
        norm = gradient_norm(self.weights)
        # One look at a few numbers a step. On a GPU it waits for the step; updating weights with what was not looked at
        # would cost more.
        norm_ = float(norm)
        guard = self.config.guard
        wrong = self._wrong("", sums.loss, norm_, guard.limit(state.recent, self.learner.loss_at_start))
        if opponent is not None:
            move_norm = gradient_norm(opponent.weights)
            limit = guard.limit(opponent.recent, LOSS_AT_START)
            wrong = wrong or self._wrong("discriminator's ", sums.move, float(move_norm), limit)
        if wrong is not None:
            return self._skipped(sums.seen, wrong)  # the next update begins by dropping the gradients
        if self.optimizer.clip_norm is not None:
            clip(self.weights, self.optimizer.clip_norm, norm)
        state.optimizer.step()
        if opponent is not None:
            if opponent.config.clip_norm is not None:
                clip(opponent.weights, opponent.config.clip_norm, move_norm)
            opponent.optimizer.step()
            opponent.count(sums.move, sums.figures, window=guard.window)
        state.count(sums.loss, window=guard.window)
        if state.ema is not None:
            state.ema.update(state.step)
        if measured:
            self.row = self._row([losses for _, losses in sums.seen], rate, norm_)
            if opponent is not None:
                self.row |= {"opponent_grad_norm": float(move_norm)}
        return None

    def _wake(self) -> Adversary | None:
        """The opponent, where it takes part in the present step."""
        opponent, step = self.state.opponent, self.state.step
        if opponent is None:
            return None
        opponent.awake = step >= opponent.from_step
        if not opponent.awake:
            return None
        set_learning_rate(opponent.optimizer, learning_rate_at(opponent.config, step, self.config.num_steps))
        return opponent

    def _forget(self) -> None:
        """Drop all gradients."""
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.state.opponent is not None:
            self.state.opponent.optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _wrong(whose: str, loss: float, norm: float, limit: float) -> str | None:
        """What speaks against an update, for people."""
        if not (math.isfinite(norm) and math.isfinite(loss)):
            return f"{whose}loss {loss}, gradient norm {norm}"
        return (
            None if loss <= limit else f"{whose}loss {loss:.4g}, over the limit of {limit:.4g} that recent losses set"
        )

    def _gradients(self, parts: Sequence[P], measured: bool, stop: bool, opponent: Adversary | None) -> _Sums[P]:
        """Sum gradients and losses of all parts of all workers, each weighed by its share of the batch."""
        # The loss, how many workers were asked to stop, the opponent's loss, the samples, what the opponent has seen.
        shared = torch.zeros(4 + (opponent.num_seen if opponent is not None else 0), device=self.device)
        shared[1] = float(stop)
        seen = []
        for number, part, counts in self._passes(parts):
            generator = generator_for(self.seed, "step", self.state.position, number)
            losses = self.learner.losses(part, generator, measured=measured and counts)
            self.batch_size = losses.batch_size or self.config.batch_size
            share = len(part.keys) / self.batch_size if counts else 0.0
            total = (losses.per_sample.mean() + losses.shared) * share
            (total if losses.unguarded is None else total + losses.unguarded * share).backward()
            shared[0] += total.detach().to(self.device)  # weights may wait on the CPU
            if losses.move is not None:
                move = losses.move.loss * share
                move.backward()
                shared[2] += move.detach()
                shared[4:] += losses.move.seen * share
            if counts:
                shared[3] += len(part.keys)
                seen.append((part, Losses(losses.per_sample.detach(), losses.shared.detach(), losses.metrics)))
        others = opponent.weights if opponent is not None else []
        for weight in [*self.weights, *others]:
            if weight.grad is None:  # a weight no sample used, perhaps only on this worker
                weight.grad = torch.zeros_like(weight)
        # Sharded weights have the sums of the whole team already: each backward pass shares them out.
        self.team.sum_gradients([*([] if self.sharded else self.weights), *others], shared)
        loss, asked, move_loss, num_samples = shared[:4].tolist()
        self.must_stop = asked > 0
        return _Sums(loss, move_loss, round(num_samples), shared[4:], seen)

    def _passes(self, parts: Sequence[P]) -> Iterator[tuple[int, P, bool]]:
        """Number and samples of every pass of this worker, and whether they count.

        The workers gather weights that are shared out together, in every pass: one that makes fewer passes than the
        others would leave them waiting. So a worker makes a pass over blank samples, which counts nothing, where it
        has no part, or where nothing is left of one.
        """
        banned = frozenset(self.state.banned)
        numbers = self.team.passes(self.config.num_parts) if self.sharded else self.team.parts(self.config.num_parts)
        for place, number in enumerate(numbers):
            whole = parts[min(place, len(parts) - 1)]
            part = (whole.without(banned) if banned else whole) if place < len(parts) else None
            if part is not None:
                yield number, part, True
            elif self.sharded:
                yield number, whole.blank(), False

    def _pass_over(self, num_samples: int) -> bool:
        """Go on to the next batch where nothing is left of this one: an update without samples would be only decay.

        Raises:
            NonFiniteLossError: That happens again and again.
        """
        self.was_empty = num_samples == 0
        self._num_empty = self._num_empty + 1 if self.was_empty else 0
        most = self.config.guard.max_skipped
        if self._num_empty > most:
            raise NonFiniteLossError(
                f"batch {self.state.position} at step {self.state.step + 1}: nothing is left of {self._num_empty} "
                f"batches in a row, guard.max_skipped bears {most}: all their samples were left out since their losses "
                f"were wrong ({len(self.state.banned)} samples). Look at these samples, or train on more"
            )
        if self.was_empty:
            self.state.position += 1
        return self.was_empty

    def _row(self, seen: Sequence[Losses], rate: float, norm: float) -> MetricRow:
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
                    sums[0, column] += losses.metrics[name].double().to(self.device) * len(losses.per_sample)
                    sums[1, column] += len(losses.per_sample)
        total, count = self.team.sum(sums)
        return row | dict(zip(names, (total / count).tolist(), strict=True))

    def _skipped(self, seen: Sequence[tuple[P, Losses]], reason: str) -> Skipped:
        limit = self.config.guard.limit(self.state.recent, self.learner.loss_at_start)
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
        return Skipped(position=self.state.position, step=self.state.step, reason=reason, samples=tuple(samples))


def _within(per_sample: Tensor, limit: float) -> list[bool]:
    return (torch.isfinite(per_sample) & (per_sample <= limit)).tolist()
