"""The compiler's fusion is seen without a card: what can be one kernel is one, and bytes are those of its tensors."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.fixtures.limits import AGES_S
from tests.phantom import card

PROGRAM = """
from tests.phantom import card
card.insert()
import json
import torch
import torch.nn.functional as F
from tests.phantom.fusion import fused, summed
with card.running():
    x, w = torch.empty(64, 256, device="cuda"), torch.empty(256, 256, device="cuda")
    chain = fused(lambda x: (x + 1).tanh() * 2, [x])
    product = fused(lambda x, w: (x @ w).tanh(), [x, w])
    heads = torch.empty(2, 4, 64, 32, device="cuda", dtype=torch.bfloat16)
    attention = fused(lambda q: F.scaled_dot_product_attention(q, q, q), [heads])
    y = torch.empty(64, 256, device="cuda", requires_grad=True)
    gradient = fused(lambda y: torch.autograd.grad(y.tanh().sum(), [y]), [y], learns=True)
    broken = fused(lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * 1j), [x])
print(json.dumps({name: [[k.kind, k.bytes] for k in found] for name, found in dict(
    chain=chain, product=product, attention=attention, gradient=gradient, broken=broken).items()}))
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, list[tuple[str, int]]]:
    if torch.version.cuda is not None:
        pytest.skip("the phantom card needs a CPU build of torch")
    if card.compiler() is None:
        pytest.skip("the phantom card needs a C++ compiler, found none")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        capture_output=True, text=True, timeout=AGES_S, env=env, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    result: dict[str, list[tuple[str, int]]] = json.loads(found.stdout.splitlines()[-1])
    return result


def test_neighbours_without_a_product_are_one_kernel(kernels: dict[str, list[tuple[str, int]]]) -> None:
    matrix = 64 * 256 * 4
    assert kernels["chain"] == [["fused", 2 * matrix]]


def test_a_product_is_a_kernel_of_its_own(kernels: dict[str, list[tuple[str, int]]]) -> None:
    matrix, weights = 64 * 256 * 4, 256 * 256 * 4
    assert kernels["product"] == [["product", 2 * matrix + weights], ["fused", 2 * matrix]]


def test_attention_is_one_kernel(kernels: dict[str, list[tuple[str, int]]]) -> None:
    assert [kind for kind, _ in kernels["attention"]] == ["attention"]


def test_gradients_are_fused_with_what_they_need(kernels: dict[str, list[tuple[str, int]]]) -> None:
    matrix = 64 * 256 * 4
    assert kernels["gradient"] == [["fused", 2 * matrix]]


def test_complex_numbers_break_fusion_and_are_seen_to(kernels: dict[str, list[tuple[str, int]]]) -> None:
    assert len(kernels["broken"]) > 1
    assert any(kind not in ("fused", "product", "attention") for kind, _ in kernels["broken"])
