"""Protocols and settings of the training loop: the task, its micro-batches and losses, and the reasons to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.config import Config
from infinity.ranges import Count, ShareBelowOne
from infinity.training.adversary import AdversarialLoss
from infinity.training.guard import GuardConfig
from infinity.training.state import MetricRow


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig(Config):
    """Length of a training, batch size, and how often it logs, saves and draws.

    Attributes:
        num_steps: Updates of the whole run.
        batch_size: Samples per update, over all workers and micro-batches.
        num_parts: Micro-batches per batch over all workers: the gradient-accumulation steps of all of them together.
            At least one per worker. A worker with several computes them one after the other, which saves memory.
            Random draws and losses belong to a micro-batch, so that another number of workers trains the same model
            (decision 8). Workers may have one micro-batch more or less than others.
        log_every_steps: Steps between two logged ones; the last step is always logged.
        save_every_steps: Steps between two stored states, and the most that an interrupted run loses.
        sample_every_steps: Steps between two sheets of sample pictures; the last step always has one.
        ema_decay: Decay of the averaged weights, which draw samples and are exported; None for no average.
        ema_on_cpu: Whether the averaged weights lie in memory of the CPU: every step copies the weights there.
        guard: Treatment of losses that are not finite or far too large.
        skip_batches: Numbers of batches, from 0, that are never trained on; others take their place.
        sum_once: Whether gradients of sharded weights are summed over the workers once per step instead of after each
            micro-batch. It saves that traffic, and takes memory for whole float32 gradients in each worker. Those of
            weights that are not sharded are always summed once.
    """

    later: ClassVar[frozenset[str]] = frozenset({"sum_once", "ema_on_cpu"})

    num_steps: Count
    batch_size: Count
    num_parts: Count = 1
    log_every_steps: Count = 50
    save_every_steps: Count = 1000
    sample_every_steps: Count = 1000
    ema_decay: ShareBelowOne | None = None
    guard: GuardConfig = field(default_factory=GuardConfig)
    skip_batches: tuple[int, ...] = ()
    sum_once: bool = False
    ema_on_cpu: bool = False

    def __post_init__(self) -> None:
        if self.num_parts > self.batch_size:
            raise ValueError(
                f"LoopConfig.num_parts: a batch of {self.batch_size} samples cannot be split into {self.num_parts} "
                "micro-batches; set num_parts to the batch size at most"
            )

    def is_due(self, step: int, every_steps: int) -> bool:
        """Return whether an action with this interval runs after ``step``; it always runs after the last step."""
        return step % every_steps == 0 or step == self.num_steps


class MicroBatch(Protocol):
    """Samples of one forward and backward pass, as the loop sees them."""

    @property
    def keys(self) -> Sequence[str]:
        """Names of the samples, one per sample."""
        ...

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all samples together."""
        ...

    def without(self, keys: frozenset[str]) -> Self | None:
        """Return the micro-batch without these samples: itself where it has none of them, None if nothing is left."""
        ...

    def blank(self) -> Self:
        """Return as many samples of the same shape without content; their losses are finite."""
        ...


P_contra = TypeVar("P_contra", bound=MicroBatch, contravariant=True)
P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses and metrics of one micro-batch.

    Attributes:
        per_sample: Loss of each sample.
        shared: Loss of the micro-batch as a whole, for example the entropy of its bits; zero where there is none.
        metrics: Metrics of the micro-batch, averaged over micro-batches and workers by number of samples; empty
            unless measured.
        unguarded: Adversarial loss of the model. It is trained on but neither logged nor guarded, since it has no
            usual size; the guard sees its gradient together with the rest.
        adversarial: Loss of the adversary; None without an adversary, or before its first step.
        batch_size: Samples of the whole batch, over all micro-batches and workers; None for the loop's
            ``batch_size``.
    """

    per_sample: Float[Tensor, " B"]
    shared: Float[Tensor, ""]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    unguarded: Float[Tensor, ""] | None = None
    adversarial: AdversarialLoss | None = None
    batch_size: int | None = None


class Task(Protocol[P_contra]):
    """A model together with its loss."""

    @property
    def module(self) -> nn.Module:
        """Module that is trained."""
        ...

    @property
    def loss_at_start(self) -> float:
        """Order of magnitude of an untrained model's loss, above 0. The guard compares the first losses with it."""
        ...

    def losses(self, micro_batch: P_contra, generator: torch.Generator, *, measured: bool) -> Losses:
        """Compute the losses of a micro-batch, and its metrics if ``measured``; draw only from ``generator``."""
        ...

    def flops(self, micro_batch: P_contra) -> float:
        """Return the floating-point operations of a forward and backward pass; 0 where they are not counted."""
        ...

    def check(self, history: Sequence[MetricRow]) -> None:
        """Raise if the logged rows, the newest last, show that the training has failed."""
        ...


BatchLoader = Callable[[int], Sequence[P]]
"""Pure function from the number of a batch to this worker's micro-batches of it, in order of their numbers."""


class TrainingError(RuntimeError):
    """A training stopped for a reason that all workers found, and that a restart would find again."""


class NonFiniteLossError(TrainingError):
    """More losses were not finite or far too large than the guard allows; none of them changed a weight."""


class InterruptedTraining(TrainingError):
    """The training was asked to stop; its state is saved, and the same job resumes from it."""
