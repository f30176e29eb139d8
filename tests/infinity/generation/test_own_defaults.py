"""What a process has set for other models changes no bit, and is as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.generation.device import own_defaults
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.transformer.rope import rotations
from tests.fixtures.data.small_world import write_model

Drawn = tuple[np.ndarray, np.ndarray, list[np.ndarray]]
MASK = np.tri(24, dtype=bool)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


SET: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "another device": lambda: default_device("meta"),
    "device context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": lambda: torch.inference_mode(),
    "gradients": lambda: torch.enable_grad(),
}


def drawn(pipe: InfinityPipeline) -> Drawn:
    seen: list[np.ndarray] = []
    picture = pipe("a cat", seed=3, callback_on_scale=lambda each: seen.append(np.asarray(each.images()[0])))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8))
    return picture.pixels(), pipe.edit(image, MASK, "b").pixels(), seen


def equal(one: Drawn, other: Drawn) -> bool:
    return all(np.array_equal(a, b) for a, b in zip((*one[:2], *one[2]), (*other[:2], *other[2]), strict=True))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(model: str) -> Drawn:
    return drawn(InfinityPipeline.from_pretrained(model, device="cpu"))


@pytest.mark.parametrize("name", SET)
def test_pictures_are_the_same_under_any_setting_of_the_process(model: str, expected: Drawn, name: str) -> None:
    before = InfinityPipeline.from_pretrained(model, device="cpu")
    rotations.cache_clear()  # what is computed first under the setting stays for everybody
    with SET[name]():
        loaded = InfinityPipeline.from_pretrained(model, device="cpu")
        for pipe in (before, loaded):
            assert equal(drawn(pipe), expected)
    for pipe in (before, loaded):
        assert equal(drawn(pipe), expected)
    weight = loaded.pipeline.transformer.head.weight
    assert weight.dtype == torch.float32
    assert not weight.is_inference()


def test_drawing_leaves_the_random_numbers_of_the_process_alone(model: str) -> None:
    pipe = InfinityPipeline.from_pretrained(model, device="cpu")
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    drawn(pipe)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_settings_come_back_after_an_error() -> None:
    @own_defaults()
    def look() -> None:
        assert torch.get_default_dtype() == torch.float32
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        raise KeyError

    with default_dtype(torch.float64), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(KeyError):
            look()
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
