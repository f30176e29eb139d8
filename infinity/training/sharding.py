"""Weights that the workers of a training share out instead of copying (FSDP2), and the few things that differ then.

A sharded parameter is a ``DTensor``: every worker holds some rows of it, of its gradient, of its average and of the
optimizer's running means. Everything stored is whole, so that a run goes on with another number of workers, sharded or
not.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from infinity.training.parallel import Team
from infinity.transformer.model import Transformer


def shard(transformer: Transformer, team: Team, device: torch.device, *, offload: bool = False) -> None:
    """Deal the weights out to the team; each part of a block is a unit that is gathered just before it is used.

    Gradients are summed, not averaged, as `infinity.training.update` expects.

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


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded; every worker has the whole one."""
    if isinstance(target, DTensor):
        rows = distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
        target.to_local().copy_(rows.to_local())
    else:
        target.copy_(value)


def like(value: Tensor, weight: Tensor) -> Tensor:
    """A running mean where its weight is, shared out like it, and in the same order in memory.

    The fused update walks both side by side. Other values, such as a count of steps, only change their device.
    """
    if value.shape != weight.shape:
        return value.to(weight.device)
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
