"""Sharded weights (FSDP2): the workers share out the weights instead of copying them.

A sharded parameter is a ``DTensor``: every worker holds some rows of it, of its gradient, of its average and of the
optimizer's moments. Each worker stores its own rows. It loads its own rows from whatever number of workers stored them,
so that a run resumes with another number of workers, sharded or not (decision 38).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infinity.checkpoint import Piece
from infinity.training.distributed.parallel import ProcessGroup
from infinity.transformer.model import Transformer

if TYPE_CHECKING:  # importing FSDP2 takes a second or more, in every job; only sharded trainings need it
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def is_shard(tensor: Tensor) -> TypeGuard[DTensor]:
    """Return whether a tensor is sharded."""
    module = sys.modules.get("torch.distributed.tensor")  # without it no tensor is
    return module is not None and isinstance(tensor, module.DTensor)


def _is_unit(module: nn.Module) -> TypeGuard[FSDPModule]:
    """Return whether a module's weights are gathered as one unit."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)


def shard(
    transformer: Transformer,
    group: ProcessGroup,
    device: torch.device,
    *,
    offload: bool = False,
    bfloat16: bool = False,
    among: int | None = None,
    keep_gathered: bool = False,
) -> None:
    """Shard the weights over the group; each layer of a block is a unit that is gathered just before its use.

    Gradients are summed, not averaged, as `infinity.training.step` expects.

    Args:
        transformer: Model whose weights become sharded.
        group: Processes that share the weights.
        offload: Keep weights, gradients and moments in the memory of the CPU, and update them there; only the unit in
            use is on the device.
        bfloat16: Gather weights in bfloat16 where products round them to it anyway, which halves that traffic.
            Gradients are summed in float32.
        among: Workers that share the weights; every group of that size has a copy (HSDP). None for all.
        keep_gathered: Keep the gathered weights of a block until its backward pass.

    Raises:
        ValueError: The group cannot be divided into groups of ``among``.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    mesh = _mesh(group.size, among or group.size, device)
    policy = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()
    half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    unit_settings: dict[str, Any] = {"mesh": mesh, "offload_policy": policy, "reshard_after_forward": not keep_gathered}
    gathered: dict[str, Any] = {"mp_policy": half} if bfloat16 else {}
    for block in transformer.block_modules():
        _bring(block, device)  # block by block, so that a device that cannot hold all weights can still shard them
        # The caption's keys and values of all blocks are computed before the first block runs: a unit of their own.
        for unit in (block.cross_attention.key_value, block.cross_attention, block.feed_forward):
            fully_shard(unit, **unit_settings, **gathered)
        fully_shard(block.self_attention, **unit_settings)  # its scale per head is read in float32
    _bring(transformer, device)
    fully_shard(transformer, mesh=mesh, offload_policy=policy)
    for module in transformer.modules():
        if _is_unit(module):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo and NCCL both support plain sums


def _mesh(size: int, among: int, device: torch.device) -> DeviceMesh:
    """Return one line of workers that share all weights, or one line per copy of the weights."""
    if size % among:
        raise ValueError(f"workers.shard_among: {size} workers cannot be divided into groups of {among}")
    from torch.distributed.device_mesh import init_device_mesh

    if among == size:
        return init_device_mesh(device.type, (size,))
    return init_device_mesh(device.type, (size // among, among), mesh_dim_names=("copies", "shards"))


def sum_now(module: nn.Module, now: bool) -> None:
    """Let the next backward passes of sharded weights sum gradients over the workers, or keep them whole for later."""
    if _is_unit(module):
        module.set_requires_gradient_sync(now)


def _bring(module: nn.Module, device: torch.device) -> None:
    """Move the weights that are not sharded yet to a device: FSDP2 shards there, and offloads the shards itself."""
    for each in module.modules():
        for name, weight in each._parameters.items():
            if weight is not None and not is_shard(weight) and weight.device.type != device.type:
                each._parameters[name] = nn.Parameter(weight.detach().to(device), weight.requires_grad)


def is_sharded(module: nn.Module) -> bool:
    """Return whether this worker holds only some rows of the weights."""
    return any(is_shard(weight) for weight in module.parameters())


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor with all its rows. All workers must call this for the same tensors in the same order."""
    return tensor.full_tensor() if is_shard(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Return a view of this worker's rows."""
    return tensor.to_local() if is_shard(tensor) else tensor


class TensorSource(Protocol):
    """A tensor in memory, or a stored one that is read on access."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the whole tensor."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the tensor."""
        ...

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        """Return the whole tensor (``...``), or some of its rows."""
        ...


def own_rows(tensor: DTensor) -> slice:
    """Return the range of rows that this worker holds; it may be empty.

    Raises:
        ValueError: The tensor is not sharded by rows over the last axis of its mesh, FSDP2's default.
    """
    from torch.distributed.tensor import Replicate, Shard

    mesh = tensor.device_mesh
    if tuple(tensor.placements) not in ((Shard(0),), (Replicate(), Shard(0))):
        raise ValueError(f"sharded weights: expected rows among lines of workers, found {tensor.placements}")
    total, size, rank = tensor.shape[0], mesh.size(mesh.ndim - 1), mesh.get_local_rank(mesh.ndim - 1)
    chunk = -(-total // size)
    return slice(min(rank * chunk, total), min((rank + 1) * chunk, total))


def own_piece(tensor: Tensor, group: ProcessGroup) -> Piece | None:
    """Return a view of what this worker stores: its rows, or all of an unsharded tensor on the first worker.

    Where several workers hold the same rows, the first of them stores these.

    Raises:
        ValueError: The tensor is sharded over another number of workers than ``group`` has.
    """
    if is_shard(tensor):
        if tensor.device_mesh.size() != group.size:
            raise ValueError(
                f"weights shared out among {tensor.device_mesh.size()} workers cannot be stored by {group.size}"
            )
        rows = own_rows(tensor)
        if rows != slice(0, tensor.shape[0]):
            held = tensor.to_local()
            is_copy = tensor.device_mesh.ndim > 1 and tensor.device_mesh.get_local_rank(0) > 0
            return Piece(held, rows.start, tensor.shape[0]) if len(held) and not is_copy else None
        tensor = tensor.to_local()
    return Piece(tensor) if group.leads else None


@torch.no_grad()
def assign(target: Tensor, value: TensorSource) -> None:
    """Copy a tensor into one that may be sharded; then only this worker's rows of a stored tensor are read."""
    if is_shard(target):
        target.to_local().copy_(value[own_rows(target)])
    else:
        target.copy_(value[...])


def assign_all(own: Mapping[str, Tensor], found: Mapping[str, TensorSource], where: str, what: str) -> None:
    """Copy stored tensors into those of the same names; ``where`` and ``what`` name the file and the network in errors.

    Raises:
        ValueError: Names or shapes differ.
    """
    names = own.keys() | found.keys()
    differing = sorted(n for n in names if n not in own or n not in found or own[n].shape != found[n].shape)
    if differing:
        raise ValueError(f"{where}: state of another {what}; weights that differ: {differing[:5]}")
    for name, value in own.items():
        assign(value, found[name])


def like(value: TensorSource, weight: Tensor) -> Tensor:
    """Return an optimizer moment on its weight's device, sharded like it and in the same memory format.

    The fused update reads both in the order of memory. Values of another shape, such as a step count, only change
    their device.
    """
    if value.shape != weight.shape:
        return value[...].to(weight.device, copy=True)
    target = torch.empty_like(weight, dtype=value.dtype, requires_grad=False)
    assign(target, value)
    return target


def gradient_norm(weights: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients, over all shards; copies of a shard count once."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm([local(gradient) for gradient in gradients])
    meshes = [gradient.device_mesh for gradient in gradients if is_shard(gradient)]
    if not meshes:
        return norm
    square = norm.square()
    dist.all_reduce(square, group=meshes[0].get_group(meshes[0].ndim - 1))
    return square.sqrt()


def clip(weights: Iterable[Tensor], max_norm: float, norm: float) -> None:
    """Scale all gradients in place so that their norm, at present ``norm``, is at most ``max_norm``.

    A smaller norm leaves them as they are, without a pass over memory.
    """
    factor = float(torch.clamp(max_norm / (torch.tensor(norm) + 1e-6), max=1.0))  # in float32, like the gradients
    if factor < 1.0:
        torch._foreach_mul_([local(weight.grad) for weight in weights if weight.grad is not None], factor)
