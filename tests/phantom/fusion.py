"""Count the kernels of one transformer block as the compiler fuses it for a card, and the bytes that they move.

``torch.compile`` is not run: a block is traced to its operations, and the compiler's own scheduler fuses them for the
phantom card. No kernel is built, so neither a card nor Triton is needed. A matrix product and an attention are one
kernel each; nothing is fused into them.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import compile_fx, scheduler
from torch._inductor import config as inductor
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.scheduler import BaseSchedulerNode
from torch._inductor.virtualized import V
from torch.fx.experimental.proxy_tensor import make_fx

from infinity.kernels.switch import use_kernels
from infinity.transformer import TransformerConfig, scale_attention
from infinity.transformer.attention import TextMemory
from infinity.transformer.block import Block, DropPathMask, Modulation
from infinity.transformer.cache import KeyValueCache
from infinity.transformer.scale_attention import AttentionMask

CARD = types.SimpleNamespace(
    name="card", major=9, minor=0, multi_processor_count=132, total_memory=80 * 10**9, warp_size=32,
    regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    shared_memory_per_block=48 << 10, shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10, L2_cache_size=50 << 20, is_integrated=False,
)  # fmt: skip
"""What the compiler asks of a card: the data sheet of an H100."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of a compiled block.

    Attributes:
        kind: "product", "attention", "fused" for what the compiler writes, else the name of an operation that it calls.
        operations: Names of the operations that it computes.
        bytes: Bytes that it reads and writes.
    """

    kind: str
    operations: tuple[str, ...]
    bytes: int


def _as_kernels_write(x: Tensor) -> Tensor:
    """Return an empty tensor (B, N, L, E) that lies in memory as (B, L, N, E)."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2)


NO_NUMBERS = "attention of the phantom card has shapes and places, and no numbers: call it with fake tensors"


@torch.library.custom_op("phantom::attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    raise NotImplementedError(NO_NUMBERS)


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return _as_kernels_write(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("phantom::attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    raise NotImplementedError(NO_NUMBERS)


@_attention_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _as_kernels_write(query), _as_kernels_write(key), _as_kernels_write(value)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _back(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = _attention_backward(grad, *ctx.saved_tensors)
    return found


_attention.register_autograd(_back, setup_context=_keep)


def _attend(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        query, key, value = (each.to(torch.get_autocast_dtype(kind)) for each in (query, key, value))
    attended: Tensor = _attention(query, key, value)[0]
    return attended


@contextlib.contextmanager
def _for_the_card() -> Iterator[None]:
    """Let the compiler believe that a card and Triton are there, and let attention be one operation."""

    def card(_: Any = None) -> Any:
        return CARD

    with (
        use_kernels("plain"),  # as ``uses_fast`` says inside compiled code
        patch.object(F, "scaled_dot_product_attention", _attend),
        patch.object(scale_attention, "_flex", lambda device: _attend),
        patch.object(CudaInterface, "get_device_properties", staticmethod(card)),
        patch.object(CudaInterface.Worker, "get_device_properties", staticmethod(card)),
        patch.object(CudaInterface, "get_compute_capability", staticmethod(lambda _=None: 90)),
        patch.object(torch.cuda, "get_device_properties", card),
        patch.object(torch.cuda, "get_device_capability", lambda _=None: (CARD.major, CARD.minor)),
        patch.object(scheduler, "has_triton", lambda *_: True),
        inductor.patch(joint_graph_constant_folding=False),  # it would run operations on the card
    ):
        yield


def fused(function: Callable[..., Any], arguments: list[Tensor], *, learns: bool = False) -> list[Kernel]:
    """Return the kernels of a function as the compiler would fuse it; to be called inside ``card.running()``.

    Args:
        function: Function of tensors alone.
        arguments: Fake tensors on the card.
        learns: Whether the function computes gradients of its own.
    """
    mode = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    with _for_the_card(), torch.set_grad_enabled(learns):
        table = select_decomp_table()
        graph = make_fx(function, decomposition_table=table, tracing_mode="real", _allow_non_fake_inputs=True)(
            *arguments
        )
        graph.graph.eliminate_dead_code()
        with V.set_fake_mode(mode), torch.no_grad():
            joint_graph_passes(graph)
            compile_fx._recursive_post_grad_passes(graph, not learns)
            return _scheduled(graph, arguments)


def _scheduled(graph: torch.fx.GraphModule, arguments: list[Tensor]) -> list[Kernel]:
    lowering = GraphLowering(graph, example_inputs=arguments, is_inference=True)
    debug = DebugContext()  # type: ignore[no-untyped-call]
    with V.set_graph_handler(lowering), V.set_extern_kernel_nodes([]), V.set_debug_handler(debug):
        lowering.run(*arguments)
        lowering._update_scheduler()
        nodes = [node for node in lowering.scheduler.nodes if _is_kernel(node)]
        return [_kernel(node) for node in nodes]


def _is_kernel(node: BaseSchedulerNode) -> bool:
    """Return whether a node starts something: parts of a result, and memory without content, do not."""
    if isinstance(node, scheduler.NopKernelSchedulerNode):
        return False
    return type(node.get_nodes()[0].node).__name__ != "MultiOutput"


def _kernel(node: BaseSchedulerNode) -> Kernel:
    parts = [part.node for part in node.get_nodes() if part.node is not None]
    names = tuple(sorted({str(origin.target) for part in parts for origin in part.origins}))
    if not isinstance(node, scheduler.ExternKernelSchedulerNode):
        return Kernel("fused", names, node.get_read_write_buffers_sizes())
    called = str(getattr(parts[0], "op_overload", None) or getattr(parts[0], "python_kernel_name", None))
    kind = "attention" if "phantom" in called else "product" if PRODUCTS & set(called.split(".")) else called
    return Kernel(kind, names, _moved_by_call(parts[0]))


PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm"})


def _moved_by_call(node: Any) -> int:
    """Return the bytes of all inputs and outputs; the compiler counts each result of several on its own."""
    results = getattr(node, "outputs", None) or [node]
    return sum(_bytes_of(each) for each in [*node.inputs, *results])


def _bytes_of(buffer: Any) -> int:
    numbers = math.prod(int(size) for size in buffer.get_size())
    return int(numbers * buffer.get_dtype().itemsize)


def summed(kernels: list[Kernel]) -> dict[str, int]:
    """Return the number of kernels, and the bytes that they move."""
    return {"launches": len(kernels), "moved": sum(kernel.bytes for kernel in kernels)}


CAPTION_TOKENS = 128


def block_inputs(config: TransformerConfig, *, batch: int, tokens: int) -> list[Tensor]:
    """Return fake inputs of one block on the card, for ``call_block``.

    Args:
        config: Shape of the transformer.
        batch: Number of samples.
        tokens: Tokens per sample.
    """
    width, heads = config.width, config.num_heads

    def new(*shape: int, dtype: torch.dtype = torch.float32, learns: bool = True) -> Tensor:
        return torch.empty(shape, device="cuda", dtype=dtype, requires_grad=learns)

    caption = (batch, heads, CAPTION_TOKENS, width // heads)
    return [
        new(batch, tokens, width),
        new(*caption, dtype=torch.bfloat16),
        new(*caption, dtype=torch.bfloat16),
        new(tokens, width // heads // 2, 2, learns=False),
        *(new(batch, 1, 1, learns=False) for _ in range(2)),
        *(new(batch, 1, width) for _ in range(6)),
    ]


def call_block(
    block: Block,
    inputs: Sequence[Tensor],
    mask: AttentionMask | KeyValueCache,
    weights: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Run a block in bfloat16 on the tensors of ``block_inputs``; drop path takes part where weights are given."""
    x, keys, values, rotary, attend, expand, *modulation = inputs
    drop_path = None if weights is None else DropPathMask(attend, expand)
    arguments = (x, Modulation(*modulation), TextMemory(keys, values, None), rotary, mask, drop_path)
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        if weights is None:
            result: Tensor = block(*arguments)
            return result
        learned: Tensor = torch.func.functional_call(block, dict(weights), arguments)
        return learned
