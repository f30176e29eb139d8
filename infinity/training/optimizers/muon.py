"""Muon: matrices of hidden layers take steps whose singular values are all about one (K. Jordan, 2024).

The other weights (first and last layers, norms, biases, tables) are trained by AdamW. Steps of matrices are scaled to
the usual size of AdamW's, so that both take the same learning rate (arXiv:2502.16982).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from infinity.training.distributed.parallel import ProcessGroup
from infinity.transformer.number_formats.precision import has_bfloat16

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic polynomial of the Newton-Schulz iteration; it raises small singular values fastest."""

NUM_ITERATIONS = 5
SIZE_OF_ADAMW = 0.2
"""Usual root mean square of a step of AdamW at rate 1, to which a step of a matrix is scaled."""

_LEAST_NORM = 1e-7
_WIDE = 6
"""Ratio of columns to rows from which iterating on products of rows is faster."""


class Muon(torch.optim.Optimizer):
    """Muon for some weights, AdamW for all others, with one learning rate.

    The state of a matrix is its ``momentum_buffer``; other weights have the state of AdamW.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        others: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
    ) -> None:
        """Split the weights between the two algorithms.

        Args:
            matrices: Weights of linear maps and convolutions, two axes or more; a convolution is the matrix of its
                output channels.
            others: Parameter groups of AdamW; may be empty.
            lr: Learning rate of both.
            betas: Decay rates of AdamW's moments.
            eps: Small number of AdamW.
            weight_decay: Weight decay of the matrices.
            group: Workers that hold the same weights and gradients, and share out the work on the matrices.
        """
        self._group = group
        self._adamw = torch.optim.AdamW(others or [{"params": []}], lr=lr, betas=betas, eps=eps, fused=True)
        super().__init__([{"params": list(matrices), "weight_decay": weight_decay}], {"lr": lr})
        self._matrices = self.param_groups[0]
        self.param_groups = [self._matrices, *self._adamw.param_groups]
        self.state = self._adamw.state
        self._alike = _by_shape(self._matrices["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all weights; every matrix must have a gradient."""
        assert closure is None, "gradients are computed before the update"
        group = self._matrices
        rate, decay = group["lr"], group["weight_decay"]
        weights = group["params"]
        gradients = [weight.grad for weight in weights]
        momenta = [self._momentum(weight) for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1.0 - MOMENTUM)
        ahead = dict(zip(weights, torch._foreach_lerp(gradients, momenta, MOMENTUM), strict=True))
        if decay:
            torch._foreach_mul_(weights, 1.0 - rate * decay)
        for alike, steps in zip(self._alike, self._steps(ahead), strict=True):
            size = SIZE_OF_ADAMW * max(steps.shape[1:]) ** 0.5
            steps_like = [_unmatrix(step, weight) for step, weight in zip(steps, alike, strict=True)]
            torch._foreach_add_(alike, steps_like, alpha=-rate * size)
        self._adamw.step()

    def _steps(self, ahead: Mapping[Tensor, Tensor]) -> list[Tensor]:
        """Return the steps of all matrices, grouped by shape; each worker computes its share of every group.

        Workers on different processors would round differently; so all take the same result.
        """
        shapes = [(len(alike), *_matrix(alike[0]).shape) for alike in self._alike]
        sizes = [math.prod(shape) for shape in shapes]
        flat = next(iter(ahead.values())).new_zeros(sum(sizes))
        steps = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        own = slice(self._group.rank, None, self._group.size)
        for alike, part in zip(self._alike, steps, strict=True):
            if alike[own]:
                part[own] = orthogonal(torch.stack([_matrix(ahead[weight]) for weight in alike[own]]))
        self._group.sum(flat)
        return steps

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and with singular values of about one (0.7 to 1.2).

    Products are bfloat16 on a GPU and on processors that have it, else float32; those of wide matrices are float32.

    Args:
        matrices: N matrices of at most as many rows as columns, (N, rows, columns), float32.

    Returns:
        Float32, of the same shape.
    """
    norms = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    x = matrices / norms.clamp(min=_LEAST_NORM)
    rows, columns = x.shape[1:]
    if columns >= _WIDE * rows:
        return _by_gram(x)
    return _by_steps(x.to(_dtype(matrices.device.type))).float()


def _by_steps(x: Tensor) -> Tensor:
    """Iterate on the matrices: three products each time, two of them with all columns."""
    a, b, c = COEFFICIENTS
    for _ in range(NUM_ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor) -> Tensor:
    """Iterate on the products of rows alone, which are square, and multiply the matrices once; the same in theory.

    Every iteration multiplies from the left by a polynomial of the gram matrix, and all of these commute. Never in
    bfloat16: rounding gives the gram matrix of a nearly singular one negative eigenvalues, and these grow without
    bound.
    """
    a, b, c = COEFFICIENTS
    gram, factors = torch.bmm(x, x.mT), None
    for number in range(NUM_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        factors = factor if factors is None else torch.bmm(factor, factors)
        if number + 1 < NUM_ITERATIONS:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    assert factors is not None
    return torch.bmm(factors, x)


@cache
def _dtype(kind: str) -> torch.dtype:
    return torch.bfloat16 if has_bfloat16(torch.device(kind)) else torch.float32


def _by_shape(weights: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group weights whose matrices have equal shapes, which are computed together."""
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for weight in weights:
        groups.setdefault(tuple(_matrix(weight).shape), []).append(weight)
    return list(groups.values())


def _matrix(weight: Tensor) -> Tensor:
    """Return a weight as a matrix that is not higher than wide."""
    flat = weight.reshape(len(weight), -1)
    return flat.mT if flat.shape[0] > flat.shape[1] else flat


def _unmatrix(step: Tensor, weight: Tensor) -> Tensor:
    """Return the step of a weight from that of its matrix."""
    flat = step.mT if len(weight) > weight[0].numel() else step
    return flat.reshape(weight.shape)
