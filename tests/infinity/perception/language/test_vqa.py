"""Answers to questions about pictures, by three families of models in their published formats."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infinity.perception.language.vqa import Vqa, VqaConfig
from tests.fixtures.models.tiny_networks import write_blip, write_llava, write_vilt

WRITERS: dict[str, Callable[[Path], str]] = {"vilt": write_vilt, "blip": write_blip, "llava": write_llava}
QUESTIONS = ["is there a cup ?", "what colour is the dog ?", "is there a dog ?", "is there a cat in the photo ?"]


@pytest.mark.parametrize("family", WRITERS)
def test_answers_depend_on_neither_batch_nor_neighbours(family: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    asked = [(random.integers(0, 255, (20, 20, 3), dtype=np.uint8), question) for question in QUESTIONS]
    config = VqaConfig(model=WRITERS[family](tmp_path), batch_size=4, max_new_tokens=4)
    together = Vqa(config).answer(asked)
    assert len(together) == 4
    assert any(together)
    assert Vqa(config.replace(batch_size=1)).answer(asked) == together


def test_question_and_picture_both_matter(tmp_path: Path) -> None:
    pictures = [np.full((20, 20, 3), values, np.uint8) for values in ((0, 0, 0), (255, 0, 0), (0, 255, 90), (255,) * 3)]
    vqa = Vqa(VqaConfig(model=write_vilt(tmp_path)))
    by_picture = [tuple(vqa.answer([(picture, question) for question in QUESTIONS])) for picture in pictures]
    assert len(set(by_picture)) > 1
    assert len(set(zip(*by_picture, strict=True))) > 1


def test_what_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="answers questions about pictures could be loaded from the hub name"):
        Vqa(VqaConfig(model=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"expected a local folder with model\.safetensors"):
        Vqa(VqaConfig(model="a/hub-name", sha256="0" * 8))
    with pytest.raises(ValueError, match="expected the place of the"):
        VqaConfig(instruction="Is it so?")
