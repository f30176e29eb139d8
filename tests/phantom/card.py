"""Run a program on a CUDA card that is not there: what mixes tensors of two places raises, as on a real card.

Only places, shapes and types are followed; no number is computed. To be imported before torch, in a process of its own,
with a CPU build of torch and a C++ compiler.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("card.cpp")


def compiler() -> str | None:
    """The C++ compiler here, if there is one."""
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")


def insert() -> None:
    """Build the card once for each version of torch, and insert it.

    Raises:
        ImportError: torch was imported already, and has looked for cards.
    """
    if "torch" in sys.modules:
        raise ImportError("tests.phantom.card: insert the card before torch is imported")
    found, build = importlib.util.find_spec("torch"), compiler()
    assert found is not None
    assert found.origin is not None
    assert build is not None
    torch = Path(found.origin).parent
    name = f"phantom-card-{importlib.metadata.version('torch')}-{SOURCE.stat().st_mtime_ns}.so"
    library = Path(tempfile.gettempdir()) / name
    if not library.exists():
        draft = library.with_suffix(f".{os.getpid()}")
        headers = [f"-I{torch / 'include'}", f"-I{torch / 'include/torch/csrc/api/include'}"]
        links = [f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
        flags = ["-shared", "-fPIC", "-O1", "-std=c++20"]
        subprocess.run([build, *flags, *headers, str(SOURCE), "-o", str(draft), *links], check=True)
        draft.rename(library)
    ctypes.CDLL(str(library))


@contextmanager
def running() -> Iterator[None]:
    """Inside the block all new tensors are fake, and may be on the card."""
    import numpy as np
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
    from torch.cuda.amp import common

    from infinity import budget
    from infinity.jobs.estimate import tracing

    def zeros(tensor: FakeTensor) -> np.ndarray:
        assert tensor.device.type == "cpu", "numpy reads no card"
        return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda including_emulation=True: True
    FakeTensor.numpy = zeros
    apply, free = torch.nn.Module._apply, budget.free_bytes
    budget.free_bytes = lambda device: 80 * 10**9
    torch.nn.Module._apply = tracing._replace  # type: ignore[method-assign]  # as in tracing
    tracing._forget_tables()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.nn.Module._apply, budget.free_bytes = apply, free  # type: ignore[method-assign]
        tracing._forget_tables()
