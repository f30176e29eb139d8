"""Switches of studies: learned absolute positions instead of rotary ones, and no scale embedding."""

import pytest
import torch

from infinity.checkpoint import CheckpointError
from infinity.convert.transformer_names import transformer_entries
from infinity.scales import ASPECT_RATIOS, Resolution, published_schedule
from infinity.transformer import Transformer, TransformerConfig
from infinity.transformer.positions import MAX_SIDE, LearnedPositions
from tests.fixtures.models.tiny_transformer import (
    decode_all,
    random_inputs,
    random_text,
    random_transformer,
    tiny_config,
)

SQUARE = Resolution(sides=(1, 2, 3, 4)).schedule(1.0)
VARIANTS = [
    {"positions": "learned"},
    {"scale_embedding_period": None},
    {"positions": "learned", "scale_embedding_period": None},
    {"positions": "learned", "head": "joint"},
]


def filled(num_scales: int = 13, width: int = 8, seed: int = 0) -> LearnedPositions:
    module = LearnedPositions(num_scales, width)
    for table in module.parameters():
        torch.nn.init.normal_(table, generator=torch.Generator().manual_seed(seed))
        seed += 1
    return module


@torch.no_grad()
@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_every_token_gets_the_vectors_of_its_scale_row_and_column(aspect_ratio: float) -> None:
    module, schedule = filled(), published_schedule(aspect_ratio, "256")
    found = module(schedule)
    for k, (span, (h, w)) in enumerate(zip(schedule.spans, schedule.grids, strict=True)):
        for row, column in {(0, 0), (h - 1, 0), (0, w - 1), (h // 2, w // 2)}:
            assert torch.equal(found[span.start + row * w + column], module.rows[k, row] + module.columns[k, column])


def test_a_grid_beyond_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_SIDE} rows"):
        filled()(Resolution(sides=(1, MAX_SIDE + 1)).schedule(1.0))


@torch.no_grad()
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_scale_by_scale_equals_the_masked_pass(changes: dict[str, object]) -> None:
    model, text, inputs = random_transformer(tiny_config(**changes)), random_text((2, 7)), random_inputs(SQUARE, 2)
    torch.testing.assert_close(
        decode_all(model, text, inputs, SQUARE), model(text, inputs, SQUARE), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_gradients_reach_every_parameter(changes: dict[str, object]) -> None:
    model = random_transformer(tiny_config(**changes)).train()
    generator = torch.Generator().manual_seed(0)
    model(random_text((2, 7)), random_inputs(SQUARE, 2), SQUARE, generator=generator).square().mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@torch.no_grad()
def test_learned_positions_alone_tell_tokens_of_a_scale_apart() -> None:
    """With equal inputs, only the position can make two tokens of one scale differ."""
    inputs = torch.zeros(1, SQUARE.num_tokens - 1, 6)
    model = random_transformer(tiny_config(positions="learned"))
    span = SQUARE.spans[-1]
    apart = model(random_text((4,)), inputs, SQUARE)[0, span]
    assert torch.pdist(apart.flatten(1)).min() > 1e-3
    assert model.learned_positions is not None
    for table in model.learned_positions.parameters():
        table.zero_()
    alike = model(random_text((4,)), inputs, SQUARE)[0, span]
    torch.testing.assert_close(alike, alike[:1].expand_as(alike))


def test_defaults_have_no_further_weight_and_the_same_identity() -> None:
    names = set(Transformer(tiny_config()).state_dict())
    assert "scale_embedding" in names
    assert not any("learned_positions" in name for name in names)
    without = tiny_config(scale_embedding_period=None)
    assert TransformerConfig.from_json(without.to_json()) == without
    assert not any(without.adds_scale_embedding(block) for block in range(without.depth))
    assert set(Transformer(without).state_dict()) == names - {"scale_embedding"}


@pytest.mark.parametrize("changes", VARIANTS[:2], ids=str)
def test_published_files_do_not_hold_them(changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="rotary positions with a scale embedding"):
        transformer_entries(tiny_config(**changes), 1)
