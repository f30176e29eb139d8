"""Weights of 8 and 5 bits: how far they are from the original, how many bytes, and what they refuse."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from infinity.presets import transformer_preset
from infinity.transformer import Transformer
from infinity.transformer.adapters.lora import Adapter, AdapterError, AdapterStack, LowRank
from infinity.transformer.number_formats.quantized import (
    GROUP,
    QUANTIZATIONS,
    Quantization,
    QuantizedLinear,
    check_quantization,
    quantize_products,
    weight_bytes,
)
from tests.fixtures.models.tiny_transformer import random_transformer

SHAPES = [(1, 1), (3, 31), (8, 32), (5, 33), (64, 256)]


def linear(out: int, inner: int, *, spread: float = 0.02, bias: bool = True) -> nn.Linear:
    made = nn.Linear(inner, out, bias=bias)
    with torch.no_grad():
        made.weight.copy_(torch.randn(out, inner, generator=torch.Generator().manual_seed(out + inner)) * spread)
    return made


@pytest.mark.parametrize("spread", [1e-4, 0.02, 10.0])
@pytest.mark.parametrize(("out", "inner"), SHAPES)
def test_every_weight_is_off_by_at_most_half_a_step(out: int, inner: int, spread: float) -> None:
    original = linear(out, inner, spread=spread)
    small = QuantizedLinear(original, "int8")
    step = original.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((small.weight - original.weight).abs() <= 0.5001 * step).all()
    smaller = QuantizedLinear(original, "int4")
    groups = F.pad(original.weight.detach(), (0, -inner % GROUP)).view(out, -1, GROUP)
    # Half a step, and what rounding the scale and the least value to float16 adds.
    allowed = (groups.amax(-1) - groups.amin(-1)) / 30 * 1.02 + 1e-3 * groups.abs().amax(-1) + 1e-6
    wrong = F.pad((smaller.weight - original.weight).detach().abs(), (0, -inner % GROUP)).view(out, -1, GROUP)
    assert (wrong <= allowed.unsqueeze(-1)).all()


@pytest.mark.parametrize("kind", QUANTIZATIONS)
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_equal_weights_come_back(kind: Quantization, value: float) -> None:
    original = linear(4, 40)
    nn.init.constant_(original.weight, value)
    assert torch.allclose(QuantizedLinear(original, kind).weight, original.weight, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", QUANTIZATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_with_its_restored_weights_in_the_data_type_of_autocast(kind: Quantization, bias: bool) -> None:
    original, x = linear(8, 48, bias=bias), torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    small = QuantizedLinear(original, kind)
    assert torch.equal(small(x), F.linear(x, small.weight, original.bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert small(x).dtype == torch.bfloat16


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("int4", 5)])
def test_the_blocks_need_so_few_bits_per_weight(kind: Quantization, bits: int) -> None:
    """By the layout of the 2B model, whose tensors are not made."""
    with torch.device("meta"):
        model = Transformer(transformer_preset("2B-released"))
        linears = [m for block in model.block_modules() for m in block.modules() if isinstance(m, nn.Linear)]
        weights = sum(m.weight.numel() for m in linears)
        rest = weight_bytes(model) - 4 * weights
        quantize_products(model, kind)
    assert weights > 1.5e9
    assert (weight_bytes(model) - rest) * 8 / weights == pytest.approx(bits, rel=0.01)


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_only_the_linear_maps_of_the_blocks_change(kind: Quantization) -> None:
    model, before = random_transformer(), random_transformer().state_dict()
    quantize_products(model, kind)
    assert not any(isinstance(m, nn.Linear) for block in model.block_modules() for m in block.modules())
    after = model.state_dict()
    kept = before.keys() & after.keys()
    assert all(torch.equal(before[name], after[name]) for name in kept)
    maps = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    assert {name.rpartition(".")[0] for name in before.keys() - kept} == maps.keys()
    for name, module in maps.items():
        assert (module.bias is None) == (f"{name}.bias" not in before)
        assert module.bias is None or torch.equal(module.bias, before[f"{name}.bias"])
    assert not any(parameter.requires_grad for m in model.modules() if isinstance(m, QuantizedLinear)
                   for parameter in m.parameters())  # fmt: skip


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_an_adapter_on_stored_integers_is_refused_with_what_to_do(kind: Quantization) -> None:
    model, place = random_transformer(), "blocks.0.feed_forward.expand"
    out, inner = model.get_submodule(place).weight.shape
    quantize_products(model, kind)
    adapter = Adapter("mine", {place: LowRank(torch.ones(1, inner), torch.ones(out, 1), 1.0)}, "")
    with pytest.raises(AdapterError, match=f"mine: this model is loaded with {kind} weights.*merge the adapter"):
        AdapterStack(model).set([(adapter, 1.0)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_refused(value: float) -> None:
    model = random_transformer()
    with torch.no_grad():
        model.get_submodule("blocks.1.feed_forward.expand").weight[0, 0] = value
    with pytest.raises(ValueError, match="weights of expand are NaN or infinite"):
        quantize_products(model, "int8")


@pytest.mark.parametrize("name", ["int2", "INT8", ""])
def test_an_unknown_kind_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected int8 or int4, got '{name}'"):
        check_quantization(name)
