"""A model folder and what it gives back."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity.checkpoint import CheckpointError, Piece, load_checkpoint, withdraw, write_part
from infinity.generation import ModelConfig, Pipeline, SamplingConfig, generate, load_transformer, save_model
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.saved import save_tokenizer
from tests.fixtures.models.tiny_pipeline import PROMPTS, RESOLUTION, SCHEDULE, SEEDS, TEXT, tiny_parts, tiny_tokenizer


@pytest.fixture
def model_folder(tmp_path: Path) -> str:
    transformer, tokenizer, _ = tiny_parts()
    save_tokenizer(str(tmp_path / "tokenizer"), tokenizer, {"step": 3})
    uri = str(tmp_path / "model")
    save_model(uri, transformer, text=TEXT, resolution=RESOLUTION, tokenizer_uri=str(tmp_path / "tokenizer"))
    return uri


def test_loaded_folder_draws_what_its_parts_drew(model_folder: str) -> None:
    sampling = SamplingConfig()
    alone: list[float] = []
    seen: list[float] = []
    expected = generate(
        *tiny_parts(), PROMPTS, schedule=SCHEDULE, sampling=sampling, seeds=SEEDS, progress=alone.append
    )
    found = Pipeline.load(model_folder).generate(
        PROMPTS, sampling=sampling, seeds=SEEDS, batch_size=3, progress=seen.append
    )
    assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC)
    assert torch.equal(found.images_BHW3, expected.images_BHW3)
    passes = [3 * share / 4 for share in alone] + [0.75 + share / 4 for share in alone]
    assert seen == pytest.approx(passes), "a pass of three pictures, one of one"
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
    with pytest.raises(ValueError, match="predicts 6 bits per token, the tokenizer has 8"):
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


def test_a_text_is_one_prompt_and_equal_prompts_of_a_call_differ(model_folder: str) -> None:
    pipeline = Pipeline.load(model_folder)
    one = pipeline.generate("a red cube").images_BHW3
    assert len(one) == 1
    assert torch.equal(one, pipeline.generate(["a red cube"], seeds=[0]).images_BHW3)
    mixed = ["a red cube", "a dog", "a red cube", "a dog", "a red cube"]
    expected = pipeline.generate(mixed, seeds=[0, 0, 1, 1, 2]).images_BHW3
    assert torch.equal(pipeline.generate(mixed).images_BHW3, expected)
    assert torch.equal(pipeline.generate(mixed, batch_size=2).images_BHW3, expected)
    assert len({picture.numpy().tobytes() for picture in pipeline.generate(["a red cube"] * 6).images_BHW3}) > 1
    assert torch.equal(
        pipeline.generate(mixed, seeds=5).images_BHW3, pipeline.generate(mixed, seeds=[5, 5, 6, 6, 7]).images_BHW3
    )
    assert torch.equal(
        pipeline.generate("a dog", seeds=3).images_BHW3, pipeline.generate(["a dog"], seeds=(3,)).images_BHW3
    )


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "at least one prompt"),
        ((), {"seeds": []}, "at least one prompt"),
        ([3], {}, "expected texts, got int as number 1"),
        (["a", None], {}, "expected texts, got NoneType as number 2"),
        (["a \ud800"], {}, "character 3 of number 1 is half a character"),
        (["a"], {"seeds": [1, 2]}, "expected one per prompt, got 2 for 1"),
        (["a", "b"], {"seeds": [1]}, "expected one per prompt, got 1 for 2"),
        (["a"], {"seeds": [1.5]}, "expected whole numbers"),
        (["a"], {"seeds": ["1"]}, "expected whole numbers"),
        (["a"], {"seeds": True}, "expected whole numbers"),
        (["a"], {"seeds": [False]}, "expected whole numbers"),
        (["a"], {"batch_size": 0}, "batch_size"),
        (["a"], {"aspect_ratio": 0.0}, r"from 0\.01 to 100, got 0\.0"),
        (["a"], {"aspect_ratio": -1.0}, r"from 0\.01 to 100"),
        (["a"], {"aspect_ratio": 1e-9}, r"from 0\.01 to 100"),
        (["a"], {"aspect_ratio": 1e9}, r"from 0\.01 to 100"),
        (["a"], {"aspect_ratio": float("nan")}, r"from 0\.01 to 100"),
    ],
)
def test_impossible_calls_are_one_sentence(
    model_folder: str, prompts: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Pipeline.load(model_folder).generate(prompts, **options)


@pytest.mark.parametrize(
    "device", ["cuda", "cuda:1", "foo", "", "cpu,cuda", "meta", "xla:0", "cuda:99999999999", "mps"]
)
def test_a_device_that_is_not_there_is_one_sentence(model_folder: str, device: str) -> None:
    if torch.cuda.is_available() and device.startswith("cuda"):
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match="device: "):
        Pipeline.load(model_folder, device)


@pytest.mark.parametrize(
    "change", [{"depth": 10_000_000}, {"depth": 900}, {"width": 2**19, "num_heads": 2}, {"num_bits": 2**19}]
)
def test_a_configuration_that_asks_for_more_than_the_tensors_beside_it_is_refused_at_once(
    model_folder: str, change: dict[str, int]
) -> None:
    checkpoint = load_checkpoint(model_folder)
    config = ModelConfig.from_json(checkpoint.config)
    described = config.to_json() | {"transformer": config.transformer.to_json() | change}
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"expected 1 to 1,000|not those of a Transformer"):
        Pipeline.load(resaved(model_folder, described, checkpoint.tensors))
    assert time.process_time() - begin < 30


def test_weights_and_epsilons_that_are_not_finite_draw_nothing(model_folder: str) -> None:
    checkpoint = load_checkpoint(model_folder)
    broken = checkpoint.tensors["head.bias"].clone()
    broken[1] = torch.nan
    with pytest.raises(CheckpointError, match=r"found NaN or infinity in head\.bias"):
        Pipeline.load(resaved(model_folder, checkpoint.config, checkpoint.tensors | {"head.bias": broken}))
    for epsilon in (-1.0, 2.0):
        config = checkpoint.config | {"transformer": checkpoint.config["transformer"] | {"norm_eps": epsilon}}
        with pytest.raises(ValueError, match="norm_eps"):
            Pipeline.load(resaved(model_folder, config, checkpoint.tensors))


def test_finite_weights_whose_logits_overflow_draw_nothing(model_folder: str) -> None:
    checkpoint = load_checkpoint(model_folder)
    huge = {name: tensor * 1e30 if name == "head.weight" else tensor for name, tensor in checkpoint.tensors.items()}
    huge["head_modulate.weight"] = huge["head_modulate.weight"] + 1e20
    pipeline = Pipeline.load(resaved(model_folder, checkpoint.config, huge))
    with pytest.raises(ValueError, match="logits of scale 0 are NaN or infinite"):
        pipeline.generate("a dog")


def resaved(folder: str, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    """The model folder with another description or other weights, and right checksums."""
    withdraw(folder)
    part = write_part(folder, {name: Piece(tensor) for name, tensor in tensors.items()})
    about = json.dumps({"format": 1, "kind": "transformer", "config": config, "extra": {}}).encode()
    Path(folder, "config.json").write_bytes(about)
    files = part.files | {"config.json": {"sha256": hashlib.sha256(about).hexdigest(), "bytes": len(about)}}
    checksums = json.dumps({"files": files}).encode()
    Path(folder, "checksums.json").write_bytes(checksums)
    Path(folder, "COMMITTED").write_text(hashlib.sha256(checksums).hexdigest()[:16] + "\n")
    return folder
