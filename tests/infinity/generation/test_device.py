"""The fastest device that is there is taken, and one that is not there is refused by name."""

import pytest
import torch

from infinity.generation.device import best_device, check_device


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_kind_of_device_is_taken(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == expected


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_card_is_one_of_those_that_are_there(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for number in range(4):
        if number < count:
            assert check_device(f"cuda:{number}") == f"cuda:{number}"
            continue
        with pytest.raises(ValueError, match=f"asks for a CUDA device, but this machine has {count or 'none'}"):
            check_device(f"cuda:{number}")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:-1", "cuda:x", "meta", "cpu:0:1", "cuda:99999999999999999999"])
def test_what_is_no_device_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="device: "):
        check_device(name)
