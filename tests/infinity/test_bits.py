"""Bits, integer labels, folding, and the labels of a batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinity.bits import BitLabels, bits_to_index, fold, index_to_bits
from infinity.scales import custom_schedule, published_schedule


def random_bits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5


@given(st.integers(1, 62), st.data())
def test_integer_label_is_the_sum_of_bit_p_times_two_to_p(num_bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, 2**num_bits - 1))
    bits = torch.tensor([[(value >> p) & 1 == 1 for p in range(num_bits)]])
    assert bits_to_index(bits).tolist() == [value]
    assert torch.equal(index_to_bits(torch.tensor([value]), num_bits), bits)


def test_integer_label_of_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 62 bits, got 64"):
        bits_to_index(random_bits(1, 64))


def test_fold_puts_position_dy_dx_of_channel_c_at_4c_plus_2dy_plus_dx() -> None:
    maps = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    folded = fold(maps)
    for c, dy, dx in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 1, 1)]:
        assert torch.equal(folded[0, 4 * c + 2 * dy + dx], maps[0, c, dy::2, dx::2])
    assert torch.equal(torch.nn.functional.pixel_shuffle(folded, 2), maps)


def test_scales_joined_and_taken_apart_are_the_same() -> None:
    schedule = published_schedule(1.25, "256")
    maps = [random_bits(2, h, w, 3, seed=h) for h, w in schedule.grids]
    labels = BitLabels.from_scales(schedule, maps)
    assert (labels.batch_size, labels.num_bits) == (2, 3)
    assert all(torch.equal(labels.scale(k), bits) for k, bits in enumerate(maps))


def test_tokens_of_a_scale_are_row_by_row() -> None:
    schedule = custom_schedule(1.0, (2, 3), 1)
    labels = BitLabels(schedule, random_bits(1, 6, 1))
    assert torch.equal(labels.scale(0)[0, 1, 2], labels.bits_BLC[0, 5])


def test_selected_rows_keep_the_given_order() -> None:
    labels = BitLabels(custom_schedule(1.0, (2, 2), 2), random_bits(4, 5, 8))
    assert torch.equal(labels.select([2, 0]).bits_BLC, labels.bits_BLC[[2, 0]])
    assert torch.equal(labels.select(slice(1, 3)).bits_BLC, labels.bits_BLC[1:3])
    assert torch.equal(labels.select(torch.tensor([3])).bits_BLC, labels.bits_BLC[3:])


def test_labels_of_another_schedule_or_type_are_refused() -> None:
    schedule = custom_schedule(1.0, (2, 2), 2)
    with pytest.raises(ValueError, match="expected 5 tokens for grids"):
        BitLabels(schedule, random_bits(1, 4, 8))
    with pytest.raises(ValueError, match="expected a bool tensor"):
        BitLabels(schedule, torch.zeros(1, 5, 8))
    with pytest.raises(ValueError, match="expected bit maps of grids"):
        BitLabels.from_scales(schedule, [random_bits(1, 2, 2, 8)])
