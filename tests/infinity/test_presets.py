"""Named sizes."""

import pytest
import torch

from infinity.presets import TOKENIZERS, TRANSFORMERS, tokenizer_preset, transformer_preset
from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer

NOMINAL = {
    "125M": 125e6,
    "361M": 361e6,
    "940M": 940e6,
    "2.2B": 2.2e9,
    "4.7B": 4.7e9,
    "2B-released": 2.2e9,
    "8B-released": 8e9,
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", NOMINAL)
def test_parameters_of_published_transformers_follow_the_formula(name: str) -> None:
    config = TRANSFORMERS[name]
    with torch.device("meta"):
        found = count(Transformer(config))
    formula = 16 * config.width**2 * config.depth + 10 * config.width**2 + 3 * 2048 * config.width + 1e6
    assert found == pytest.approx(formula, rel=0.01)
    assert found == pytest.approx(NOMINAL[name], rel=0.1)


def test_published_sizes_are_those_of_the_paper() -> None:
    shapes = {name: (c.width, c.num_heads, c.depth) for name, c in TRANSFORMERS.items() if name in NOMINAL}
    assert shapes == {
        "125M": (768, 8, 12),
        "361M": (1152, 12, 16),
        "940M": (1536, 16, 24),
        "2.2B": (2080, 20, 32),
        "4.7B": (2688, 24, 40),
        "2B-released": (2048, 16, 32),
        "8B-released": (3584, 28, 40),
    }
    assert all(config.text_channels == 2048 for name, config in TRANSFORMERS.items() if name in NOMINAL)


def test_the_head_of_the_released_2b_model_has_131072_weights() -> None:
    config = TRANSFORMERS["2B-released"]
    assert config.width * config.num_outputs == 131_072


def test_published_tokenizers_have_stride_16_and_their_bits_in_their_names() -> None:
    published = {name: config for name, config in TOKENIZERS.items() if name.startswith("d")}
    assert {name: config.token_bits for name, config in published.items()} == {
        "d16": 16,
        "d24": 24,
        "d32": 32,
        "d64": 64,
        "d56-folded": 56,
    }
    assert all(config.stride_px == 16 for config in published.values())


def test_the_8b_model_and_its_tokenizer_fit_each_other() -> None:
    assert TRANSFORMERS["8B-released"].num_bits == TOKENIZERS["d56-folded"].token_bits
    assert TOKENIZERS["d56-folded"].autoencoder.stride_px == 8


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_can_be_built(name: str) -> None:
    with torch.device("meta"):
        assert count(Tokenizer(TOKENIZERS[name])) > 0


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_preset_survives_json(name: str) -> None:
    config = TRANSFORMERS[name]
    assert type(config).parse(config.dump()) == config


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"125M.*got '3B'"):
        transformer_preset("3B")
    with pytest.raises(ValueError, match=r"d16.*got 'd8'"):
        tokenizer_preset("d8")
    assert transformer_preset("tiny") is TRANSFORMERS["tiny"]
    assert tokenizer_preset("d32") is TOKENIZERS["d32"]
