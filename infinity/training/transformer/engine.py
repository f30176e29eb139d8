"""Switches of a transformer's training: attention kernel, compilation, bfloat16 on CPUs, deterministic kernels."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import ClassVar

import torch

from infinity.config import Config
from infinity.training.learner import TrainingError
from infinity.transformer.model import Transformer
from infinity.transformer.number_formats.precision import check_bfloat16
from infinity.transformer.scale_attention import KERNELS, Kernel


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig(Config):
    """Switches that change speed and memory; but for ``bfloat16`` losses differ by rounding alone (decision 31).

    Attributes:
        attention: Implementation of block-causal attention. "auto" is FlexAttention on a GPU and one call per fine
            scale on a CPU; "dense" needs memory for the square of all tokens.
        compile: Whether every block is compiled (``torch.compile``). The first step of a new length may take minutes;
            on a CPU a C++ compiler is needed, on a GPU Triton.
        bfloat16: Whether matrix products of the blocks are bfloat16 on a CPU too; on a GPU they always are. Losses
            differ by more than rounding of float32.
        deterministic: Whether a GPU only uses kernels that give the same bits every time, so that a resumed training
            ends bit for bit like an uninterrupted one. A CPU always does. It costs some speed.
    """

    later: ClassVar[frozenset[str]] = frozenset({"bfloat16", "deterministic"})

    attention: Kernel = "auto"
    compile: bool = False
    bfloat16: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.attention not in KERNELS:
            raise ValueError(f"EngineConfig.attention: expected one of {', '.join(KERNELS)}, got {self.attention!r}")

    def check(self, *, on_gpu: bool) -> None:
        """Refuse settings that the device does not support.

        Raises:
            ValueError: FlexAttention in a training on CPUs.
        """
        if self.attention == "flex" and not on_gpu:
            raise ValueError(
                "engine.attention: FlexAttention has no backward pass on a CPU; expected 'auto', 'windows' or 'dense', "
                "or workers.use_gpu"
            )


def set_up(transformer: Transformer, config: EngineConfig, device: torch.device, *, sharded: bool = False) -> None:
    """Set attention kernel and compilation of a transformer; call it before its weights are sharded.

    Raises:
        TrainingError: Compiled blocks without a compiler.
        ValueError: FlexAttention on a CPU.
    """
    config.check(on_gpu=device.type == "cuda")
    transformer.kernel = config.attention
    if not config.compile:
        return
    check_compiler(device)
    transformer.one_form = True
    torch._dynamo.config.recompile_limit = max(_MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    for block in transformer.block_modules():
        # FSDP gathers weights by hooks between the layers of a block, so each layer is compiled by itself.
        layers = (block.self_attention, block.cross_attention, block.feed_forward) if sharded else (block,)
        for layer in layers:
            layer.compile(dynamic=True)
        if not sharded:
            # The pass that computes the block again is part of the graph, so that a compiler fuses it with gradients.
            block.checkpointed = torch.compile(block.checkpointed, dynamic=True)  # type: ignore[method-assign]


def begin(config: EngineConfig, device: torch.device) -> None:
    """Make this process deterministic where that is wanted; call it before anything runs on a GPU.

    Sums by atomic additions, whose order changes from run to run, are replaced by ordered ones (cuBLAS, cuDNN,
    attention, indexing). An operation without such a kernel raises.

    Raises:
        TrainingError: bfloat16 on a processor that would emulate it.
    """
    if config.bfloat16:
        try:
            check_bfloat16(device)
        except ValueError as error:
            raise TrainingError(f"engine.{error}") from None
    if not config.deterministic:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a write per tensor
    torch.backends.cudnn.benchmark = False


def return_freed_memory() -> None:
    """Return freed tensors to the system at once, in this process from now on.

    The C library keeps freed blocks of up to 32 MiB in its heap, where small live blocks fragment them. Activation
    checkpointing then saves hardly any memory. Mapping and unmapping every tensor costs time, so that only trainings
    with activation checkpointing do it (docs/performance.md). Without the GNU C library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**20)


_MOST_GRAPHS = 32
"""Graphs of a function before the compiler would give it up and run it eagerly in silence; its own limit is 8."""

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""


def check_compiler(device: torch.device) -> None:
    """Refuse to start where blocks cannot be compiled.

    Raises:
        TrainingError: The compiler is missing; the message says how to install it.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise TrainingError(
                "engine.compile: compiling for a GPU needs Triton, which is not installed; it comes with the CUDA "
                "build of torch. Install that, or set engine.compile to false"
            )
        return
    wanted = (os.environ.get("CXX") or "g++", "clang++")
    if not any(shutil.which(name) for name in wanted):
        raise TrainingError(
            f"engine.compile: compiling for a CPU needs a C++ compiler, found none of {', '.join(wanted)}; install one "
            "(Debian: apt-get install g++), name it in CXX, or set engine.compile to false"
        )
