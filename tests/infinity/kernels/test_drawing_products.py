"""Products of drawing by oneDNN: the formula's numbers, and the same ones for a picture in every batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinity.kernels import drawing_products as module
from infinity.kernels.drawing_products import LEAST_TOKENS, drawn, drawn_product, serves
from infinity.kernels.switch import use_kernels
from infinity.transformer.number_formats.precision import has_bfloat16
from infinity.transformer.number_formats.quantized import QuantizedLinear

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def _drawing() -> Iterator[None]:
    with torch.no_grad():
        yield


def made(dtype: torch.dtype, out: int = 48, inner: int = 32, bias: bool = True) -> tuple[nn.Linear, Tensor]:
    if dtype == torch.bfloat16 and not has_bfloat16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")
    torch.manual_seed(out)
    return nn.Linear(inner, out, bias=bias).to(dtype), torch.randn(3, LEAST_TOKENS + 5, inner).to(dtype)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_is_the_formulas_up_to_rounding(dtype: torch.dtype, gelu: bool, bias: bool) -> None:
    layer, x = made(dtype, bias=bias)
    assert serves(x, layer.weight, dtype)
    weight, added = layer.weight.double(), layer.bias.double() if bias else None
    expected = F.linear(x.double(), weight, added)
    expected = F.gelu(expected, approximate="tanh") if gelu else expected
    found = drawn(x, layer, gelu=gelu)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tokens"),
    [
        *((torch.bfloat16, number) for number in (1, 4, 100)),
        *((dtype, n) for dtype in DTYPES for n in (LEAST_TOKENS, 300)),
    ],
)
def test_a_picture_is_the_same_alone_and_in_every_batch(dtype: torch.dtype, tokens: int, gelu: bool) -> None:
    layer, _ = made(dtype, out=96, inner=64)
    x = torch.randn(8, tokens, 64).to(dtype)
    whole = drawn(x, layer, gelu=gelu)
    for start, stop in ((0, 1), (3, 5), (0, 7), (7, 8)):
        assert torch.equal(drawn(x[start:stop], layer, gelu=gelu), whole[start:stop])


def test_autocast_decides_bits_and_not_how_weights_and_inputs_are_stored() -> None:
    layer, x = made(torch.bfloat16)
    whole = copy.deepcopy(layer).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(drawn(x.float(), layer), drawn(x, layer))
        assert torch.equal(drawn(x, whole), drawn(x, layer))
        assert serves(x, whole.weight, torch.bfloat16) == serves(x, layer.weight, torch.bfloat16)


@torch.no_grad()
def test_the_product_serves_tokens_of_pictures_in_numbers_alone() -> None:
    layer, x = made(torch.float32)
    if not module._has_product(torch.float32):
        pytest.skip("this build of torch has no oneDNN")
    weight, float32 = layer.weight, torch.float32
    long = x[:1, :1].expand(1, LEAST_TOKENS, -1)
    assert serves(long, weight, float32)
    assert not serves(long[:, 1:], weight, float32)
    assert not serves(long[0], weight, float32)
    assert not serves(long[None], weight, float32)
    assert not serves(long[:0], weight, float32)
    assert not serves(long, weight.to(torch.int8), float32)
    assert not serves(nn.Parameter(long), weight, float32)
    assert not serves(long, weight, torch.float64)
    with torch.enable_grad():
        assert not serves(long, weight, float32)


@pytest.mark.parametrize("gelu", [True, False])
def test_short_inputs_gradients_plain_kernels_and_other_maps_take_the_formula(gelu: bool) -> None:
    layer, x = made(torch.float32)
    short = x[:, : LEAST_TOKENS - 1]
    with torch.enable_grad():
        learned = drawn(x, layer, gelu=gelu)
    with use_kernels("plain"):
        plain = drawn(x, layer, gelu=gelu)
    assert learned.requires_grad

    def formula(x: Tensor, map_: nn.Module) -> Tensor:
        result: Tensor = map_(x)
        return F.gelu(result, approximate="tanh") if gelu else result

    assert torch.equal(learned, formula(x, layer))
    assert torch.equal(plain, formula(x, layer))
    assert torch.equal(drawn(short, layer, gelu=gelu), formula(short, layer))
    small = QuantizedLinear(layer, "int8")
    assert torch.equal(drawn(x, small, gelu=gelu), formula(x, small))
    assert drawn(x[:0], layer, gelu=gelu).shape == (0, x.shape[1], 48)


def test_a_build_without_the_product_takes_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = made(torch.float32)
    monkeypatch.setattr(module, "_has_product", lambda dtype: False)
    assert torch.equal(drawn_product(x, layer.weight, layer.bias), layer(x))
