"""What a transformer configuration derives and refuses."""

import pytest

from infinity.transformer import TransformerConfig
from tests.fixtures.models.tiny_transformer import tiny_config


def test_configuration_survives_json() -> None:
    config = tiny_config(cross_attention_layer_scale=0.5, positions="grid", head="joint")
    assert TransformerConfig.from_json(config.to_json()) == config


def test_the_defaults_are_those_of_published_checkpoints() -> None:
    config = TransformerConfig(width=64, num_heads=2, depth=1, num_bits=4, text_channels=32, max_text_tokens=8)
    told = (config.max_scales, config.scale_embedding_period, config.drop_path, config.condition_drop, config.norm_eps)
    assert told == (15, 0, 0.1, 0.1, 1e-6)


@pytest.mark.parametrize(
    ("width", "ratio", "hidden"),
    [(128, 4.0, 512), (96, 4.0, 512), (160, 4.0, 512), (224, 4.0, 1024), (2080, 4.0, 8192), (1152, 4.0, 4608)],
)
def test_hidden_width_is_rounded_to_256_with_ties_to_even(width: int, ratio: float, hidden: int) -> None:
    assert tiny_config(width=width, mlp_ratio=ratio).hidden_width == hidden


def test_hidden_width_too_small_to_round_is_exact() -> None:
    assert tiny_config(width=32, mlp_ratio=4.0).hidden_width == 128


def test_pool_has_one_head_for_128_text_channels_and_64_in_wide_models() -> None:
    assert tiny_config(width=2048, num_heads=16, text_channels=2048).num_pool_heads == 16
    assert tiny_config(width=4608, num_heads=36, text_channels=2304).num_pool_heads == 36
    assert tiny_config(text_channels=48).num_pool_heads == 1
    for width, heads in ((4096, 2), (4100, 4)):
        assert tiny_config(width=width, num_heads=1, text_channels=256).num_pool_heads == heads


def test_branches_are_dropped_linearly_more_often_from_the_first_block_to_the_last() -> None:
    rates = [tiny_config(depth=5, drop_path=0.2).drop_path_rate(block) for block in range(5)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert tiny_config(depth=1, drop_path=0.2).drop_path_rate(0) == 0


@pytest.mark.parametrize(("period", "blocks"), [(0, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4])])
def test_the_scale_embedding_is_added_once_or_before_every_nth_block(period: int, blocks: list[int]) -> None:
    config = tiny_config(depth=5, scale_embedding_period=period)
    assert [block for block in range(5) if config.adds_scale_embedding(block)] == blocks


def test_outputs_are_two_a_bit_or_one_a_code() -> None:
    assert tiny_config(num_bits=6).num_outputs == 12
    assert tiny_config(num_bits=16, head="joint").num_outputs == 65536


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, "multiple of 4 channels per head"),
        ({"width": 36, "num_heads": 3, "text_channels": 640}, "5 heads"),
        ({"depth": 0}, "depth: expected 1 to 1,000"),
        ({"drop_path": 1.0}, "drop_path: expected 0 to below 1"),
        ({"condition_drop": -0.1}, "condition_drop: expected 0 to below 1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio: expected above 0 to 1,000"),
        ({"scale_embedding_period": -1}, "scale_embedding_period: expected at least 0"),
        ({"head": "joint", "num_bits": 17}, "at most 16 bits are possible"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)
