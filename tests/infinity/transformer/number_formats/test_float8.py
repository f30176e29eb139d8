"""Products in float8: the numbers of a GPU's kernel, emulated on a CPU, and who is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinity.presets import transformer_preset
from infinity.transformer import Transformer
from infinity.transformer.number_formats import float8
from infinity.transformer.number_formats.float8 import (
    LARGEST,
    check_float8,
    fits_float8,
    float8_product,
    has_float8,
    to_float8,
)
from infinity.transformer.number_formats.quantized import (
    QuantizedLinear,
    check_quantization,
    quantize_products,
    weight_bytes,
)
from tests.fixtures.models.tiny_transformer import random_transformer, tiny_config

SHAPES = [(1, 16, 16), (3, 32, 16), (5, 64, 256), (2, 256, 64)]
"""Rows, width in and width out."""


def numbers(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("spread", [1e-20, 1e-3, 1.0, 1e6])
def test_a_number_is_off_by_a_sixteenth_of_itself_or_by_a_step_of_its_rows_smallest(spread: float) -> None:
    rows = numbers(7, 96, spread=spread)
    codes, scale = to_float8(rows)
    assert codes.dtype == torch.float8_e4m3fn
    wrong = (codes.float() * scale - rows).abs()
    assert (wrong <= torch.maximum(rows.abs() / 16, scale * 2**-10) * 1.001).all()
    assert torch.equal(codes.float().abs().amax(dim=-1), torch.full((7,), LARGEST))


def test_rows_of_zeros_stay_zero_and_nan_is_not_hidden() -> None:
    codes, scale = to_float8(torch.tensor([[0.0, 0.0], [1.0, math.nan]]))
    assert (codes[0].float() * scale[0]).tolist() == [0.0, 0.0]
    assert (codes[1].float() * scale[1]).isnan().all()


@pytest.mark.parametrize("least", [2.0**-149, 2.0**-141, 2.0**-126])
def test_the_smallest_numbers_that_there_are_make_no_nan(least: float) -> None:
    rows = torch.tensor([[0.0, least, -least]])
    codes, scale = to_float8(rows)
    assert ((codes.float() * scale - rows).abs() <= least).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_that_of_the_restored_numbers_rounded_to_bfloat16(shape: tuple[int, int, int], bias: bool) -> None:
    rows, width, out = shape
    x, linear = numbers(2, rows, width), nn.Linear(width, out, bias=bias).requires_grad_(False)
    small = QuantizedLinear(linear, "float8")
    codes, scale = to_float8(x)
    restored = (codes.float() * scale).double()
    expected = restored @ small.weight.double().T
    if linear.bias is not None:
        expected = expected + linear.bias.bfloat16().double()
    found = small(x)
    assert found.dtype == x.dtype
    assert torch.equal(found, found.bfloat16().float())
    largest = (restored.abs() @ small.weight.double().abs().T).max()
    assert ((found - expected).abs() <= expected.abs() / 256 + 1e-5 * largest).all()
    exact = F.linear(x, linear.weight, linear.bias)
    assert float((found - exact).norm() / exact.norm()) < 0.06
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(small(x), found.bfloat16())


def test_torchs_own_product_of_a_cpu_gives_the_same_numbers() -> None:
    """It takes one scale per tensor here; the kernel of a GPU takes one per row."""
    x, weight = numbers(6, 64), numbers(32, 64, seed=1)
    codes, other = (each.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn) for each in (x, weight))
    one = torch.ones(())
    try:
        expected = torch._scaled_mm(codes, other.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    except RuntimeError as error:
        pytest.skip(f"this build of torch has no such product on a CPU: {error!s:.100}")
    found = float8._emulated(codes, torch.ones(6, 1), other, torch.ones(32, 1), None)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=1e-6)


def test_a_card_gets_the_arguments_that_its_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of torch's own checks of shapes, strides and types, which the device "meta" runs as a card's kernel would."""
    found: list[Tensor] = []
    real = torch._scaled_mm

    def checked(
        a: Tensor, b: Tensor, *, scale_a: Tensor, scale_b: Tensor, bias: Tensor | None, **rest: object
    ) -> Tensor:
        assert a.stride(1) == 1
        assert b.stride(0) == 1
        assert bias is None or bias.dtype == torch.bfloat16
        meta = [each.to("meta") for each in (a, b, scale_a, scale_b)]
        found.append(real(meta[0], meta[1], scale_a=meta[2], scale_b=meta[3], **rest))  # type: ignore[arg-type]
        return float8._emulated(a, scale_a, b.t(), scale_b.t(), bias)

    monkeypatch.setattr(torch, "_scaled_mm", checked)
    monkeypatch.setattr(float8, "has_float8", lambda device: True)
    for rows, width, out in SHAPES:
        linear, x = nn.Linear(width, out).requires_grad_(False), numbers(rows, width)
        codes, scale = to_float8(linear.weight)
        result = float8_product(x, codes, scale, linear.bias)
        assert torch.equal(result, QuantizedLinear(linear, "float8")(x))
        assert found[-1].shape == result.shape
        assert found[-1].dtype == torch.bfloat16


def test_maps_of_other_widths_stay_as_they_are() -> None:
    assert [fits_float8(nn.Linear(*widths)) for widths in ((32, 48), (24, 32), (32, 24))] == [True, False, False]
    model = random_transformer(tiny_config(mlp_ratio=1.25))
    quantize_products(model, "float8")
    kinds = {name.rpartition(".")[2]: type(m) for name, m in model.blocks[0].named_modules()}
    assert kinds["expand"] is kinds["contract"] is nn.Linear
    assert kinds["query_key"] is kinds["project"] is QuantizedLinear


def test_the_blocks_of_the_published_layouts_need_eight_bits_per_weight() -> None:
    for name in ("2B-released", "8B-released"):
        with torch.device("meta"):
            model = Transformer(transformer_preset(name).replace(depth=2))
            linears = [m for block in model.block_modules() for m in block.modules() if isinstance(m, nn.Linear)]
            weights = sum(m.weight.numel() for m in linears)
            assert all(fits_float8(m) for m in linears)
            rest = weight_bytes(model) - 4 * weights
            quantize_products(model, "float8")
        assert (weight_bytes(model) - rest) * 8 / weights == pytest.approx(8, rel=0.01)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6)])
def test_older_cards_and_cpus_are_refused_in_one_sentence(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"float8: .*capability 8\.9 or newer.*found the device cpu; leave float8 out"):
        check_float8(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "An Older Card")
    with pytest.raises(ValueError, match=rf"found An Older Card \({capability[0]}\.{capability[1]}\)"):
        check_float8(torch.device("cuda"))


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (10, 0), (12, 0)])
def test_newer_cards_are_taken_but_not_those_of_another_maker(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    check_float8(torch.device("cuda"))
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert not has_float8(torch.device("cuda"))


def test_it_is_no_form_below_adapters() -> None:
    with pytest.raises(ValueError, match="expected int8 or int4, got 'float8'"):
        check_quantization("float8")
