"""Colours by CLIP: the mean of three sentences a colour, the nearest wins."""

from pathlib import Path

import numpy as np
import pytest
import torch

from infinity.perception.detection.colours import TEMPLATES, ColourClassifier, ColourConfig
from tests.fixtures.models.tiny_networks import write_clip

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_names_equal_those_computed_sentence_by_sentence(folder: str) -> None:
    from transformers import AutoProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder, backend="pil")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (9, 13, 3), dtype=np.uint8) for _ in range(20)]
    directions = []
    for colour in COLOURS:
        sentences = []
        for template in TEMPLATES:
            tokens = processor(text=[template.format(colour=colour, thing="cup")], return_tensors="pt")
            with torch.no_grad():
                features = model.text_projection(model.text_model(**tokens).pooler_output)[0]
            sentences.append(features / features.norm())
        mean = torch.stack(sentences).mean(dim=0)
        directions.append(mean / mean.norm())
    wanted = []
    for picture in pictures:
        pixels = processor(images=[picture], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            features = model.visual_projection(model.vision_model(pixels).pooler_output)[0]
        wanted.append(COLOURS[int((torch.stack(directions) @ features).argmax())])
    classifier = ColourClassifier(ColourConfig(model=folder, batch_size=7))
    assert classifier.name(pictures, "cup", COLOURS) == wanted
    assert len(set(wanted)) > 1


def test_missing_weights_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CLIP could be loaded"):
        ColourClassifier(ColourConfig(model=str(tmp_path / "nowhere")))
