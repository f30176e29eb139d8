"""Plain or fast: one switch for all kernels."""

import os
import subprocess
import sys

import pytest
import torch

from infinity.kernels.switch import VARIABLE, use_kernels, uses_fast
from infinity.transformer.block import FeedForward


def test_plain_kernels_hold_within_the_block_and_fast_ones_after_it() -> None:
    x = torch.zeros(1)
    with use_kernels("plain"):
        assert not uses_fast(x, "upsample")
    assert uses_fast(x, "upsample")


def test_compiled_code_takes_the_plain_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not uses_fast(torch.zeros(1), "upsample")


def test_a_layer_computes_the_same_with_either() -> None:
    torch.manual_seed(0)
    layer, x = FeedForward(8, 16), torch.randn(2, 5, 8)
    with use_kernels("plain"):
        plain = layer(x)
    torch.testing.assert_close(layer(x), plain)


@pytest.mark.parametrize(
    ("value", "expected"), [("plain", "False"), ("fast", "True"), ("quick", "expected plain, fast or measured")]
)
def test_the_environment_chooses_for_a_process(value: str, expected: str) -> None:
    code = "import torch; from infinity.kernels.switch import uses_fast; print(uses_fast(torch.zeros(1), 'upsample'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {VARIABLE: value}, capture_output=True, text=True, check=False
    )
    assert expected in done.stdout + done.stderr
