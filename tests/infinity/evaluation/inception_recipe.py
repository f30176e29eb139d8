"""Pseudo-random Inception weights that every machine can make again (goldens/eval/README.md, 3.1)."""

import math
import zlib

import torch

from infinity.evaluation.inception import Inception


def recipe_tensors() -> dict[str, torch.Tensor]:
    """A tensor for every parameter and buffer, from uniform numbers seeded by the name."""
    tensors = {}
    for name, like in Inception().state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros_like(like)
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        uniform = torch.rand(like.shape, generator=generator)
        if name.endswith(("conv.weight", "fc.weight")):
            tensors[name] = (2 * uniform - 1) * math.sqrt(6 / math.prod(like.shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            tensors[name] = uniform + 0.5
        else:
            tensors[name] = (2 * uniform - 1) * (0.1 if name == "fc.bias" else 0.2)
    return tensors
