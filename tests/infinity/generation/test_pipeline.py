"""A model folder and what it gives back."""

from pathlib import Path

import pytest
import torch

from infinity.checkpoint import CheckpointError
from infinity.generation import Pipeline, SamplingConfig, generate, load_transformer, save_model
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.saved import save_tokenizer
from tests.fixtures.tiny_pipeline import PROMPTS, RESOLUTION, SCHEDULE, SEEDS, TEXT, tiny_parts, tiny_tokenizer


@pytest.fixture
def model_folder(tmp_path: Path) -> str:
    transformer, tokenizer, _ = tiny_parts()
    save_tokenizer(str(tmp_path / "tokenizer"), tokenizer, {"step": 3})
    uri = str(tmp_path / "model")
    save_model(uri, transformer, text=TEXT, resolution=RESOLUTION, tokenizer_uri=str(tmp_path / "tokenizer"))
    return uri


def test_loaded_folder_draws_what_its_parts_drew(model_folder: str) -> None:
    sampling = SamplingConfig()
    expected = generate(*tiny_parts(), PROMPTS, schedule=SCHEDULE, sampling=sampling, seeds=SEEDS)
    seen: list[float] = []
    found = Pipeline.load(model_folder).generate(
        PROMPTS, sampling=sampling, seeds=SEEDS, batch_size=3, progress=seen.append
    )
    assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC)
    assert torch.equal(found.images_BHW3, expected.images_BHW3)
    assert seen[-1] == 1.0


def test_folder_holds_the_tokenizer_under_its_own_digest(model_folder: str, tmp_path: Path) -> None:
    config, transformer = load_transformer(model_folder)
    assert config.tokenizer_digest == (tmp_path / "tokenizer" / "COMMITTED").read_text().strip()
    assert config.resolution == RESOLUTION
    assert not transformer.training


def test_other_aspect_ratio_gives_another_size(model_folder: str) -> None:
    generated = Pipeline.load(model_folder).generate(["a dog"], aspect_ratio=2.0)
    height, width = RESOLUTION.schedule(2.0).image_size_px(4)
    assert generated.images_BHW3.shape == (1, height, width, 3)
    assert height > width


def test_exchanged_tokenizer_is_refused(model_folder: str) -> None:
    other = tiny_tokenizer()
    other.init_weights(torch.Generator().manual_seed(9))
    save_tokenizer(f"{model_folder}/tokenizer", other)
    with pytest.raises(ValueError, match="was trained with tokenizer"):
        Pipeline.load(model_folder)


def test_tokenizer_of_another_bit_width_is_refused(tmp_path: Path) -> None:
    transformer, _, _ = tiny_parts()
    save_tokenizer(str(tmp_path / "tokenizer"), tiny_tokenizer(fold=True))
    with pytest.raises(ValueError, match="predicts 6 bits a token, the tokenizer has 8"):
        save_model(
            str(tmp_path / "model"),
            transformer,
            text=TEXT,
            resolution=RESOLUTION,
            tokenizer_uri=str(tmp_path / "tokenizer"),
        )


def test_text_encoder_of_other_channels_is_refused(tmp_path: Path) -> None:
    transformer, tokenizer, _ = tiny_parts()
    save_tokenizer(str(tmp_path / "tokenizer"), tokenizer)
    wide = BuiltinTextConfig(channels=64, max_tokens=8)
    uri = str(tmp_path / "model")
    save_model(uri, transformer, text=wide, resolution=RESOLUTION, tokenizer_uri=str(tmp_path / "tokenizer"))
    with pytest.raises(ValueError, match="reads 48 text channels, the text encoder gives 64"):
        Pipeline.load(uri)


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Pipeline.load(str(tmp_path / "nowhere"))
