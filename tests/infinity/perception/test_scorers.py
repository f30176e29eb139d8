"""Scores of pictures: the numbers of the published networks, the same in batches as one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinity import storage
from infinity.perception.clip import Clip, ClipConfig, normalised
from infinity.perception.detection.image_classifier import ImageClassifier, NsfwConfig, WatermarkConfig
from infinity.perception.preference.aesthetic import AestheticConfig, AestheticHead
from infinity.perception.scorers import PAPER_SCORERS, ScorerConfig, load_scorers, score_key
from infinity.perception.similarity import ClipSimilarityConfig
from infinity.storage.pinned import PinnedFile
from tests.fixtures.models.tiny_networks import write_clip, write_image_classifier

PUBLISHED_KEYS = [f"layers.{n}.{part}" for n in (0, 2, 4, 6, 7) for part in ("weight", "bias")]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny ones under the names of what they stand for."""
    folder = tmp_path_factory.mktemp("networks")
    write_clip(folder / "clip")
    write_image_classifier(folder / "watermark", ("No Watermark", "Watermark"))
    write_image_classifier(folder / "nsfw", ("drawings", "hentai", "neutral", "porn"))
    torch.manual_seed(1)
    torch.save(AestheticHead(8).state_dict(), folder / "aesthetic.pth")
    return folder


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (size, 13, 3), dtype=np.uint8) for size in (9, 13, 40, 8, 21)]


def _configs(networks: Path, batch_size: int = 32) -> tuple[ScorerConfig, ...]:
    clip = ClipConfig(model=str(networks / "clip"), batch_size=batch_size)
    return (
        ClipSimilarityConfig(clip=clip),
        AestheticConfig(clip=clip, weights=PinnedFile(uri=str(networks / "aesthetic.pth"))),
        WatermarkConfig(model=str(networks / "watermark"), batch_size=batch_size),
        NsfwConfig(model=str(networks / "nsfw"), labels=("hentai", "porn"), batch_size=batch_size),
    )


def test_a_batch_gives_what_each_gives_alone(networks: Path, pictures: list[np.ndarray]) -> None:
    captions = ["a cup", "two dogs", "", "a red cup on a bench", "x"]
    together = load_scorers(_configs(networks), "cpu")
    alone = load_scorers(_configs(networks, 1), "cpu")
    for one, all_at_once in zip(alone, together, strict=True):
        singles = [one([picture], [caption])[0] for picture, caption in zip(pictures, captions, strict=True)]
        np.testing.assert_allclose(singles, all_at_once(pictures, captions), rtol=1e-5, atol=1e-6)
        assert np.ptp(singles) > 0
        assert all_at_once([], []).shape == (0,)


def test_a_classifier_gives_the_probabilities_of_transformers(networks: Path, pictures: list[np.ndarray]) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = networks / "nsfw"
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    found = ImageClassifier(NsfwConfig(model=str(folder), labels=("hentai", "porn")))(pictures)
    for picture, score in zip(pictures, found, strict=True):
        with torch.no_grad():
            logits = model(**processor(images=Image.fromarray(picture), return_tensors="pt")).logits[0]
        assert score == pytest.approx(float(logits.softmax(-1)[[1, 3]].sum()), abs=1e-6)


def test_the_aesthetic_score_is_the_stack_over_the_vector_of_length_one(
    networks: Path, pictures: list[np.ndarray]
) -> None:
    _, config, *_ = _configs(networks)
    tensors = torch.load(networks / "aesthetic.pth", weights_only=True)
    assert list(tensors) == PUBLISHED_KEYS
    values = normalised(Clip(ClipConfig(model=str(networks / "clip"))).embed_pictures(pictures))
    for layer in (0, 2, 4, 6, 7):
        values = values @ tensors[f"layers.{layer}.weight"].T + tensors[f"layers.{layer}.bias"]
    (scorer,) = load_scorers([config], "cpu")
    np.testing.assert_allclose(scorer(pictures, []), values[:, 0].numpy(), rtol=1e-5)


def test_a_key_follows_the_weights_and_nothing_else(networks: Path, tmp_path: Path) -> None:
    keys = [score_key(config) for config in _configs(networks)]
    assert len(set(keys)) == 4
    assert [score_key(config) for config in _configs(networks, 5)] == keys
    checked = storage.sha256(str(networks / "watermark" / "model.safetensors"))
    assert score_key(WatermarkConfig(model=str(networks / "watermark"), sha256=checked)) == keys[2]
    other = write_image_classifier(tmp_path, ("No Watermark", "Watermark"), seed=5)
    assert score_key(WatermarkConfig(model=other)) != keys[2]
    assert score_key(WatermarkConfig(model=str(networks / "watermark"), labels=("No Watermark",))) != keys[2]


def test_faults_say_what_to_do(networks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected labels among 'No Watermark', 'Watermark', got 'watermark'"):
        ImageClassifier(WatermarkConfig(model=str(networks / "watermark"), labels=("watermark",)))
    with pytest.raises(ValueError, match="no image classifier could be loaded from the hub name"):
        ImageClassifier(WatermarkConfig())
    with pytest.raises(ValueError, match="expected sha256 00000000, found"):
        ImageClassifier(WatermarkConfig(model=str(networks / "watermark"), sha256="00000000"))
    clip = ClipConfig(model=str(networks / "clip"))
    uri = str(networks / "aesthetic.pth")
    with pytest.raises(ValueError, match="expected sha256 00000000, found"):
        load_scorers([AestheticConfig(clip=clip, weights=PinnedFile(uri=uri, sha256="00000000"))], "cpu")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match="expected a PyTorch file of tensors"):
        load_scorers([AestheticConfig(clip=clip, weights=PinnedFile(uri=str(tmp_path / "junk.pth")))], "cpu")
    torch.save(AestheticHead(16).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"layers\.0\.weight"):
        load_scorers([AestheticConfig(clip=clip, weights=PinnedFile(uri=str(tmp_path / "other.pth")))], "cpu")


def test_the_set_of_the_paper_is_text_watermark_and_aesthetic_score() -> None:
    assert [config.score for config in PAPER_SCORERS] == ["text_area", "watermark", "aesthetic"]
