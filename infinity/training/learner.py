"""The terms of the loop: how long, what is trained, on what, and why it may stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.config import Config
from infinity.training.adversary import AdversarialLoss
from infinity.training.guard import GuardConfig
from infinity.training.state import MetricRow


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig(Config):
    """How long and how often.

    Attributes:
        num_steps: Updates of the whole run.
        batch_size: Samples of one update, over all workers and parts.
        num_parts: Parts that every batch is dealt into, at least one a worker; a worker with several works them off one
            after the other, which saves memory. Samples, draws and losses belong to a part, so that another number of
            workers trains the same model. Workers may have one part more or less than others.
        log_every_steps: Steps between two logged ones; the last step is always logged.
        save_every_steps: Steps that an interrupted run loses at most.
        sample_every_steps: Steps between two sheets of sample pictures; the last step always has one.
        ema_decay: Decay of the averaged weights, which are drawn with and exported; None for none.
        guard: What is done about losses that are not finite or far too large.
        skip_batches: Numbers of batches, from 0, that are never trained on; others take their place.
    """

    num_steps: int
    batch_size: int
    num_parts: int = 1
    log_every_steps: int = 50
    save_every_steps: int = 1000
    sample_every_steps: int = 1000
    ema_decay: float | None = None
    guard: GuardConfig = field(default_factory=GuardConfig)
    skip_batches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "num_steps", "batch_size", "num_parts", "log_every_steps", "save_every_steps", "sample_every_steps",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"LoopConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.num_parts > self.batch_size:
            raise ValueError(
                f"LoopConfig.num_parts: a batch of {self.batch_size} samples cannot have {self.num_parts} parts"
            )
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"LoopConfig.ema_decay: expected a share from 0 to below 1, got {self.ema_decay}")

    def is_due(self, step: int, every_steps: int) -> bool:
        """Whether something that happens every so many steps happens after ``step``; always after the last."""
        return step % every_steps == 0 or step == self.num_steps


class MicroBatch(Protocol):
    """What the loop knows of the samples that go through the model at once."""

    @property
    def keys(self) -> Sequence[str]:
        """Names of the samples; one a sample."""
        ...

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples together."""
        ...

    def without(self, keys: frozenset[str]) -> Self | None:
        """The part without some of its samples, itself where it has none of them, or None if nothing is left."""
        ...

    def blank(self) -> Self:
        """Samples of the same number and shape that say nothing: a pass over them costs as much and is finite."""
        ...


P_contra = TypeVar("P_contra", bound=MicroBatch, contravariant=True)
P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Losses:
    """What a learner says about one part.

    Attributes:
        per_sample: Loss of each sample.
        shared: A loss of the part as a whole, for example of the balance of bits; zero where there is none.
        metrics: Figures of the part, averaged over parts and workers by their samples; empty unless asked.
        unguarded: A loss of the part that is trained on but neither logged nor judged, since it has no usual size:
            the answer of a second network. Its gradient is judged with the rest.
        move: What trains that second network; None while there is none, or it has not begun.
        batch_size: Samples of the whole batch, over all parts and workers; None for the loop's ``batch_size``.
    """

    per_sample: Float[Tensor, " B"]
    shared: Float[Tensor, ""]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    unguarded: Float[Tensor, ""] | None = None
    move: AdversarialLoss | None = None
    batch_size: int | None = None


class Task(Protocol[P_contra]):
    """A model with its loss."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def loss_at_start(self) -> float:
        """Order of magnitude of an untrained model's loss, above 0: what the first losses are compared with."""
        ...

    def losses(self, part: P_contra, generator: torch.Generator, *, measured: bool) -> Losses:
        """Loss of a part; all randomness comes from ``generator``, and metrics only when ``measured``."""
        ...

    def flops(self, part: P_contra) -> float:
        """Floating-point operations of a part's forward and backward pass; 0 where nobody counts them."""
        ...

    def check(self, history: Sequence[MetricRow]) -> None:
        """Raise if what was logged, the newest step last, shows that going on is pointless."""
        ...


BatchLoader = Callable[[int], Sequence[P]]
"""This worker's parts of batch number so and so, in order of their numbers: a pure function of the batch's number."""


class TrainingError(RuntimeError):
    """A training had to stop, for a reason that all its workers found and that a restart would find again."""


class NonFiniteLossError(TrainingError):
    """More losses were not finite or far too large than the guard bears; no weight was changed by any of them."""


class InterruptedTraining(TrainingError):
    """The training was asked to stop; its state is saved, and the same job goes on from there."""
