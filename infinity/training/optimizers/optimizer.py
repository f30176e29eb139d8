"""AdamW or Muon: weight decay by kind of weight, and the schedule of the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from infinity.config import Config
from infinity.ranges import Natural, NotNegative, Positive, Share, ShareBelowOne
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.optimizers.eight_bit import eight_bit_adamw
from infinity.training.optimizers.host_states import HostAdamW
from infinity.training.optimizers.muon import Muon

Algorithm = Literal["adamw", "muon"]

DECAYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig(Config):
    """The optimizer and its learning rate.

    Attributes:
        learning_rate: Highest learning rate, for AdamW and Muon alike. No other setting multiplies it, unlike the base
            rate of the reference's command line, which grows with the batch.
        betas: Decay rates of the first and second moment.
        eps: Small number added to the root of the second moment.
        weight_decay: Weight decay of linear maps and convolutions; norms, biases, embeddings and learned tables never
            decay.
        clip_norm: Largest norm of the gradient over all weights; None does not clip.
        warmup_steps: Steps in which the rate rises linearly from near zero.
        decay: Course of the rate from the end of the warm-up to the last step: constant, or along half a cosine or a
            line down to ``final_share`` of it, or a drop to that fraction after ``drop_step`` steps.
        final_share: Ratio of the last step's rate to the highest.
        drop_step: Number of steps before the drop of ``decay="drop"``.
        states: Precision of the two moments. "8bit" needs a quarter of the memory, and the library torchao.
        algorithm: Algorithm of the matrices of hidden layers: linear maps and convolutions but the first and last.
            "muon" gives their steps singular values of about one, and learns in fewer steps that cost somewhat more.
            All other weights have AdamW.
        states_on_cpu: Whether the moments of AdamW rest in memory of the CPU, with equal results: a GPU holds those of
            64 million weights at a time, and every step copies all moments to it and back.
    """

    later: ClassVar[frozenset[str]] = frozenset({"drop_step", "states", "algorithm", "states_on_cpu"})

    learning_rate: Positive
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.97)
    eps: float = 1e-8
    weight_decay: NotNegative = 0.005
    clip_norm: Positive | None = 5.0
    warmup_steps: Natural = 0
    decay: Literal["constant", "cosine", "linear", "drop"] = "constant"
    final_share: Share = 0.0
    drop_step: int | None = None
    states: Literal["float32", "8bit"] = "float32"
    algorithm: Algorithm = "adamw"
    states_on_cpu: bool = False

    def __post_init__(self) -> None:
        if (self.decay == "drop") != (self.drop_step is not None) or (self.drop_step or 0) < 0:
            raise ValueError(
                "OptimizerConfig.drop_step: expected a number of steps with decay='drop', and None with every other "
                f"decay, got {self.drop_step} with {self.decay!r}"
            )
        if self.states_on_cpu and (self.algorithm != "adamw" or self.states != "float32"):
            raise ValueError(
                "OptimizerConfig.states_on_cpu: expected algorithm 'adamw' with states 'float32', got "
                f"{self.algorithm!r} with {self.states!r}; choose one way to save the memory of moments"
            )
        if self.algorithm == "muon" and self.states == "8bit":
            raise ValueError(
                "OptimizerConfig.states: 8-bit moments are made for AdamW; set states to 'float32' (Muon has one "
                "moment per matrix, half of AdamW's memory), or algorithm to 'adamw'"
            )


def learning_rate_at(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Return the rate of the update after ``step`` finished ones, in a run of ``num_steps``."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.decay == "constant":
        return config.learning_rate
    if config.drop_step is not None:
        return config.learning_rate * (config.final_share if step >= config.drop_step else 1.0)
    done = (step - config.warmup_steps) / max(num_steps - 1 - config.warmup_steps, 1)
    left = 1.0 - min(done, 1.0)
    share = left if config.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return config.learning_rate * (config.final_share + (1.0 - config.final_share) * share)


def make_optimizer(
    module: nn.Module,
    config: OptimizerConfig,
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
) -> torch.optim.Optimizer:
    """Return the optimizer of all weights that take a gradient; AdamW is one fused kernel per parameter group.

    Args:
        module: Network whose weights are trained.
        group: Workers that take every step together.

    Raises:
        ImportError: 8-bit moments without the library torchao.
    """
    decaying, others = split_by_decay(module)
    matrices: list[Tensor] = []
    if config.algorithm == "muon":
        matrices, decaying = _split_by_place(module, decaying)
    groups: list[dict[str, Any]] = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if matrices:
        return Muon(
            matrices,
            groups,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            group=group,
        )
    if config.states == "8bit":
        return eight_bit_adamw(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)
    kind = HostAdamW if config.states_on_cpu else torch.optim.AdamW
    return kind(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def _split_by_place(module: nn.Module, decaying: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the matrices of hidden layers, and those of the first and last layers that the module names."""
    outer = {id(module.get_submodule(name).weight) for name in getattr(module, "outer_layers", ())}
    return [w for w in decaying if id(w) not in outer], [w for w in decaying if id(w) in outer]


def split_by_decay(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights that decay, and all others; only weights of linear maps and convolutions decay.

    The rule goes by type of module, since learned tables and gates have two axes too and must not shrink.
    """
    decay = {id(layer.weight) for layer in module.modules() if isinstance(layer, DECAYING)}
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return [w for w in weights if id(w) in decay], [w for w in weights if id(w) not in decay]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next update in all parameter groups."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # a compiled update reads it there
        else:
            group["lr"] = rate
