"""Weights that the workers of a training share out instead of copying (FSDP2), and the few things that differ then.

A sharded parameter is a ``DTensor``: every worker holds some rows of it, of its gradient, of its average and of the
optimizer's running means. Each stores its own rows, and takes over whichever are its own from what any number of
workers stored, so that a run goes on with another number of them, sharded or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import EllipsisType
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from infinity.checkpoint import Piece
from infinity.training.distributed.parallel import ProcessGroup
from infinity.transformer.model import Transformer


def shard(transformer: Transformer, team: ProcessGroup, device: torch.device, *, offload: bool = False) -> None:
    """Deal the weights out to the team; each part of a block is a unit that is gathered just before it is used.

    Gradients are summed, not averaged, as `infinity.training.step` expects.

    Args:
        transformer: Its weights become sharded.
        team: Who shares them.
        device: Where is computed.
        offload: Keep weights, gradients and running means in the memory of the CPU, and update them there; only the
            unit that is computed with is on the device.
    """
    mesh = init_device_mesh(device.type, (team.size,))
    policy = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()
    for block in transformer.block_modules():
        # The text memories of all blocks are made before the first block runs, so they are gathered apart.
        for unit in (block.cross_attention.key_value, block.cross_attention, block.self_attention, block.feed_forward):
            fully_shard(unit, mesh=mesh, offload_policy=policy)
    fully_shard(transformer, mesh=mesh, offload_policy=policy)
    for part in transformer.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo and NCCL both know this one


def is_sharded(module: nn.Module) -> bool:
    """Whether this worker holds only a part of the weights."""
    return any(isinstance(weight, DTensor) for weight in module.parameters())


def whole(tensor: Tensor) -> Tensor:
    """The tensor with all its rows. All workers must ask for the same one, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This worker's rows: a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class TensorSource(Protocol):
    """A tensor, or one that is stored and read when it is asked for."""

    @property
    def shape(self) -> torch.Size:
        """Of the whole."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        ...

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        """All of it (``...``), or some of its rows."""
        ...


def own_rows(tensor: DTensor) -> slice:
    """Numbers of the rows that this worker holds; it may hold none.

    Raises:
        ValueError: Shared out in another way than FSDP2 does by default: among one row of workers, by rows.
    """
    mesh = tensor.device_mesh
    if mesh.ndim != 1 or tuple(tensor.placements) != (Shard(0),):
        raise ValueError(f"sharded weights: expected rows among one line of workers, found {tensor.placements}")
    total, size, rank = tensor.shape[0], mesh.size(), mesh.get_local_rank()
    chunk = -(-total // size)
    return slice(min(rank * chunk, total), min((rank + 1) * chunk, total))


def own_piece(tensor: Tensor, team: ProcessGroup) -> Piece | None:
    """What this worker stores of a tensor: its rows; of one that all hold, the first stores the whole. A view.

    Raises:
        ValueError: Shared out among others than ``team``, who could not store all of it.
    """
    if isinstance(tensor, DTensor):
        if tensor.device_mesh.size() != team.size:
            raise ValueError(
                f"weights shared out among {tensor.device_mesh.size()} workers cannot be stored by {team.size}"
            )
        rows = own_rows(tensor)
        if rows != slice(0, tensor.shape[0]):
            held = tensor.to_local()
            return Piece(held, rows.start, tensor.shape[0]) if len(held) else None
        tensor = tensor.to_local()
    return Piece(tensor) if team.leads else None


@torch.no_grad()
def assign(target: Tensor, value: TensorSource) -> None:
    """Copy a tensor into one that may be sharded; of a stored one only this worker's rows are read then."""
    if isinstance(target, DTensor):
        target.to_local().copy_(value[own_rows(target)])
    else:
        target.copy_(value[...])


def like(value: TensorSource, weight: Tensor) -> Tensor:
    """A running mean where its weight is, shared out like it, and in the same order in memory.

    The fused update walks both side by side. Other values, such as a count of steps, only change their device.
    """
    if value.shape != weight.shape:
        return value[...].to(weight.device, copy=True)
    target = torch.empty_like(weight, dtype=value.dtype, requires_grad=False)
    assign(target, value)
    return target


def gradient_norm(weights: Iterable[Tensor]) -> Tensor:
    """Euclidean norm of all gradients of the team."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm([local(gradient) for gradient in gradients])
    if not any(isinstance(gradient, DTensor) for gradient in gradients):
        return norm
    square = norm.square()
    dist.all_reduce(square)
    return square.sqrt()


def clip(weights: Iterable[Tensor], longest: float, norm: Tensor) -> None:
    """Shorten all gradients so that their norm is at most ``longest``."""
    gradients = [local(weight.grad) for weight in weights if weight.grad is not None]
    torch._foreach_mul_(gradients, torch.clamp(longest / (norm + 1e-6), max=1.0))
