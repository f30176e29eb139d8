"""Compile a model for drawing: what lies between the products of a block or of the decoder becomes few kernels."""

from __future__ import annotations

import torch

from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer

_MOST_GRAPHS = 32
"""Graphs of a function before the compiler would give it up and run it eagerly in silence; its own limit is 8."""


def compile_for_drawing(transformer: Transformer, tokenizer: Tokenizer, *, backend: str = "inductor") -> None:
    """Compile every block for the loop over scales, and the decoder, in place; all blocks share their graphs.

    The decoder's norms then keep channels last, as its convolutions do; torch's own norm for a GPU copies maps to
    channels first.

    The first picture takes minutes; sizes are dynamic, so that later ones of other sizes and batches take the same
    graphs. Results differ by rounding. A GPU needs Triton, a CPU a C++ compiler.

    Args:
        transformer: Transformer in evaluation mode; it can not be trained any more.
        tokenizer: Tokenizer in evaluation mode.
        backend: Compiler of torch; "eager" runs the traced graphs as they are.
    """
    torch._dynamo.config.recompile_limit = max(_MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    for block in transformer.block_modules():
        block.self_attention.join()
        block.advance = torch.compile(block.advance, dynamic=True, backend=backend)  # type: ignore[method-assign]
    tokenizer.decoder.compile(dynamic=True, backend=backend)
