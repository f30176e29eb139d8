"""Laws of drawing bits."""

import pytest
import torch

from infinity.bits import bits_to_index
from infinity.generation import PyramidGuidance, SamplingConfig, picture_generator
from infinity.generation.sampling import draw_bits, draw_codes, uniform_numbers
from infinity.scales import Resolution, published_schedule

SCHEDULE = Resolution(sides=(1, 2, 3, 4)).schedule(1.0)
DRAWS = 20_000


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Uniform numbers (B, M, ...), one generator per row."""
    rows = [torch.rand(shape[1:], generator=torch.Generator().manual_seed(seed + b)) for b in range(shape[0])]
    return torch.stack(rows)


@pytest.mark.parametrize("probability", [0.02, 0.3, 0.5, 0.9])
def test_bits_are_set_with_their_probability(probability: float) -> None:
    logit = torch.logit(torch.tensor(probability))
    logits = torch.stack([torch.zeros(()), logit]).expand(1, DRAWS, 1, 2)
    share = draw_bits(logits, _numbers(*logits.shape[:-1]), nucleus=1.0).float().mean().item()
    assert share == pytest.approx(probability, abs=4 * (0.25 / DRAWS) ** 0.5)


def test_codes_are_drawn_with_their_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.05, 0.0, 0.2, 0.05, 0.1, 0.02, 0.08])
    logits = probabilities.log().expand(1, DRAWS, 8)
    index = bits_to_index(draw_codes(logits, _numbers(*logits.shape[:-1]), nucleus=1.0))
    shares = torch.bincount(index.flatten(), minlength=8) / DRAWS
    torch.testing.assert_close(shares, probabilities, atol=4 * (0.25 / DRAWS) ** 0.5, rtol=0)


def test_nucleus_fixes_bits_whose_rarer_value_is_too_rare() -> None:
    logits = torch.zeros(1, DRAWS, 2, 2)
    logits[..., 0, 1] = torch.logit(torch.tensor(0.98))
    logits[..., 1, 1] = torch.logit(torch.tensor(0.04))
    shares = draw_bits(logits, _numbers(*logits.shape[:-1]), nucleus=0.97).float().mean(dim=(0, 1))
    assert shares[0] == 1.0
    assert 0.03 < shares[1] < 0.05


def test_nucleus_keeps_the_likeliest_codes_only() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, DRAWS, 4)
    index = bits_to_index(draw_codes(logits, _numbers(*logits.shape[:-1]), nucleus=0.75))
    shares = torch.bincount(index.flatten(), minlength=4) / DRAWS
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.02, rtol=0)


def test_a_bit_at_the_edge_of_the_nucleus_is_fixed() -> None:
    """Both values have one half, so that either alone reaches a nucleus of one half; of equals it is the zero."""
    logits = torch.zeros(1, 1000, 3, 2)
    assert not draw_bits(logits, _numbers(*logits.shape[:-1]), nucleus=0.5).any()
    assert draw_bits(logits, _numbers(*logits.shape[:-1]), nucleus=0.501).float().mean().item() == pytest.approx(
        0.5, abs=0.05
    )


@pytest.mark.parametrize(("nucleus", "number"), [(0.25, 1), (0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)])
def test_the_smallest_set_of_codes_that_reaches_the_nucleus_is_kept(nucleus: float, number: int) -> None:
    """Of four codes of one quarter each, whose sums are exact."""
    drawn = bits_to_index(draw_codes(torch.zeros(1, 2000, 4), _numbers(1, 2000), nucleus=nucleus))
    assert len(drawn.unique()) == number


@pytest.mark.parametrize("per_token", [(), (5,)])
def test_rows_draw_scale_by_scale_from_their_own_generator(per_token: tuple[int, ...]) -> None:
    generators = [torch.Generator().manual_seed(b) for b in range(3)]
    together = uniform_numbers(SCHEDULE, generators, per_token, "cpu")
    again = torch.Generator().manual_seed(2)
    for (rows, columns), span in zip(SCHEDULE.grids, SCHEDULE.spans, strict=True):
        assert torch.equal(together[2, span], torch.rand(rows * columns, *per_token, generator=again))
    assert not torch.equal(together[0], together[1])


def test_picture_generator_depends_on_prompt_seed_and_grids() -> None:
    def numbers(prompt: str, seed: int, schedule: object = SCHEDULE) -> list[float]:
        return torch.rand(4, generator=picture_generator(prompt, seed, schedule)).tolist()

    assert numbers("a dog", 1) == numbers("a dog", 1)
    others = [numbers("a dog", 2), numbers("a cat", 1), numbers("a dog", 1, published_schedule(1.0, "256"))]
    assert all(numbers("a dog", 1) != other for other in others)


def test_a_prompt_a_seed_and_grids_begin_at_the_same_number_in_every_version() -> None:
    """Pictures that were drawn earlier can be drawn again; recorded on 29 November 2026."""
    schedule = published_schedule(1.0, "256")
    assert picture_generator("a dog", 1, schedule).initial_seed() == 18055150853473025280


def test_pyramid_grows_linearly_from_start_to_end() -> None:
    assert SamplingConfig(guidance=PyramidGuidance(start=1.0, end=4.0)).guidance_at(SCHEDULE) == (1.0, 2.0, 3.0, 4.0)
    published = SamplingConfig(guidance=PyramidGuidance()).guidance_at(SCHEDULE)
    assert (published[0], published[-1]) == (1.0, 3.0), "from none to 3 (paper Table 9)"


def test_everything_may_be_kept_and_guidance_may_be_none() -> None:
    assert SamplingConfig(nucleus=1.0).nucleus == 1.0
    assert not SamplingConfig(guidance=1.0, guide_logits=False).guide_logits
    for guidance in (0.0, 3.0, (1.0, 1.0)):
        with pytest.raises(ValueError, match="needs guide_logits or guided_blocks"):
            SamplingConfig(guidance=guidance, guide_logits=False)


def test_lists_may_be_longer_than_the_schedule() -> None:
    sampling = SamplingConfig(guidance=(1.0, 2.0, 3.0, 4.0, 5.0), temperature=0.5)
    assert sampling.guidance_at(SCHEDULE) == (1.0, 2.0, 3.0, 4.0)
    assert sampling.temperature_at(SCHEDULE) == (0.5,) * 4


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(),
        SamplingConfig(guidance=(1.0, 2.0), temperature=(0.5, 1.0), guided_blocks=(-1,), negative_prompt=""),
        SamplingConfig(guidance=PyramidGuidance(end=5.0), greedy=True),
    ],
    ids=["defaults", "lists", "pyramid"],
)
def test_configuration_survives_json(sampling: SamplingConfig) -> None:
    assert SamplingConfig.from_json(sampling.to_json()) == sampling


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nucleus": 0.0}, "nucleus: expected a probability"),
        ({"temperature": 0.0}, "temperature: expected positive"),
        ({"temperature": (1.0, -1.0)}, "temperature: expected positive"),
        ({"guide_logits": False}, "needs guide_logits or guided_blocks"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**changes)  # type: ignore[arg-type]
