"""CLIP: the numbers of transformers itself, in batches as one by one, and errors that say what to do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinity import storage
from infinity.perception.clip import Clip, ClipConfig, normalised
from tests.fixtures.models.tiny_networks import write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (size, 13, 3), dtype=np.uint8) for size in (9, 13, 40, 8, 21)]


TEXTS = ["a red cup", "two dogs", "x", "a photo of " * 40, ""]


def test_vectors_and_similarity_equal_those_of_transformers(folder: str, pictures: list[np.ndarray]) -> None:
    from transformers import CLIPModel, CLIPProcessor

    clip, model = Clip(ClipConfig(model=folder, batch_size=2)), CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(folder, backend="pil")
    found_pictures, found_texts = clip.embed_pictures(pictures), clip.embed_texts(TEXTS)
    found = clip.similarity(pictures, TEXTS)
    for place, (picture, text) in enumerate(zip(pictures, TEXTS, strict=True)):
        inputs = processor(images=Image.fromarray(picture), text=[text], truncation=True, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs)
        torch.testing.assert_close(normalised(found_pictures[place : place + 1]), output.image_embeds)
        torch.testing.assert_close(normalised(found_texts[place : place + 1]), output.text_embeds)
        wanted = output.logits_per_image[0, 0] / model.logit_scale.exp()
        torch.testing.assert_close(found[place], wanted)


def test_a_batch_gives_what_each_gives_alone(folder: str, pictures: list[np.ndarray]) -> None:
    alone, together = (Clip(ClipConfig(model=folder, batch_size=size)) for size in (1, 16))
    torch.testing.assert_close(alone.embed_pictures(pictures), together.embed_pictures(pictures))
    torch.testing.assert_close(alone.embed_texts(TEXTS), together.embed_texts(TEXTS))
    assert alone.embed_pictures([]).shape == (0, alone.num_channels)


def test_long_captions_are_cut_behind_their_closing_token(folder: str) -> None:
    clip = Clip(ClipConfig(model=folder))
    assert clip.max_tokens == 77
    long, same, other = clip.embed_texts(["a" + " b" * 74, "a" + " b" * 74 + " c d", "a" + " b" * 73 + " c"])
    torch.testing.assert_close(long, same)
    assert not torch.equal(long, other)


def test_the_digest_names_the_weights(folder: str, tmp_path: Path) -> None:
    other = Path(write_clip(tmp_path / "other"))
    assert Clip(ClipConfig(model=folder)).digest == Clip(ClipConfig(model=str(other))).digest
    (other / "preprocessor_config.json").write_text(
        next(other.glob("p*processor_config.json")).read_text().replace("8", "12")
    )
    assert Clip(ClipConfig(model=folder)).digest != Clip(ClipConfig(model=str(other))).digest


def test_checksums_and_revisions_are_looked_at(folder: str) -> None:
    found = storage.sha256(f"{folder}/model.safetensors")
    assert Clip(ClipConfig(model=folder, sha256=found[:8])).num_channels == 8
    with pytest.raises(ValueError, match="expected sha256 00000000, found"):
        Clip(ClipConfig(model=folder, sha256="00000000"))
    with pytest.raises(ValueError, match="a local folder has no revision"):
        Clip(ClipConfig(model=folder, revision="main"))
    with pytest.raises(ValueError, match="no CLIP could be loaded from the hub name"):
        Clip(ClipConfig(model="nobody/nothing"))
