"""The test is exact for bits of any kind, finds what was drawn with its key, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.bits import BitLabels
from infinity.generation.generate import generate
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import Steering
from infinity.generation.watermark.detection import WatermarkDetector, WatermarkTest, labels_tests, log10_tail
from infinity.generation.watermark.key import WatermarkKey
from infinity.generation.watermark.pattern import BitWatermark
from infinity.scales import Resolution
from tests.fixtures.models.tiny_pipeline import PROMPTS, RESOLUTION, SCHEDULE, SEEDS, tiny_parts, tiny_tokenizer

KEYS = [WatermarkKey(f"key {number} of the tests".encode()) for number in range(3)]


def alike_bits() -> dict[str, torch.Tensor]:
    """Bits of kinds that a naive test takes for a pattern: constant, striped, repeated, and bits that lean to 1."""
    shape, numbers = (SCHEDULE.num_tokens, 6), torch.Generator().manual_seed(0)
    striped = torch.arange(shape[0] * shape[1]).reshape(shape) % 2 == 0
    return {
        "constant": torch.ones(shape, dtype=torch.bool),
        "striped": striped,
        "stripes of tokens": (torch.arange(shape[0]) % 2 == 0).unsqueeze(1).expand(shape),
        "lean to 1": torch.rand(shape, generator=numbers) < 0.8,
        "random": torch.rand(shape, generator=numbers) < 0.5,
    }


@pytest.mark.parametrize("kind", alike_bits())
def test_over_the_choice_of_keys_the_p_value_is_not_too_small(kind: str) -> None:
    labels = BitLabels(SCHEDULE, alike_bits()[kind].unsqueeze(0).contiguous())
    found = [10 ** labels_tests(WatermarkKey(b"%032d" % n), labels)[0].log10_p for n in range(400)]
    for level in (0.5, 0.1, 0.02):  # within four standard errors
        assert np.mean(np.array(found) <= level) <= level + 4 * math.sqrt(level * (1 - level) / len(found))


def test_the_tail_is_exact_and_survives_large_numbers() -> None:
    for pairs in (0, 1, 7, 30):
        for green in range(pairs + 1):
            exact = sum(math.comb(pairs, k) for k in range(green, pairs + 1)) / 2**pairs
            assert 10 ** log10_tail(green, pairs) == pytest.approx(exact, rel=1e-9)
    assert log10_tail(170_000, 170_000) == pytest.approx(-170_000 * math.log10(2))


def drawn_labels(watermark: BitWatermark | None, sampling: SamplingConfig, **changes: object) -> BitLabels:
    parts = tiny_parts(**changes)
    steering = Steering(watermark=watermark)
    drawn = generate(*parts, list(PROMPTS), schedule=SCHEDULE, sampling=sampling, seeds=SEEDS, steering=steering)
    return drawn.labels


@pytest.mark.parametrize("head", ["bitwise", "index"])
@pytest.mark.parametrize("key", KEYS)
def test_drawn_bits_carry_the_watermark_of_their_key_alone(key: WatermarkKey, head: str) -> None:
    sampling = SamplingConfig(guidance=1.0, nucleus=1.0)
    labels = drawn_labels(BitWatermark(key, 6.0), sampling, head=head)
    for other in KEYS:
        found = labels_tests(other, labels)
        assert all((each.log10_p < -5) == (other is key) for each in found)


def test_without_a_watermark_nothing_changes() -> None:
    sampling = SamplingConfig()
    assert torch.equal(drawn_labels(None, sampling).bits_BLC, drawn_labels(None, sampling).bits_BLC)
    plain = labels_tests(KEYS[0], drawn_labels(None, sampling))
    assert all(each.log10_p > -4 for each in plain)


@pytest.mark.parametrize(
    ("size", "mode"), [((1, 1), "RGB"), ((3, 50), "RGBA"), ((300, 20), "L"), ((16, 16), "1"), ((64, 64), "P")]
)
def test_pictures_of_any_size_and_mode_have_a_p_value(size: tuple[int, int], mode: str) -> None:
    detector = WatermarkDetector(tiny_tokenizer(), RESOLUTION, KEYS[0])
    found = detector.test(Image.new(mode, size))
    assert -4 < found.log10_p <= 0
    assert 0 <= found.green <= found.pairs
    assert found.alignments > 1
    assert detector.test(Image.new(mode, size), crops=()).alignments == 1


def test_a_crop_is_put_back_to_where_it_was() -> None:
    """The picture of the best alignment is the original but for its edges, so its pairs are nearly the original's."""
    tokenizer, resolution = tiny_tokenizer(), Resolution(sides=(1, 2, 4, 8, 16))
    numbers = np.random.default_rng(0)
    small = Image.fromarray(numbers.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    picture = small.resize((64, 64), Image.Resampling.BICUBIC)
    cut = picture.crop((0, 4, 60, 64))
    for key in KEYS:
        exact = WatermarkDetector(tokenizer, resolution, key).test(picture, crops=())
        found = WatermarkDetector(tokenizer, resolution, key).test(cut, crops=(1 / 16,))
        assert found.log10_p <= exact.log10_p * 0.5 + math.log10(found.alignments)


@pytest.mark.parametrize("crops", [(1.0,), (-0.1,), (0.05, float("nan"))])
def test_shares_out_of_range_are_refused(crops: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="crops"):
        WatermarkDetector(tiny_tokenizer(), RESOLUTION, KEYS[0]).test(Image.new("RGB", (16, 16)), crops)


@pytest.mark.parametrize(("log10_p", "p_value"), [(0.0, 1.0), (-3.0, 1e-3), (-400.0, 0.0)])
def test_the_p_value_is_that_of_its_logarithm(log10_p: float, p_value: float) -> None:
    assert WatermarkTest(green=1, pairs=1, log10_p=log10_p).p_value == pytest.approx(p_value)
