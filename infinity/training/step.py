"""One optimizer step: gradient accumulation over micro-batches and workers, checks, then the update of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from infinity.training.adversary import LOSS_AT_START, Adversary
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import clip, gradient_norm, is_sharded, sum_now
from infinity.training.guard import Skipped
from infinity.training.learner import LoopConfig, Losses, MicroBatch, NonFiniteLossError, Task
from infinity.training.optimizers.optimizer import OptimizerConfig, learning_rate_at, set_learning_rate
from infinity.training.state import MetricRow, TrainState, generator_for

P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class _Sums(Generic[P]):
    """Sums over the micro-batches of all workers, each weighted by its share of the batch.

    Attributes:
        adversary_loss: Loss of the adversary; 0 before its first step.
        num_samples: Number of samples trained on, over all workers.
        answers: Mean answers of the adversary (``AdversarialLoss.seen``).
    """

    loss: float
    adversary_loss: float
    num_samples: int
    answers: Tensor
    seen: list[tuple[P, Losses]]


class TrainStep(Generic[P]):
    """Advance a state by one step, or leave it unchanged and say why.

    Where the state has an adversary, both networks learn from the same pass, each with its own optimizer and clipping:
    either both take their step or neither does (decision 30).

    Attributes:
        batch_size: Samples of the last batch, over all workers.
        row: Metrics of the last update, if they were asked for.
        must_stop: Whether any worker was asked to stop.
        was_empty: Whether all samples of the last batch are excluded; then it caused no update.
    """

    def __init__(
        self,
        state: TrainState,
        task: Task[P],
        config: LoopConfig,
        optimizer: OptimizerConfig,
        seed: int,
        group: ProcessGroup,
    ) -> None:
        self.state, self.task, self.config, self.optimizer = state, task, config, optimizer
        self.seed, self.group = seed, group
        self.weights = [weight for weight in task.module.parameters() if weight.requires_grad]
        self.device = self.weights[0].device
        self.sharded = is_sharded(task.module)
        self.row: MetricRow | None = None
        self.must_stop = self.was_empty = False
        self._num_empty = 0
        self.batch_size = config.batch_size

    def __call__(self, micro_batches: Sequence[P], measured: bool, *, stop: bool = False) -> Skipped | None:
        """Train on the batch at ``state.position``.

        Args:
            micro_batches: This worker's micro-batches, in order of their numbers.
            measured: Whether ``row`` is wanted.
            stop: Whether this worker was asked to stop.

        Returns:
            None after an update or an empty batch; otherwise the reason for skipping the batch. A skipped batch
            changes nothing but ``must_stop``.

        Raises:
            NonFiniteLossError: Nothing is left of many batches in a row; raised by all workers.
        """
        state = self.state
        rate = learning_rate_at(self.optimizer, state.step, self.config.num_steps)
        set_learning_rate(state.optimizer, rate)
        adversary = self._wake()
        self._zero_grad()
        sums = self._gradients(micro_batches, measured, stop, adversary)
        self.row = None
        if self._pass_over(sums.num_samples):
            return None
        norm = gradient_norm(self.weights)
        # Reading these few numbers makes the CPU wait for the GPU once per step. An update with unchecked gradients
        # could not be undone, which would cost more (decision 27).
        norm_ = float(norm)
        guard = self.config.guard
        wrong = self._wrong("", sums.loss, norm_, guard.limit(state.recent, self.task.loss_at_start))
        if adversary is not None:
            adversary_norm = gradient_norm(adversary.weights)
            limit = guard.limit(adversary.recent, LOSS_AT_START)
            wrong = wrong or self._wrong("discriminator's ", sums.adversary_loss, float(adversary_norm), limit)
        if wrong is not None:
            return self._skipped(sums.seen, wrong)  # the next call drops the gradients
        if self.optimizer.clip_norm is not None:
            clip(self.weights, self.optimizer.clip_norm, norm_)
        state.settle()
        state.optimizer.step()
        if adversary is not None:
            if adversary.config.clip_norm is not None:
                clip(adversary.weights, adversary.config.clip_norm, float(adversary_norm))
            adversary.optimizer.step()
            adversary.count(sums.adversary_loss, sums.answers, window=guard.window)
        state.count(sums.loss, window=guard.window)
        if state.ema is not None:
            state.ema.update(state.step)
        if measured:
            self.row = self._row([losses for _, losses in sums.seen], rate, norm_)
            if adversary is not None:
                self.row |= {"opponent_grad_norm": float(adversary_norm)}
        return None

    def _wake(self) -> Adversary | None:
        """Return the adversary if it takes part in the present step."""
        adversary, step = self.state.adversary, self.state.step
        if adversary is None:
            return None
        adversary.awake = step >= adversary.from_step
        if not adversary.awake:
            return None
        set_learning_rate(adversary.optimizer, learning_rate_at(adversary.config, step, self.config.num_steps))
        return adversary

    def _zero_grad(self) -> None:
        """Drop the gradients of both networks."""
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.state.adversary is not None:
            self.state.adversary.optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _wrong(whose: str, loss: float, norm: float, limit: float) -> str | None:
        """Return the reason for skipping the update, in words, or None."""
        if not (math.isfinite(norm) and math.isfinite(loss)):
            return f"{whose}loss {loss}, gradient norm {norm}"
        return (
            None if loss <= limit else f"{whose}loss {loss:.4g}, over the limit of {limit:.4g} that recent losses set"
        )

    def _gradients(
        self, micro_batches: Sequence[P], measured: bool, stop: bool, adversary: Adversary | None
    ) -> _Sums[P]:
        """Accumulate gradients and losses over all micro-batches, each weighted by its share, and sum over workers."""
        # One tensor, so that one all-reduce carries it: the loss, the number of workers that were asked to stop, the
        # adversary's loss, the number of samples, the adversary's mean answers.
        shared = torch.zeros(4 + (adversary.num_seen if adversary is not None else 0), device=self.device)
        shared[1] = float(stop)
        seen = []
        passes = list(self._passes(micro_batches))
        for number, micro_batch, counts in passes:
            if self.sharded and self.config.sum_once:
                sum_now(self.task.module, number == passes[-1][0])
            generator = generator_for(self.seed, "step", self.state.position, number)
            losses = self.task.losses(micro_batch, generator, measured=measured and counts)
            self.batch_size = losses.batch_size or self.config.batch_size
            share = len(micro_batch.keys) / self.batch_size if counts else 0.0
            total = (losses.per_sample.mean() + losses.shared) * share
            (total if losses.unguarded is None else total + losses.unguarded * share).backward()
            shared[0] += total.detach().to(self.device)  # offloaded weights live on the CPU
            if losses.adversarial is not None:
                adversary_loss = losses.adversarial.loss * share
                adversary_loss.backward()
                shared[2] += adversary_loss.detach()
                shared[4:] += losses.adversarial.seen * share
            if counts:
                shared[3] += len(micro_batch.keys)
                seen.append((micro_batch, Losses(losses.per_sample.detach(), losses.shared.detach(), losses.metrics)))
        others = adversary.weights if adversary is not None else []
        for weight in [*self.weights, *others]:
            if weight.grad is None:  # a weight no sample used, perhaps only on this worker
                weight.grad = torch.zeros_like(weight)
        # FSDP has summed the gradients of sharded weights over the group already, in each backward pass.
        self.group.sum_gradients([*([] if self.sharded else self.weights), *others], shared)
        loss, asked, adversary_loss, num_samples = shared[:4].tolist()
        self.must_stop = asked > 0
        return _Sums(loss, adversary_loss, round(num_samples), shared[4:], seen)

    def _passes(self, micro_batches: Sequence[P]) -> Iterator[tuple[int, P, bool]]:
        """Yield number and samples of every pass of this worker, and whether they count.

        The workers gather sharded weights together, in every pass. A worker with fewer passes than the others would
        leave them waiting. It therefore makes a pass over blank samples, with weight 0, where it has no micro-batch or
        where all samples of one are excluded.
        """
        excluded = frozenset(self.state.excluded)
        numbers = (
            self.group.passes(self.config.num_parts)
            if self.sharded
            else self.group.micro_batches(self.config.num_parts)
        )
        for place, number in enumerate(numbers):
            whole = micro_batches[min(place, len(micro_batches) - 1)]
            micro_batch = (whole.without(excluded) if excluded else whole) if place < len(micro_batches) else None
            if micro_batch is not None:
                yield number, micro_batch, True
            elif self.sharded:
                yield number, whole.blank(), False

    def _pass_over(self, num_samples: int) -> bool:
        """Skip a batch without samples, since an update without samples would only apply weight decay.

        Raises:
            NonFiniteLossError: More empty batches in a row than the guard allows.
        """
        self.was_empty = num_samples == 0
        self._num_empty = self._num_empty + 1 if self.was_empty else 0
        most = self.config.guard.max_skipped
        if self._num_empty > most:
            raise NonFiniteLossError(
                f"batch {self.state.position} at step {self.state.step + 1}: nothing is left of {self._num_empty} "
                f"batches in a row, guard.max_skipped allows {most}: all their samples are left out since their losses "
                f"were bad ({len(self.state.excluded)} samples). Look at these samples, or train on more"
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
        if self.group.size > 1:
            names = sorted({name for each in self.group.gather(names) for name in each})
        sums = torch.zeros(2, len(names), dtype=torch.float64, device=self.device)
        for losses in seen:
            for column, name in enumerate(names):
                if name in losses.metrics:  # not every micro-batch has every metric
                    sums[0, column] += losses.metrics[name].double().to(self.device) * len(losses.per_sample)
                    sums[1, column] += len(losses.per_sample)
        total, count = self.group.sum(sums)
        return row | dict(zip(names, (total / count).tolist(), strict=True))

    def _skipped(self, seen: Sequence[tuple[P, Losses]], reason: str) -> Skipped:
        limit = self.config.guard.limit(self.state.recent, self.task.loss_at_start)
        bad = [
            key
            for micro_batch, losses in seen
            for key, fine in zip(micro_batch.keys, _within(losses.per_sample, limit), strict=True)
            if not fine
        ]
        num_samples = sum(self.group.gather(sum(len(micro_batch.keys) for micro_batch, _ in seen)))
        samples = sorted(key for each in self.group.gather(bad) for key in each)
        if len(samples) == num_samples:
            samples = []  # the fault lies in the weights or in the whole batch, not in single samples
        return Skipped(position=self.state.position, step=self.state.step, reason=reason, samples=tuple(samples))


def _within(per_sample: Tensor, limit: float) -> list[bool]:
    return (torch.isfinite(per_sample) & (per_sample <= limit)).tolist()
