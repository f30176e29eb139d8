"""Packed text conditions."""

import pytest
import torch

from infinity.text import TextCondition


def condition(*lengths: int, channels: int = 3) -> TextCondition:
    return TextCondition(torch.randn(sum(lengths), channels), lengths)


def test_packing_undoes_unpacking() -> None:
    text = condition(2, 5, 1)
    again = TextCondition.pack(text.unpack())
    assert again.lengths == text.lengths
    assert torch.equal(again.features_TD, text.features_TD)
    assert text.offsets == (0, 2, 7, 8)
    assert (text.batch_size, text.channels) == (3, 3)


def test_padding_keeps_every_token_in_its_place_and_fills_with_zeros() -> None:
    text = condition(2, 4)
    padded, mask = text.padded()
    assert padded.shape == (2, 4, 3)
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    assert torch.equal(padded[mask], text.features_TD)
    assert torch.equal(padded[~mask], torch.zeros(2, 3))


def test_padding_of_equally_long_captions_is_a_view() -> None:
    text = condition(3, 3)
    padded, mask = text.padded()
    assert mask.all()
    assert padded.data_ptr() == text.features_TD.data_ptr()


def test_gradients_flow_through_padding() -> None:
    features = torch.randn(3, 2, requires_grad=True)
    padded, _ = TextCondition(features, (1, 2)).padded()
    padded.sum().backward()
    assert torch.equal(features.grad, torch.ones(3, 2))


def test_selecting_each_half_and_joining_gives_the_whole() -> None:
    text = condition(1, 4, 2)
    joined = text.select([0]).concat(text.select([1, 2]))
    assert joined.lengths == text.lengths
    assert torch.equal(joined.features_TD, text.features_TD)
    assert text.select([2, 0, 2]).lengths == (2, 1, 2)


@pytest.mark.parametrize(
    ("shape", "lengths", "message"),
    [
        ((3, 2), (1, 1), "sum to 2"),
        ((2, 2), (2, 0), "at least one token"),
        ((0, 2), (), "at least one"),
        ((4,), (4,), "shape"),
    ],
)
def test_impossible_lengths_are_refused(shape: tuple[int, ...], lengths: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextCondition(torch.zeros(shape), lengths)


def test_conditions_of_other_widths_do_not_join() -> None:
    with pytest.raises(ValueError, match="3 and 4 channels"):
        condition(1).concat(condition(1, channels=4))
