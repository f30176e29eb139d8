"""The first weights have the spreads of the published start."""

import math

import pytest
import torch
from torch import Tensor, nn

from infinity.transformer import Transformer
from tests.fixtures.models.tiny_transformer import tiny_config

WIDTH, DEPTH = 256, 4


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = tiny_config(width=WIDTH, depth=DEPTH, text_channels=64, cross_attention_layer_scale=0.25)
    made = Transformer(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(7.0)  # what is forgotten shows
    made.init_weights(torch.Generator().manual_seed(0))
    return made


def spread(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


def test_linear_layers_have_the_variance_of_a_uniform_draw_and_no_bias(model: Transformer) -> None:
    base = 1 / math.sqrt(3 * WIDTH)
    factors = {"head": 0.02, "head_modulate": 1e-3}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            last = name.rpartition(".")[2]
            shrunk = last == "contract" or (last == "project" and "attention" in name)
            factor = factors.get(name, 1 / math.sqrt(2 * DEPTH) if shrunk else 1.0)
            assert spread(module.weight) == pytest.approx(base * factor, rel=0.1), name
            assert module.bias is None or (module.bias == 0).all(), name
    for table in (model.start, model.scale_embedding, model.pool.query):
        assert spread(table) == pytest.approx(base, rel=0.2)


def test_blocks_begin_with_closed_gates_and_small_scales_and_shifts(model: Transformer) -> None:
    for block in model.block_modules():
        assert spread(block.modulation_offset[:2]) == pytest.approx(5e-6 / math.sqrt(WIDTH), rel=0.15)
        for row in block.modulation_offset[2:]:
            assert spread(row) == pytest.approx(1e-3 / math.sqrt(WIDTH), rel=0.25)
        assert (block.self_attention.query_bias == 0).all()
        torch.testing.assert_close(block.self_attention.log_scale, torch.full((2,), math.log(4.0)))
        assert block.cross_gate is not None
        assert (block.cross_gate == 0.25).all()


def test_rows_of_the_unconditional_text_are_bounded_and_about_as_long_as_captions(model: Transformer) -> None:
    table = model.unconditional_text.detach() * math.sqrt(64)
    assert table.abs().max() <= 2.0 + 1e-6
    assert spread(table) == pytest.approx(1.07, abs=0.1), "a normal of deviation 1.2, cut at 2"
