"""Everything a resumed run needs, as one value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from infinity.training.adversary import Adversary
from infinity.training.distributed.sharding import TensorSource, assign, like, whole
from infinity.training.eight_bit import closed, opened
from infinity.training.ema import Ema
from infinity.training.guard import Skipped

MetricRow = dict[str, float]
"""One logged step: "step" and its figures by name."""


@dataclass(slots=True)
class TrainState:
    """Where a run is: everything a resume needs, as one value.

    The learning rate and all random numbers are functions of the spec, the step and the position, so that these stand
    for them.

    Attributes:
        module: What is trained; only weights that may differ between two steps, never a frozen tokenizer.
        optimizer: Of its weights.
        ema: Its slow copy, or None.
        opponent: A second network that is trained against it, or None.
        step: Updates done.
        position: Number of the next batch; ahead of ``step`` by the batches that were skipped.
        history: What was logged, in order.
        recent: Losses of the last updates, of which the guard takes the usual loss.
        loss_sum: Losses of the steps that are done but not logged yet.
        loss_count: How many those are.
        skipped: Batches that were not trained on, in order.
        skips_in_row: How many of them came since the last update.
        rewinds: How often the run went back to a checkpoint.
        banned: Names of samples that are left out since then.
        left_out: Numbers of batches that are left out since then.
        without: What the run had to begin without, and so goes on without: names of missing inputs.
        notes: What should not have happened, for people.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None = None
    opponent: Adversary | None = None
    step: int = 0
    position: int = 0
    history: list[MetricRow] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    skips_in_row: int = 0
    rewinds: int = 0
    banned: list[str] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, loss: float, *, window: int) -> None:
        """An update was done on the batch at ``position``."""
        self.step += 1
        self.position += 1
        self.skips_in_row = 0
        self.recent = [*self.recent, loss][-window:]
        self.loss_sum += loss
        self.loss_count += 1

    def take_loss(self) -> float:
        """Mean loss since it was last asked for."""
        mean = self.loss_sum / self.loss_count
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def facts(self) -> dict[str, Any]:
        """Everything but tensors, as JSON."""
        values = {name: getattr(self, name) for name in _PLAIN}
        values["history"] = [_writable(row) for row in self.history]
        values["without"] = self.without
        values["opponent_recent"] = self.opponent.recent if self.opponent else []
        return values | {"skipped": [each.to_json() for each in self.skipped]}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What ``held`` gives, whole. All workers of a sharded training must go through them together."""
        return ((name, whole(value)) for name, value in self.held())

    def held(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, averages and running means of the optimizer by name, as this worker holds them; not copies."""
        frozen = self._frozen()
        for name, value in self.module.state_dict().items():
            if name not in frozen:
                yield f"weights/{name}", value.detach()
        yield from ((f"ema/{name}", value) for name, value in (self.ema.weights().items() if self.ema else ()))
        for name, weight in self.module.named_parameters():
            for slot, value in opened(self.optimizer.state.get(weight, {})):
                yield f"optimizer/{name}/{slot}", value.detach()
        if self.opponent is not None:
            yield from ((f"opponent/{name}", value) for name, value in self.opponent.tensors())

    def load(self, tensors: Mapping[str, TensorSource], facts: Mapping[str, Any], *, where: str) -> None:
        """Take over a stored state; module, optimizer and average must be those of the same spec.

        Args:
            tensors: Whole ones by name, or stored ones, of which a worker of a sharded training reads its rows.
            facts: As ``facts`` gave them.
            where: Where they come from, for messages.

        Raises:
            ValueError: A state of other weights.
        """
        self._load_tensors(tensors, where)
        for name in _PLAIN:
            setattr(self, name, facts[name])
        self.without = list(facts.get("without", []))  # states of earlier versions know of none
        if self.opponent is not None:
            self.opponent.recent = list(facts["opponent_recent"])
        self.history = [{name: float(value) for name, value in row.items()} for row in facts["history"]]
        for row in self.history:
            row["step"] = int(row["step"])
        self.skipped = [Skipped.from_json(each, where=where) for each in facts["skipped"]]

    def _frozen(self) -> frozenset[str]:
        """Names of weights that the training does not change; they come from where it started."""
        return frozenset(name for name, weight in self.module.named_parameters() if not weight.requires_grad)

    def _load_tensors(self, tensors: Mapping[str, TensorSource], where: str) -> None:
        def below(prefix: str) -> dict[str, TensorSource]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        played = below("opponent/")
        if (self.opponent is not None) != bool(played):
            stored, wanted = ("with", "none") if played else ("without", "one")
            raise ValueError(f"{where}: state of a training {stored} a discriminator, expected {wanted}")
        frozen = self._frozen()
        weights = below("weights/")
        own = {name: value for name, value in self.module.state_dict().items() if name not in frozen}
        if mismatch := sorted(
            name
            for name in own.keys() | weights.keys()
            if name not in own or name not in weights or own[name].shape != weights[name].shape
        ):
            raise ValueError(f"{where}: state of another model; weights that differ: {mismatch[:5]}")
        for name, value in own.items():
            assign(value, weights[name])
        if self.ema is not None:
            self.ema.load(below("ema/"))
        if self.opponent is not None:
            self.opponent.load(played, where=where)
        self.optimizer.state.clear()
        for name, weight in self.module.named_parameters():
            if slots := below(f"optimizer/{name}/"):
                placed = {slot: like(value, weight) for slot, value in slots.items()}
                self.optimizer.state[weight] = closed(placed, weight)


_PLAIN = (
    "step",
    "position",
    "recent",
    "loss_sum",
    "loss_count",
    "skips_in_row",
    "rewinds",
    "banned",
    "left_out",
    "notes",
)


def _writable(row: MetricRow) -> dict[str, float | str]:
    """Numbers that JSON has no word for as texts, which ``float`` reads."""
    return {name: value if math.isfinite(value) else str(value) for name, value in row.items()}


def generator_for(seed: int, purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The source of all random numbers of one purpose at one place (step, rank, part); so none has to be stored."""
    name = "/".join([str(seed), purpose, *map(str, numbers)])
    return torch.Generator(device).manual_seed(int.from_bytes(blake2b(name.encode(), digest_size=7).digest(), "big"))
