"""Everything a resumed run needs, as one value and as one folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinity.training.ema import Ema

FORMAT = 1
STATE_FILE, TENSOR_FILE, MARKER = "state.json", "state.safetensors", "COMMITTED"

Row = dict[str, float]
"""One logged step: "step" and its figures by name."""


@dataclass(slots=True)
class TrainState:
    """Where a run is.

    Position in the data, the learning rate and all random numbers are functions of the step (and of the spec), so that
    the step stands for them.

    Attributes:
        module: What is trained; only weights that may differ between two steps, never a frozen tokenizer.
        optimizer: Of its weights.
        ema: Its slow copy, or None.
        step: Updates done.
        history: What was logged, in order.
        loss_sum: Losses of the steps that are done but not logged yet.
        loss_count: How many those are.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None = None
    step: int = 0
    history: list[Row] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0

    def save(self, folder: Path) -> None:
        """Write the state into a new folder, which appears under its name only when it is whole.

        Raises:
            OSError: No space left, no permission.
        """
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(dict(self._tensors()), partial / TENSOR_FILE)
        facts = {
            "format": FORMAT,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "history": self.history,
        }
        (partial / STATE_FILE).write_text(json.dumps(facts), encoding="utf-8")
        (partial / MARKER).touch()
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)

    def load(self, folder: Path) -> None:
        """Take over a saved state; module, optimizer and average must be those of the same spec.

        Raises:
            ValueError: The folder is not a whole state, or one of other weights.
        """
        if not (folder / MARKER).is_file():
            raise ValueError(f"{folder}: no training state (its marker {MARKER} is missing); start from an earlier one")
        facts = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"{folder}: expected training state format {FORMAT}, found {facts['format']}")
        self._load_tensors(load_file(folder / TENSOR_FILE), folder)
        self.step, self.history = facts["step"], facts["history"]
        self.loss_sum, self.loss_count = facts["loss_sum"], facts["loss_count"]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.module.state_dict().items():
            yield f"weights/{name}", value.detach().contiguous()
        for name, value in self.ema.weights().items() if self.ema is not None else ():
            yield f"ema/{name}", value.contiguous()
        for name, weight in self.module.named_parameters():
            for slot, value in self.optimizer.state.get(weight, {}).items():
                yield f"optimizer/{name}/{slot}", value.detach().contiguous()

    def _load_tensors(self, tensors: Mapping[str, Tensor], folder: Path) -> None:
        def below(prefix: str) -> dict[str, Tensor]:
            return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

        weights = below("weights/")
        if mismatch := sorted(weights.keys() ^ self.module.state_dict().keys()):
            raise ValueError(f"{folder}: the state is of another model; weights that differ: {mismatch[:5]}")
        self.module.load_state_dict(weights)
        if self.ema is not None:
            self.ema.load(below("ema/"))
        for name, weight in self.module.named_parameters():
            if slots := below(f"optimizer/{name}/"):
                self.optimizer.state[weight] = {slot: _like(value, weight) for slot, value in slots.items()}


def _like(value: Tensor, weight: Tensor) -> Tensor:
    """A running mean where its weight is, and in the same order in memory: the fused update walks both side by side."""
    if value.shape != weight.shape:
        return value.to(weight.device)
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def generator_for(seed: int, purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The source of all random numbers of one purpose at one place (step, rank, part); so none has to be stored."""
    name = "/".join([str(seed), purpose, *map(str, numbers)])
    return torch.Generator(device).manual_seed(int.from_bytes(blake2b(name.encode(), digest_size=7).digest(), "big"))
