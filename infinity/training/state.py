"""State of a training: everything that a resumed run needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from infinity.training.adversary import Adversary
from infinity.training.distributed.sharding import TensorSource, assign_all, like, whole
from infinity.training.ema import Ema
from infinity.training.guard import Skipped
from infinity.training.host_copies import HostCopies
from infinity.training.optimizers.eight_bit import closed, opened
from infinity.training.optimizers.host_states import HostAdamW

MetricRow = dict[str, float]
"""Metrics of one logged step by name, with its number as "step"."""


@dataclass(slots=True)
class TrainState:
    """State of a training between two steps.

    The learning rate and all random numbers are functions of the spec, the step and the position, so that neither a
    scheduler nor a generator has a state of its own (decision 8).

    Attributes:
        module: Trained module; a frozen tokenizer is never a part of it.
        ema: Moving average of the weights, or None.
        adversary: Second network that is trained against the module, or None.
        step: Number of updates so far.
        position: Number of the next batch; ahead of ``step`` by the batches that were skipped.
        history: Logged rows, in order.
        recent: Losses of the last updates; the guard compares with their median.
        loss_sum: Sum of the losses since the last logged step.
        loss_count: Number of steps since the last logged one.
        skipped: Batches that were skipped, in order.
        skips_in_row: Number of batches skipped since the last update.
        rewinds: Number of returns to a checkpoint.
        excluded: Names of samples that are left out after a return to a checkpoint.
        left_out: Numbers of batches that are left out after a return to a checkpoint.
        without: Names of inputs that were missing at the start; the run stays without them to its end.
        notes: Sentences for people about what should not have happened.
        copies: Copies of the tensors that a GPU is making for a save, or None.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None = None
    adversary: Adversary | None = None
    step: int = 0
    position: int = 0
    history: list[MetricRow] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    skips_in_row: int = 0
    rewinds: int = 0
    excluded: list[str] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copies: HostCopies | None = None

    def settle(self) -> None:
        """Make a change of the tensors safe: what a GPU is told from now on waits for copies that it still makes."""
        copies, self.copies = self.copies, None
        if copies is not None:
            copies.hold()

    def count(self, loss: float, *, window: int) -> None:
        """Record an update on the batch at ``position``."""
        self.step += 1
        self.position += 1
        self.skips_in_row = 0
        self.recent = [*self.recent, loss][-window:]
        self.loss_sum += loss
        self.loss_count += 1

    def take_loss(self) -> float:
        """Return the mean loss since the last call, and start anew."""
        mean = self.loss_sum / self.loss_count
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def facts(self) -> dict[str, Any]:
        """Return everything but tensors, as JSON."""
        values = {key: getattr(self, name) for name, key in _STORED_AS.items()}
        values["history"] = [_writable(row) for row in self.history]
        values["without"] = self.without
        values["opponent_recent"] = self.adversary.recent if self.adversary else []
        return values | {"skipped": [each.to_json() for each in self.skipped]}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what ``held`` yields, unsharded. All workers of a sharded training must iterate together."""
        return ((name, whole(value)) for name, value in self.held())

    def held(self) -> Iterator[tuple[str, Tensor]]:
        """Yield weights, averages and the optimizer's moments by name, as this worker holds them; not copies."""
        frozen = self._frozen()
        for name, value in self.module.state_dict().items():
            if name not in frozen:
                yield f"weights/{name}", value.detach()
        yield from ((f"ema/{name}", value) for name, value in (self.ema.weights().items() if self.ema else ()))
        for name, weight in self.module.named_parameters():
            for slot, value in opened(self.optimizer.state.get(weight, {})):
                yield f"optimizer/{name}/{slot}", value.detach()
        if self.adversary is not None:
            yield from ((f"opponent/{name}", value) for name, value in self.adversary.tensors())

    def load(self, tensors: Mapping[str, TensorSource], facts: Mapping[str, Any], *, where: str) -> None:
        """Load a stored state; module, optimizer and average must be those of the same spec.

        Args:
            tensors: Tensors by name, in memory or stored; a worker of a sharded training reads only its rows.
            facts: Everything else, in the form that ``facts`` returned.
            where: Place of the state, for messages.

        Raises:
            ValueError: The state belongs to other weights.
        """
        self._load_tensors(tensors, where)
        for name, key in _STORED_AS.items():
            setattr(self, name, facts[key])
        self.without = list(facts.get("without", []))  # absent from states of earlier versions
        if self.adversary is not None:
            self.adversary.recent = list(facts["opponent_recent"])
        self.history = [{name: float(value) for name, value in row.items()} for row in facts["history"]]
        for row in self.history:
            row["step"] = int(row["step"])
        self.skipped = [Skipped.from_json(each, where=where) for each in facts["skipped"]]

    def _frozen(self) -> frozenset[str]:
        """Return the names of frozen weights; they are not stored, since they come from the start checkpoint."""
        return frozenset(name for name, weight in self.module.named_parameters() if not weight.requires_grad)

    def _load_tensors(self, tensors: Mapping[str, TensorSource], where: str) -> None:
        def below(prefix: str) -> dict[str, TensorSource]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        second = below("opponent/")
        if (self.adversary is not None) != bool(second):
            stored, wanted = ("with", "none") if second else ("without", "one")
            raise ValueError(f"{where}: state of a training {stored} a discriminator, expected {wanted}")
        frozen = self._frozen()
        own = {name: value for name, value in self.module.state_dict().items() if name not in frozen}
        assign_all(own, below("weights/"), where, "model")
        if self.ema is not None:
            self.ema.load(below("ema/"))
        if self.adversary is not None:
            self.adversary.load(second, where=where)
        self.optimizer.state.clear()
        for name, weight in self.module.named_parameters():
            if slots := below(f"optimizer/{name}/"):
                placed = {slot: like(value, weight) for slot, value in slots.items()}
                self.optimizer.state[weight] = closed(placed, weight)
                if isinstance(self.optimizer, HostAdamW):
                    self.optimizer.rest(weight)


_STORED_AS = {
    "step": "step",
    "position": "position",
    "recent": "recent",
    "loss_sum": "loss_sum",
    "loss_count": "loss_count",
    "skips_in_row": "skips_in_row",
    "rewinds": "rewinds",
    "excluded": "banned",
    "left_out": "left_out",
    "notes": "notes",
}
"""Key in a stored state of every plain attribute; keys never change, since old states must load."""


def _writable(row: MetricRow) -> dict[str, float | str]:
    """Write infinities and NaN as text, since JSON has no number for them; ``float`` reads it back."""
    return {name: value if math.isfinite(value) else str(value) for name, value in row.items()}


def generator_for(seed: int, purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of one purpose at one place, such as a step and a micro-batch (decision 8).

    The seed is a hash of purpose and place, so that no state of a generator is ever stored.
    """
    name = "/".join([str(seed), purpose, *map(str, numbers)])
    return torch.Generator(device).manual_seed(int.from_bytes(blake2b(name.encode(), digest_size=7).digest(), "big"))
