"""The detector of drawn scenes: right on drawings, near chance on shuffled captions, and not to be fooled by blobs."""

from collections import defaultdict

import numpy as np
import pytest

from infinity.evaluation.geneval.scene_detector import detect, find_shapes
from infinity.evaluation.geneval.scoring import Detections, GenevalPrompt, judge
from infinity.scenes.drawing import BACKGROUND, SceneObject, draw_scene, render
from infinity.scenes.prompts import COLORS, PLURALS, ScenePrompt, held_out_prompts

NUM_PICTURES = 2


def overall(prompts: list[ScenePrompt], detections: list[Detections]) -> float:
    """Mean over tasks of the share of right pictures."""
    verdicts = defaultdict(list)
    for prompt, found in zip(prompts, detections, strict=True):
        verdicts[prompt.task].append(judge(GenevalPrompt.from_metadata(prompt.metadata()), found).correct)
    return float(np.mean([np.mean(results) for results in verdicts.values()]))


@pytest.fixture(scope="module", params=[32, 48])
def drawn(request: pytest.FixtureRequest) -> tuple[list[ScenePrompt], list[Detections]]:
    """Held-out captions and what the detector finds in new pictures of them."""
    random = np.random.default_rng(11)
    prompts = [prompt for prompt in held_out_prompts() for _ in range(NUM_PICTURES)]
    return prompts, [detect(draw_scene(prompt, request.param, random).image) for prompt in prompts]


def test_freshly_drawn_pictures_score_at_least_099(drawn: tuple[list[ScenePrompt], list[Detections]]) -> None:
    assert overall(*drawn) >= 0.99


def test_shuffled_captions_score_near_chance(drawn: tuple[list[ScenePrompt], list[Detections]]) -> None:
    prompts, detections = drawn
    order = np.random.default_rng(0).permutation(len(prompts))
    assert overall(prompts, [detections[i] for i in order]) <= 0.1


@pytest.mark.sweep(8)
@pytest.mark.parametrize("shape", PLURALS)
@pytest.mark.parametrize("color", ["yellow", "pink", "black"])
def test_shape_colour_and_box_are_exact(shape: str, color: str) -> None:
    image = render([SceneObject(shape=shape, color=color, center_px=(20.4, 27.1), size_px=18.0)], 48)
    (found,) = find_shapes(image)
    assert (found.shape, found.color) == (shape, color)
    assert found.score > 0.9
    left, top, right, bottom = found.box_px
    assert 11 <= left < 20.4 < right <= 30
    assert 17 <= top < 27.1 < bottom <= 37


def test_noise_does_not_disturb_the_detector() -> None:
    random = np.random.default_rng(2)
    prompts = list(held_out_prompts()[::3])
    pictures = [draw_scene(prompt, 48, random).image for prompt in prompts]
    noisy = [np.clip(p + random.normal(0, 12, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    assert overall(prompts, [detect(picture) for picture in noisy]) >= 0.97


def test_an_empty_picture_and_pure_noise_hold_nothing() -> None:
    assert find_shapes(np.full((48, 48, 3), BACKGROUND, np.uint8)) == []
    assert find_shapes(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)) == []


def blob(radii: tuple[float, ...]) -> np.ndarray:
    """A red region whose radius goes through the given values around the centre."""
    y, x = np.indices((48, 48)) - 23.5
    angle = np.arctan2(y, x) % (2 * np.pi)
    radius = np.interp(angle, np.linspace(0, 2 * np.pi, len(radii) + 1), [*radii, radii[0]])
    image = np.full((48, 48, 3), BACKGROUND, np.uint8)
    image[np.hypot(x, y) < radius] = COLORS["red"]
    return image


@pytest.mark.parametrize("radii", [(10, 4, 9, 5, 11, 3), (12, 3, 12, 3), (12, 6, 6, 12, 7), (3,), (20,)])
def test_blobs_specks_and_giants_are_no_shapes(radii: tuple[float, ...]) -> None:
    assert find_shapes(blob(radii)) == []


def test_two_shapes_grown_together_are_no_shape() -> None:
    items = [SceneObject(shape="circle", color="red", center_px=(x, 24), size_px=18) for x in (16, 30)]
    assert find_shapes(render(items, 48)) == []


def test_a_picture_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        detect(np.zeros((48, 48, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="square"):
        detect(np.zeros((48, 40, 3), np.uint8))
