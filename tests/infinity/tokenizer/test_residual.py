"""Laws of the residual loop over scales."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infinity.bits import fold
from infinity.scales import ASPECT_RATIOS, ScaleSchedule, custom_schedule, published_schedule
from infinity.tokenizer.quantizer import QuantizerKind, straight_through
from infinity.tokenizer.residual import ResidualLoop, fold_bits, resize, shrink, unfold_bits

SQUARE = ScaleSchedule(aspect_ratio=1.0, grids=((1, 1), (2, 2), (3, 3), (5, 5), (8, 8)), frame=(8, 8))


def random_features(batch: int, num_bits: int, grid: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randn(batch, num_bits, *grid, generator=torch.Generator().manual_seed(seed))


def new_loop(features: Tensor, schedule: ScaleSchedule, fold: bool = False) -> ResidualLoop:
    return ResidualLoop(schedule, batch_size=features.shape[0], num_bits=features.shape[1], fold=fold)


def plain_quantize(features: Tensor, schedule: ScaleSchedule) -> tuple[list[Tensor], Tensor]:
    """Algorithm 1 as the goldens' README words it, channels first, nothing in place."""
    total, bits = torch.zeros_like(features), []
    for k, grid in enumerate(schedule.grids):
        residual = features - total
        if k + 1 < schedule.num_scales:
            residual = F.interpolate(residual, size=grid, mode="area")
        bits.append((F.normalize(residual, dim=1) > 0).permute(0, 2, 3, 1))
        codes = torch.where(bits[-1], 1.0, -1.0).permute(0, 3, 1, 2) * features.shape[1] ** -0.5
        total = total + F.interpolate(codes, size=schedule.last_grid, mode="bilinear", align_corners=False)
    return bits, total


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_labels_follow_the_written_algorithm_for_every_published_ratio(aspect_ratio: float) -> None:
    schedule = published_schedule(aspect_ratio, "256")
    features = random_features(1, 5, schedule.last_grid)
    loop = new_loop(features, schedule)
    labels = list(loop.label(features))
    expected, total = plain_quantize(features, schedule)
    assert all(torch.equal(a, b) for a, b in zip(labels, expected, strict=True))
    torch.testing.assert_close(loop.total_BCHW, total, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("kind", ["bsq", "lfq"])
def test_a_residual_of_zero_is_a_bit_that_is_not_set(kind: QuantizerKind) -> None:
    """As published, where only what is above zero gives the positive code; in encoding and in the training path."""
    features = torch.tensor([1e-30, -1e-30, 0.0, 2.0]).view(1, 4, 1, 1)
    expected = [True, False, False, True]
    loop = ResidualLoop(
        ScaleSchedule(aspect_ratio=1.0, grids=((1, 1),), frame=(1, 1)), batch_size=1, num_bits=4, kind=kind
    )
    assert next(iter(loop.label(features))).flatten().tolist() == expected
    codes, _ = straight_through(features, kind)
    assert (codes.flatten() > 0).tolist() == expected
    nothing, _ = straight_through(torch.zeros(1, 4, 1, 1), kind)
    assert (nothing < 0).all()


@pytest.mark.parametrize("folded", [False, True])
def test_bits_added_one_by_one_give_the_encoders_sum(folded: bool) -> None:
    grid = (16, 16) if folded else (8, 8)
    features = random_features(2, 6, grid)
    encoding, generating = new_loop(features, SQUARE, folded), new_loop(features, SQUARE, folded)
    for bits in encoding.label(features):
        generating.add(bits)
        assert torch.equal(generating.total_BCHW, encoding.total_BCHW)


def test_training_path_with_gradient_gives_the_sum_of_the_bits() -> None:
    features = random_features(2, 6, (8, 8))
    labelling, training = new_loop(features, SQUARE), new_loop(features, SQUARE)
    bits = list(labelling.label(features))
    chained = features.clone().requires_grad_()
    for k in range(SQUARE.num_scales):
        codes, _ = straight_through(training.residual(k, chained), "bsq")
        assert torch.equal(codes.permute(0, 2, 3, 1) > 0, bits[k])
        training.add_codes(codes)
    torch.testing.assert_close(training.total_BCHW, labelling.total_BCHW, atol=1e-6, rtol=0.0)


def test_gradient_flows_through_the_chain_of_residuals() -> None:
    """Cutting the chain (constant running sum) gives another gradient."""

    def gradient(cut: bool) -> Tensor:
        features = random_features(1, 6, (8, 8)).requires_grad_()
        loop = new_loop(features, SQUARE)
        outputs = []
        for k in range(SQUARE.num_scales):
            residual = loop.residual(k, features)
            codes, _ = straight_through(residual, "bsq")
            outputs.append((codes * random_features(1, 6, SQUARE.grids[k], seed=k)).sum())
            loop.add_codes(codes.detach() if cut else codes)
        return torch.autograd.grad(torch.stack(outputs).sum(), features)[0]

    assert gradient(cut=False).abs().min() > 0
    assert not torch.allclose(gradient(cut=False), gradient(cut=True))


@pytest.mark.parametrize("folded", [False, True])
def test_a_residual_of_zero_is_a_clear_bit(folded: bool) -> None:
    """As the reference has it: only what lies strictly above zero sets a bit."""
    schedule = custom_schedule(1.0, (1, 1), 1)
    side = 2 if folded else 1
    loop = ResidualLoop(schedule, batch_size=1, num_bits=3, fold=folded)
    tiny = torch.tensor([0.0, -0.0, 1e-30]).reshape(1, 3, 1, 1).expand(1, 3, side, side)
    (bits,) = loop.label(tiny)
    assert bits.reshape(3, -1).any(dim=1).tolist() == bits.reshape(3, -1).all(dim=1).tolist() == [False, False, True]


def test_no_label_changes_the_features() -> None:
    features = random_features(1, 4, (8, 8)).contiguous(memory_format=torch.channels_last)
    before = features.clone()
    list(new_loop(features, SQUARE).label(features))
    assert torch.equal(features, before)


def test_input_of_the_next_scale_is_the_resized_sum_row_by_row() -> None:
    loop = new_loop(features := random_features(1, 4, (8, 8)), SQUARE)
    for k, _ in enumerate(loop.label(features)):
        if k + 1 == SQUARE.num_scales:
            break
        grid = SQUARE.grids[k + 1]
        maps = F.interpolate(loop.total_BCHW.contiguous(), size=grid, mode="bilinear", align_corners=False)
        expected = maps.flatten(2).transpose(1, 2)
        torch.testing.assert_close(loop.next_input(k), expected, atol=1e-6, rtol=0.0)


def test_held_input_does_not_change_when_the_sum_grows() -> None:
    loop = new_loop(features := random_features(1, 4, (8, 8)), SQUARE)
    held = None
    for k, _ in enumerate(loop.label(features)):
        if k + 2 == SQUARE.num_scales:
            held = loop.next_input(k)
            before = held.clone()
    assert held is not None
    assert torch.equal(held, before)


def test_folded_input_is_the_unfolded_one_with_2x2_positions_in_channels() -> None:
    features = random_features(1, 3, (16, 16))
    folded, flat = new_loop(features, SQUARE, fold=True), new_loop(features, SQUARE.unfolded())
    for k, (bits, plain) in enumerate(zip(folded.label(features), flat.label(features), strict=True)):
        assert torch.equal(bits.permute(0, 3, 1, 2), fold(plain.permute(0, 3, 1, 2).float()) > 0.5)
        if k + 1 < SQUARE.num_scales:
            h, w = SQUARE.grids[k + 1]
            maps = flat.next_input(k).transpose(1, 2).reshape(1, 3, 2 * h, 2 * w)
            assert torch.equal(folded.next_input(k), fold(maps).flatten(2).transpose(1, 2))


def test_unfolded_bits_are_the_inverse_of_folded_bits() -> None:
    bits = random_features(2, 8, (3, 5)).permute(0, 2, 3, 1) > 0
    assert torch.equal(fold_bits(unfold_bits(bits)), bits)
    maps = F.pixel_shuffle(bits.permute(0, 3, 1, 2).float(), 2)
    assert torch.equal(unfold_bits(bits), maps.permute(0, 2, 3, 1) > 0.5)


def test_every_further_scale_leaves_less() -> None:
    """On the sphere: codes of unit length approach features that are themselves sums of such codes."""
    schedule = custom_schedule(1.0, (8, 8), 8)
    loop = new_loop(target := random_features(2, 16, (8, 8)), schedule)
    list(loop.label(target))
    features = loop.total_BCHW.clone()
    again = new_loop(features, schedule)
    errors = [(features - again.total_BCHW).square().mean().item() for _ in again.label(features)]
    assert errors[-1] < 0.5 * errors[0]


def test_resampling_to_the_same_grid_changes_nothing() -> None:
    maps = random_features(1, 2, (5, 7))
    assert shrink(maps, (5, 7)) is maps
    assert resize(maps, (5, 7)) is maps


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 4), (7, 8), (8, 8)])
def test_resampling_is_the_reference_frameworks(grid: tuple[int, int]) -> None:
    large = random_features(2, 3, (8, 8)).contiguous(memory_format=torch.channels_last)
    plain = large.contiguous()
    torch.testing.assert_close(shrink(large, grid), F.interpolate(plain, size=grid, mode="area"), atol=1e-6, rtol=0)
    small = random_features(2, 3, grid)
    expected = F.interpolate(small.unsqueeze(2), size=(1, 8, 8), mode="trilinear", align_corners=False).squeeze(2)
    torch.testing.assert_close(resize(small, (8, 8)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_bits", [1, 64])
def test_one_and_sixty_four_bits_work(num_bits: int) -> None:
    features = random_features(1, num_bits, (8, 8))
    bits = list(new_loop(features, SQUARE).label(features))
    assert bits[-1].shape == (1, 8, 8, num_bits)
