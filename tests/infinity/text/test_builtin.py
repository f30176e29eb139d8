"""The built-in text encoder."""

import hashlib

import pytest
import torch

from infinity.text import BuiltinTextConfig, BuiltinTextEncoder
from infinity.text.builtin import words

ENCODER = BuiltinTextEncoder(BuiltinTextConfig(channels=64, max_tokens=16, seed=3))


def test_words_are_lower_case_and_punctuation_stands_alone() -> None:
    assert words("A photo of 2 RED cubes, übergroß!") == ["a", "photo", "of", "2", "red", "cubes", ",", "übergroß", "!"]


def test_features_are_the_same_on_every_machine() -> None:
    features = ENCODER.encode(["a red cube and a blue ball"]).features_TD
    digest = hashlib.sha256(features.numpy().tobytes()).hexdigest()
    assert digest[:16] == "f75cfbcbd06026fa"


def test_a_caption_has_the_same_features_alone_and_in_a_batch() -> None:
    prompts = ["one green star", "", "two red cubes left of a ball"]
    batch = ENCODER.encode(prompts).unpack()
    for prompt, features in zip(prompts, batch, strict=True):
        assert torch.equal(ENCODER.encode([prompt]).features_TD, features)


def test_an_empty_caption_has_one_token() -> None:
    assert ENCODER.encode(["", "  "]).lengths == (1, 1)


def test_long_captions_are_cut_to_the_limit() -> None:
    assert ENCODER.encode(["word " * 100]).lengths == (16,)


def test_the_order_of_words_changes_the_features() -> None:
    first, second = (ENCODER.encode([p]).features_TD for p in ("red cube and blue ball", "blue cube and red ball"))
    assert first.shape == second.shape
    assert not torch.allclose(first[1], second[1])  # "cube" itself knows its colour


def test_a_token_holds_its_word_and_its_neighbours() -> None:
    cube = ENCODER.encode(["red cube blue"]).features_TD[1].split(16)
    red, alone, blue = (ENCODER.encode([p]).features_TD[0][:16] for p in ("red", "cube", "blue"))
    assert torch.equal(torch.stack(cube[:3]), torch.stack([alone, red, blue]))


def test_words_are_unit_variance_and_nearly_uncorrelated() -> None:
    encoder = BuiltinTextEncoder(BuiltinTextConfig(channels=512))
    vectors = torch.cat([encoder.encode([f"word{i}"]).features_TD[:1, :128] for i in range(200)])
    assert vectors.var().item() == pytest.approx(1.0, abs=0.03)
    gram = vectors @ vectors.T / 128
    assert (gram - gram.diag().diag()).abs().max() < 0.5


def test_another_seed_is_another_encoder() -> None:
    other = BuiltinTextEncoder(BuiltinTextConfig(channels=64, max_tokens=16, seed=4))
    assert not torch.equal(other.encode(["cube"]).features_TD, ENCODER.encode(["cube"]).features_TD)


@pytest.mark.parametrize("change", [{"channels": 24}, {"channels": 0}, {"max_tokens": 0}])
def test_impossible_settings_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        BuiltinTextConfig(**change)


def test_configuration_survives_json() -> None:
    config = BuiltinTextConfig(channels=64, seed=9)
    assert BuiltinTextConfig.parse(config.dump()) == config
