"""Laws of bitwise self-correction (paper 3.4)."""

import pytest
import torch
from torch import Tensor

from infinity.bits import BitLabels
from infinity.scales import ScaleSchedule, custom_schedule, published_schedule
from infinity.tokenizer import ResidualLoop, Tokenizer, TokenizerConfig, draw_flips, teacher_forcing
from infinity.tokenizer.self_correction import teacher_forcing_of_bits

SCHEDULE = published_schedule(1.0, "256")


def random_features(batch: int, num_bits: int, grid: tuple[int, int] = (16, 16), seed: int = 0) -> Tensor:
    return torch.randn(batch, num_bits, *grid, generator=torch.Generator().manual_seed(seed))


def draw(rate: float, batch: int = 3, num_bits: int = 8, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return draw_flips(SCHEDULE, batch_size=batch, num_bits=num_bits, max_rate=rate, generator=generator)


def replay(labels: BitLabels, flips: list[Tensor]) -> Tensor:
    """The running sum of bits after flipping."""
    loop = ResidualLoop(labels.schedule, batch_size=labels.batch_size, num_bits=labels.num_bits)
    for k in range(labels.schedule.num_scales):
        loop.add(labels.scale(k) ^ flips[k])
    return loop.total_BCHW


@pytest.mark.parametrize("fold", [False, True])
def test_rate_zero_equals_plain_encoding(fold: bool) -> None:
    schedule = custom_schedule(1.0, (8, 8), 5)
    config = TokenizerConfig(
        num_bits=6, base_width=8, encoder_multipliers=(1,), decoder_multipliers=(1,), num_downsamples=0, fold=fold
    )
    features = random_features(2, 6, (16, 16) if fold else (8, 8))
    flips = draw_flips(
        schedule, batch_size=2, num_bits=config.token_bits, max_rate=0.0, generator=torch.Generator().manual_seed(1)
    )
    corrected = teacher_forcing(features, schedule, fold=fold, flips=flips)
    clean = teacher_forcing(features, schedule, fold=fold)
    encoded = Tokenizer(config).quantize(features, schedule)
    assert torch.equal(corrected.labels.bits_BLC, clean.labels.bits_BLC)
    assert torch.equal(corrected.inputs_BMC, clean.inputs_BMC)
    assert torch.equal(clean.labels.bits_BLC, encoded.labels.bits_BLC)


def test_flips_leave_the_labels_of_the_first_scale_and_change_later_ones() -> None:
    features = random_features(3, 8)
    clean = teacher_forcing(features, SCHEDULE).labels
    corrected = teacher_forcing(features, SCHEDULE, flips=draw(0.3)).labels
    assert torch.equal(clean.scale(0), corrected.scale(0))
    assert all(not torch.equal(clean.scale(k), corrected.scale(k)) for k in range(2, SCHEDULE.num_scales))


def test_full_pyramid_after_flips_still_approaches_the_features() -> None:
    """Labels made against a corrupted history come closer than the same errors in labels made without them."""
    target = random_features(3, 16)
    loop = ResidualLoop(SCHEDULE, batch_size=3, num_bits=16)
    list(loop.label(target))
    features = loop.total_BCHW.clone()
    flips = draw(0.3, num_bits=16)
    flips[-1] = torch.zeros_like(flips[-1])
    corrected = replay(teacher_forcing(features, SCHEDULE, flips=flips).labels, flips)
    uncorrected = replay(teacher_forcing(features, SCHEDULE).labels, flips)
    error, uncorrected_error = ((features - sums).square().mean() for sums in (corrected, uncorrected))
    assert error < 0.8 * uncorrected_error
    assert error < 0.5 * features.square().mean()


def test_inputs_are_the_running_sums_of_the_flipped_bits() -> None:
    features, flips = random_features(2, 8), draw(0.3, batch=2)
    step = teacher_forcing(features, SCHEDULE, flips=flips)
    loop = ResidualLoop(SCHEDULE, batch_size=2, num_bits=8)
    inputs = []
    for k in range(SCHEDULE.num_scales - 1):
        loop.add(step.labels.scale(k) ^ flips[k])
        inputs.append(loop.next_input(k))
    assert torch.equal(step.inputs_BMC, torch.cat(inputs, dim=1))


def test_scales_after_the_last_mask_have_no_errors() -> None:
    features, flips = random_features(2, 8), draw(0.3, batch=2)
    padded = [*flips[:3], *(torch.zeros_like(mask) for mask in flips[3:])]
    short = teacher_forcing(features, SCHEDULE, flips=flips[:3])
    full = teacher_forcing(features, SCHEDULE, flips=padded)
    assert torch.equal(short.inputs_BMC, full.inputs_BMC)
    assert torch.equal(short.labels.bits_BLC, full.labels.bits_BLC)


def test_one_scale_has_no_inputs() -> None:
    step = teacher_forcing(random_features(2, 8), custom_schedule(1.0, (16, 16), 1))
    assert step.inputs_BMC.shape == (2, 0, 8)


def test_rate_differs_between_samples_and_scales_and_stays_below_the_maximum() -> None:
    schedule = ScaleSchedule(aspect_ratio=1.0, grids=((32, 32), (32, 32)), frame=(32, 32))
    generator = torch.Generator().manual_seed(0)
    flips = draw_flips(schedule, batch_size=200, num_bits=32, max_rate=0.3, generator=generator)
    rates = torch.stack([mask.float().mean(dim=(1, 2, 3)) for mask in flips])
    assert rates.max() < 0.31
    assert rates.min() < 0.02
    assert abs(rates.mean() - 0.15) < 0.01
    correlation = torch.corrcoef(rates)[0, 1]
    assert abs(correlation) < 0.25
    quarters = torch.histc(rates, bins=4, min=0.0, max=0.3) / rates.numel()
    assert (quarters - 0.25).abs().max() < 0.08  # uniform in [0, p]


def test_bits_flip_independently() -> None:
    schedule = ScaleSchedule(aspect_ratio=1.0, grids=((64, 64),), frame=(64, 64))
    generator = torch.Generator().manual_seed(3)
    mask = draw_flips(schedule, batch_size=1, num_bits=8, max_rate=1.0, generator=generator)[0].float()
    mask = mask - mask.mean()
    variance = mask.square().mean()
    for other in (mask.roll(1, -1), mask.roll(1, 2), mask.roll(1, 1)):
        assert abs((mask * other).mean() / variance) < 0.03


def test_same_generator_state_draws_the_same_flips() -> None:
    assert all(torch.equal(a, b) for a, b in zip(draw(0.3, seed=5), draw(0.3, seed=5), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(draw(0.3, seed=5), draw(0.3, seed=6), strict=True))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a rate from 0 to 1, got 30"):
        draw(30.0)
    with pytest.raises(ValueError, match=r"expected features of \(16, 16\) rows and columns"):
        teacher_forcing(random_features(1, 8, (8, 8)), SCHEDULE)
    with pytest.raises(ValueError, match="flips of at most 7 scales, got 8"):
        teacher_forcing(random_features(3, 8), SCHEDULE, flips=[*draw(0.1), torch.zeros(3, 1, 1, 8, dtype=torch.bool)])


def test_half_precision_features_give_float32_inputs() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = teacher_forcing(random_features(1, 8).bfloat16(), SCHEDULE)
    assert step.inputs_BMC.dtype == torch.float32
    plain = teacher_forcing(random_features(1, 8).bfloat16().float(), SCHEDULE)
    assert torch.equal(step.inputs_BMC, plain.inputs_BMC)
    assert torch.equal(step.labels.bits_BLC, plain.labels.bits_BLC)


@pytest.mark.parametrize("fold", [False, True])
def test_fewer_scales_are_the_beginning_of_all(fold: bool) -> None:
    """The finer scales are left out, the picture keeps its size: inputs and labels of the others stay what they are."""
    schedule = custom_schedule(1.0, (8, 8), 5)
    features = random_features(2, 6, (16, 16) if fold else (8, 8))
    generator = torch.Generator().manual_seed(1)
    flips = draw_flips(schedule, batch_size=2, num_bits=24 if fold else 6, max_rate=0.3, generator=generator)
    whole = teacher_forcing(features, schedule, fold=fold, flips=flips)
    some = teacher_forcing(features, schedule, fold=fold, flips=flips[:3], num_scales=3)
    assert some.labels.schedule == schedule.prefix(3)
    length = some.labels.schedule.num_tokens
    assert torch.equal(some.labels.bits_BLC, whole.labels.bits_BLC[:, :length])
    assert torch.equal(some.inputs_BMC, whole.inputs_BMC[:, : length - 1])
    plain = teacher_forcing(features, schedule, fold=fold)
    of_bits = teacher_forcing_of_bits(plain.labels, fold=fold, num_scales=3)
    of_features = teacher_forcing(features, schedule, fold=fold, num_scales=3)
    assert torch.equal(of_bits.labels.bits_BLC, of_features.labels.bits_BLC)
    torch.testing.assert_close(of_bits.inputs_BMC, of_features.inputs_BMC, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fold", [False, True])
def test_flips_alone_change_the_inputs_as_flips_do_and_no_label(fold: bool) -> None:
    """The control experiment (paper Table 7): the history is wrong, and nothing in the labels undoes it."""
    schedule = custom_schedule(1.0, (8, 8), 5)
    features = random_features(2, 6, (16, 16) if fold else (8, 8))
    generator = torch.Generator().manual_seed(1)
    flips = draw_flips(schedule, batch_size=2, num_bits=24 if fold else 6, max_rate=0.3, generator=generator)
    clean = teacher_forcing(features, schedule, fold=fold)
    alone = teacher_forcing(features, schedule, fold=fold, flips=flips, flips_only=True)
    assert torch.equal(alone.labels.bits_BLC, clean.labels.bits_BLC)
    assert not torch.equal(alone.inputs_BMC, clean.inputs_BMC)
    loop = ResidualLoop(schedule, batch_size=2, num_bits=6, fold=fold)
    loop.add(clean.labels.scale(0) ^ flips[0])
    second = schedule.spans[1].stop - 1
    assert torch.equal(alone.inputs_BMC[:, :second], loop.next_input(0))
    corrected = teacher_forcing(features, schedule, fold=fold, flips=flips)
    assert torch.equal(alone.inputs_BMC[:, :second], corrected.inputs_BMC[:, :second])
    assert not torch.equal(alone.labels.bits_BLC, corrected.labels.bits_BLC)


def test_flips_alone_without_flips_are_plain_encoding() -> None:
    features = random_features(3, 8)
    plain, none = teacher_forcing(features, SCHEDULE), teacher_forcing(features, SCHEDULE, flips=[], flips_only=True)
    assert torch.equal(plain.inputs_BMC, none.inputs_BMC)
    assert torch.equal(plain.labels.bits_BLC, none.labels.bits_BLC)


def test_flips_alone_of_a_prefix_are_the_prefix_of_those_of_all_scales() -> None:
    features, flips = random_features(3, 8), draw(0.3)
    whole = teacher_forcing(features, SCHEDULE, flips=flips, flips_only=True)
    part = teacher_forcing(features, SCHEDULE, flips=flips[:4], flips_only=True, num_scales=4)
    assert torch.equal(part.inputs_BMC, whole.inputs_BMC[:, : part.inputs_BMC.shape[1]])
    with pytest.raises(ValueError, match="at most 4 scales"):
        teacher_forcing(features, SCHEDULE, flips=flips, flips_only=True, num_scales=4)
