"""The door for Python users: prompts in, pictures out, the same bits as every other door."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import infinity
from infinity.generation.files.model_folder import ModelNotFoundError
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.pipeline import Pipeline
from infinity.generation.sampling import SamplingConfig
from infinity.generation.watermark import BitWatermark, WatermarkKey
from infinity.transformer.adapters.lora import Adapter, LowRank
from tests.fixtures.data.small_world import TOKENIZER, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(model: str) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(model, device="cpu")


def pixels(image: object) -> np.ndarray:
    assert isinstance(image, Image.Image)
    return np.asarray(image)


def test_a_text_is_one_prompt_and_its_pictures_have_consecutive_seeds(pipe: InfinityPipeline) -> None:
    result = pipe("a red cube", num_images_per_prompt=3, seed=5)
    assert result.prompts == ("a red cube",) * 3
    assert result.seeds == (5, 6, 7)
    first, second, _ = (pixels(image) for image in result.images)
    assert first.shape[2] == 3
    assert not np.array_equal(first, second)


def test_equal_prompts_of_one_call_are_different_pictures(pipe: InfinityPipeline) -> None:
    assert pipe(["a", "b", "a"]).seeds == (0, 0, 1)


def test_pixels_are_those_of_the_pipeline_below_alone_and_in_any_batch(pipe: InfinityPipeline, model: str) -> None:
    prompts = ["a red cube", "two blue balls"]
    together = pipe(prompts, guidance_scale=2.0, temperature=0.7, top_p=0.9, seed=3, output_type="np", batch_size=2)
    alone = pipe(prompts[1], guidance_scale=2.0, temperature=0.7, top_p=0.9, seed=3, output_type="np")
    sampling = SamplingConfig(guidance=2.0, temperature=0.7, nucleus=0.9)
    below = Pipeline.load(model).generate(prompts, sampling=sampling, seeds=[3, 3])
    assert np.array_equal(together.images, below.images_BHW3.numpy())
    assert np.array_equal(together.images[1], alone.images[0])
    assert torch.equal(together.bits.bits_BLC, below.labels.bits_BLC)


def test_the_three_kinds_of_output_hold_the_same_pixels(pipe: InfinityPipeline) -> None:
    pil, array, tensor = (pipe("a dog", output_type=kind).images for kind in ("pil", "np", "pt"))
    assert np.array_equal(pixels(pil[0]), array[0])
    assert isinstance(tensor, torch.Tensor)
    assert torch.equal(tensor[0].permute(1, 2, 0), torch.from_numpy(array[0]))


def test_height_and_width_choose_the_nearest_shape(pipe: InfinityPipeline) -> None:
    wide = pipe("a dog", height=300, width=590, output_type="np")
    assert wide.aspect_ratio == pipe("a dog", aspect_ratio=0.5, output_type="np").aspect_ratio
    assert wide.images.shape[1] < wide.images.shape[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 3}, "height and width: expected both or neither"),
        ({"height": 0, "width": 4}, "expected at least 1 pixel"),
        ({"height": 4, "width": 4, "aspect_ratio": 1.0}, "got both"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt: expected at least 1"),
        ({"output_type": "jpeg"}, "expected pil, np or pt"),
        ({"seed": [1, 2]}, "seed: expected one number or 1"),
        ({"top_p": 0.0}, "above 0 up to 1"),
        ({"temperature": 0.0}, "temperature: expected positive"),
    ],
)
def test_what_cannot_be_is_named(pipe: InfinityPipeline, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe("a dog", **arguments)  # type: ignore[arg-type]


def test_no_prompt_is_an_error(pipe: InfinityPipeline) -> None:
    with pytest.raises(ValueError, match="prompt"):
        pipe([])


def test_a_saved_copy_draws_the_same(pipe: InfinityPipeline, tmp_path: Path) -> None:
    copy = InfinityPipeline.from_pretrained(pipe.save_pretrained(str(tmp_path / "copy")), device="cpu")
    assert np.array_equal(copy("a dog", output_type="np").images, pipe("a dog", output_type="np").images)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="expected a model folder"):
        InfinityPipeline.from_pretrained(str(tmp_path))


def test_every_public_name_is_there_and_others_are_named() -> None:
    for name in infinity.__all__:
        assert getattr(infinity, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Pipelin'"):
        _ = infinity.Pipelin


def test_the_hub_gets_the_model_folder_and_its_address_comes_back(
    pipe: InfinityPipeline, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uploaded(folder: Path, name: str, *, private: bool) -> str:
        assert (folder / "COMMITTED").read_bytes() == (Path(model) / "COMMITTED").read_bytes()
        return f"https://hub.example/{name}?private={private}"

    monkeypatch.setattr("infinity.generation.infinity_pipeline.upload_model", uploaded)
    assert pipe.push_to_hub("me/small", private=True) == "https://hub.example/me/small?private=True"


COPIES: dict[str, Callable[[InfinityPipeline], InfinityPipeline]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda pipe: pickle.loads(pickle.dumps(pipe)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_draws_the_same_with_the_adapters_and_the_watermark_of_its_original(
    model: str, tmp_path: Path, kind: str
) -> None:
    original = InfinityPipeline.from_pretrained(model, device="cpu")
    plain = original("a dog", output_type="np").images
    head = original.pipeline.transformer.head.weight
    layer = LowRank(torch.ones(1, head.shape[1]), torch.randn(head.shape[0], 1), 8.0)
    original.set_adapters([(Adapter("a", {"head": layer}, "x"), 1.0)])
    original.watermark = BitWatermark(WatermarkKey(b"k" * 40))
    adapted = original("a dog", output_type="np")
    copied = COPIES[kind](original)
    assert np.array_equal(copied("a dog", output_type="np").images, adapted.images)
    assert copied("a dog").settings == adapted.settings
    copied.watermark = None
    copied.unload_lora_weights()
    assert np.array_equal(copied("a dog", output_type="np").images, plain)
    # A shallow copy has the same weights, and so the same adapters; the others have their own.
    assert (original.adapters == ()) == (kind == "copy")
    assert original.watermark is not None


@pytest.mark.parametrize("kind", COPIES)
def test_no_copy_changes_a_model_that_draws(model: str, kind: str) -> None:
    original = InfinityPipeline.from_pretrained(model, device="cpu")
    copied = COPIES[kind](original)
    if kind == "copy":
        with pytest.raises(ValueError, match="cannot be changed by a callback"):
            original("a dog", callback_on_scale=lambda _: copied.unload_lora_weights())
    else:
        original("a dog", callback_on_scale=lambda _: copied.unload_lora_weights())


def test_what_is_saved_is_the_model_that_draws(pipe: InfinityPipeline, model: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    loaded = InfinityPipeline.from_pretrained(pipe.save_pretrained(str(place)), device="cpu")
    for inside in (place, place / "copy", tmp_path / "x" / ".." / "model"):
        with pytest.raises(ValueError, match="lies in the model's own folder"):
            loaded.save_pretrained(str(inside))
    (place / "COMMITTED").write_text("another")
    with pytest.raises(ValueError, match=r"does not hold the model .* any more"):
        loaded.save_pretrained(str(tmp_path / "copy"))
    shutil.rmtree(place)
    with pytest.raises(ValueError, match=r"does not hold the model .* any more"):
        loaded.save_pretrained(str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
    assert loaded("a dog").settings == pipe("a dog").settings
    other = write_model(tmp_path / "other", tokenizer=TOKENIZER.replace(num_bits=3))
    assert InfinityPipeline.from_pretrained(pipe.save_pretrained(other)).pipeline.digest == pipe.pipeline.digest
