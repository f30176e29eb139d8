"""How a transformer's training is computed, not what: the attention kernel and compiled blocks."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
from dataclasses import dataclass

import torch

from infinity.config import Config
from infinity.training.learner import TrainingError
from infinity.transformer.model import Transformer
from infinity.transformer.scale_attention import KERNELS, Kernel


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig(Config):
    """Switches that change speed and memory; losses stay the same but for rounding (docs/performance.md).

    Attributes:
        attention: How the block-causal mask is respected. "auto": FlexAttention on a GPU, a call for every fine scale
            on a CPU; "dense" needs memory for the square of all tokens.
        compile: Compile every block (``torch.compile``). The first step of a new length takes up to minutes; on a CPU
            a C++ compiler is needed, on a GPU Triton.
    """

    attention: Kernel = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.attention not in KERNELS:
            raise ValueError(f"EngineConfig.attention: expected one of {', '.join(KERNELS)}, got {self.attention!r}")

    def check(self, *, on_gpu: bool) -> None:
        """Refuse what the device cannot do.

        Raises:
            ValueError: FlexAttention in a training on CPUs.
        """
        if self.attention == "flex" and not on_gpu:
            raise ValueError(
                "engine.attention: FlexAttention has no backward pass on a CPU; expected 'auto', 'windows' or 'dense', "
                "or workers.use_gpu"
            )


def set_up(transformer: Transformer, config: EngineConfig, device: torch.device, *, sharded: bool = False) -> None:
    """Make a transformer compute as ``config`` says; before its weights are shared out.

    Raises:
        TrainingError: Compiled blocks without a compiler.
        ValueError: FlexAttention on a CPU.
    """
    config.check(on_gpu=device.type == "cuda")
    transformer.kernel = config.attention
    if not config.compile:
        return
    check_compiler(device)
    for block in transformer.block_modules():
        if not sharded:
            block.compile()
            continue
        # Weights are gathered between the parts of a block, which a compiled block could not look into.
        for part in (block.self_attention, block.cross_attention, block.feed_forward):
            part.compile()


def return_freed_memory() -> None:
    """Give freed tensors back to the system at once, in this process and from now on.

    The C library keeps freed blocks of up to 32 MiB in its heap, where small ones that stay split the holes: then a
    training that computes activations twice takes hardly less than one that keeps them. Mapping and unmapping every
    tensor costs time, so that only those do it that want memory (docs/performance.md). Elsewhere than in the GNU C
    library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**20)


_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""


def check_compiler(device: torch.device) -> None:
    """Find before the first step that nothing can be compiled here.

    Raises:
        TrainingError: What is missing, and what to do.
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
