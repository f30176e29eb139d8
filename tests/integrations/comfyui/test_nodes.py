"""Nodes for ComfyUI, loaded and run as it does: the pixels of Python, and no node changes what another was given."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.drawn.comfyui_host import load_custom_node, run_node
from infinity import InfinityPipeline
from infinity.transformer.adapters.lora import Adapter, AdapterError, LowRank
from infinity.transformer.adapters.lora_files import save_adapter
from tests.fixtures.data.small_world import write_model

PACKAGE = Path(__file__).resolve().parents[3] / "integrations" / "comfyui"
PLACE = "blocks.0.self_attention.query_key"
SETTINGS: dict[str, Any] = {"guidance": 2.0, "temperature": 0.7, "top_p": 0.9, "seed": 5}
BY_PYTHON: dict[str, Any] = {"guidance_scale": 2.0, "temperature": 0.7, "top_p": 0.9, "seed": 5}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, type]:
    """Nodes of a copy in a folder ``custom_nodes``, as a user has it."""
    folder = tmp_path_factory.mktemp("ComfyUI.0") / "custom_nodes" / "infinity"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return load_custom_node(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(place: str) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(place, device="cpu")


@pytest.fixture
def model(nodes: dict[str, type], place: str) -> Any:
    return run_node(nodes["InfinityLoadModel"], {"model": place, "device": "cpu"})[0]


@pytest.fixture(scope="module")
def adapters(pipe: InfinityPipeline, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    found, (out, inner) = [], pipe.pipeline.transformer.get_submodule(PLACE).weight.shape
    for seed in (1, 2):
        numbers = torch.Generator().manual_seed(seed)
        layer = LowRank(torch.randn(2, inner, generator=numbers), torch.randn(out, 2, generator=numbers), 1.0)
        found.append(str(tmp_path_factory.mktemp(f"adapter-{seed}")))
        save_adapter(found[-1], Adapter(f"adapter-{seed}", {PLACE: layer}, ""))
    return found


def saved_by_comfyui(images: torch.Tensor) -> np.ndarray:
    """Pixels as ComfyUI's SaveImage writes them: it truncates."""
    return np.clip(255.0 * images.cpu().numpy(), 0, 255).astype(np.uint8)


def draw(nodes: dict[str, type], model: Any, **inputs: Any) -> tuple[np.ndarray, Any]:
    images, pictures = run_node(nodes["InfinityDraw"], {"model": model, "prompt": "a red cube", **SETTINGS, **inputs})
    assert images.dtype == torch.float32
    assert images.ndim == 4
    return saved_by_comfyui(images), pictures


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (512, 1024), (904, 448)])
@pytest.mark.parametrize("negative", ["", "a blue ball"])
def test_a_drawing_has_the_pixels_of_python(
    nodes: dict[str, type], model: Any, pipe: InfinityPipeline, width: int, height: int, negative: str
) -> None:
    found, _ = draw(nodes, model, width=width, height=height, count=3, negative_prompt=negative)
    expected = pipe(
        "a red cube", width=width, height=height, num_images_per_prompt=3, negative_prompt=negative or None,
        output_type="np", **BY_PYTHON,
    )  # fmt: skip
    assert np.array_equal(found, expected.images)


def test_a_node_never_changes_the_model_that_another_was_given(
    nodes: dict[str, type], model: Any, pipe: InfinityPipeline, adapters: list[str]
) -> None:
    load = nodes["InfinityLoadAdapter"]
    half = run_node(load, {"model": model, "adapter": adapters[0], "scale": 0.5})[0]
    both = run_node(load, {"model": half, "adapter": adapters[1], "scale": 1.0})[0]
    uses = {"none": [], "half": [(adapters[0], 0.5)], "both": [(adapters[0], 0.5), (adapters[1], 1.0)]}
    models = {"none": model, "half": half, "both": both}
    found = {name: draw(nodes, models[name])[0] for name in ("both", "none", "half", "none")}
    for name, loaded in uses.items():
        pipe.set_adapters(loaded)
        assert np.array_equal(found[name], pipe("a red cube", output_type="np", **BY_PYTHON).images), name
    pipe.unload_lora_weights()


def test_an_edit_has_the_pixels_of_python_from_bits_and_from_pixels(
    nodes: dict[str, type], model: Any, pipe: InfinityPipeline
) -> None:
    mask = torch.zeros(1, 12, 12)
    mask[:, :, 6:] = 0.8
    common = {"model": model, "mask": mask, "prompt": "a blue ball", **SETTINGS}
    drawn, pictures = draw(nodes, model)
    expected = pipe("a red cube", output_type="np", **BY_PYTHON)
    for given, source in (
        ({"pictures": pictures}, expected),
        ({"image": torch.from_numpy(drawn.astype(np.float32) / 255)}, Image.fromarray(drawn[0])),
    ):
        images, edited = run_node(nodes["InfinityEdit"], {**common, **given, "count": 2})
        wanted = pipe.edit(source, mask[0] > 0.5, "a blue ball", num_images=2, output_type="np", **BY_PYTHON)
        assert np.array_equal(saved_by_comfyui(images), wanted.images)
        assert torch.equal(edited.bits.bits_BLC, wanted.bits.bits_BLC)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "expected either image or pictures to be connected, found none"),
        ({"image": torch.zeros(2, 8, 8, 3)}, "image: expected one picture"),
        ({"image": torch.zeros(1, 8, 8, 4)}, "image: expected one picture"),
        ({"image": torch.full((1, 8, 8, 3), float("nan"))}, "image: expected numbers from 0 to 1, found NaN"),
        ({"image": torch.zeros(1, 8, 8, 3), "mask": torch.ones(2, 8, 8)}, "mask: expected one mask"),
        ({"image": torch.zeros(1, 8, 8, 3), "mask": torch.zeros(1, 8, 8)}, "mask: covers less than"),
        ({"image": torch.zeros(1, 8, 8, 3), "mask": torch.full((1, 8, 8), torch.nan)}, "mask: .* found NaN"),
    ],
)
def test_what_cannot_be_edited_is_named(
    nodes: dict[str, type], model: Any, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_node(nodes["InfinityEdit"], {"model": model, "mask": torch.ones(1, 8, 8), "prompt": "a", **inputs})


def test_an_adapter_that_cannot_be_loaded_is_refused_at_its_node(nodes: dict[str, type], model: Any) -> None:
    with pytest.raises(AdapterError, match="nowhere"):
        run_node(nodes["InfinityLoadAdapter"], {"model": model, "adapter": "/nowhere"})


def test_a_retrained_model_is_loaded_again_and_a_missing_one_is_named_by_loading(
    nodes: dict[str, type], place: str, tmp_path: Path
) -> None:
    load: Any = nodes["InfinityLoadModel"]
    assert load.IS_CHANGED(place, "cpu", "auto") == (Path(place) / "COMMITTED").read_text() != ""
    assert load.IS_CHANGED(str(tmp_path), "cpu", "auto") == ""
    assert load.IS_CHANGED("owner/model", "cpu", "auto") == "owner/model"
    assert load.IS_CHANGED("", "cpu", "auto") == ""
    with pytest.raises(ValueError, match="expected a model folder"):
        run_node(load, {"model": str(tmp_path), "device": "cpu"})


def test_an_adapter_that_was_trained_again_is_drawn_with_again(
    nodes: dict[str, type], adapters: list[str], tmp_path: Path
) -> None:
    changed: Any = nodes["InfinityLoadAdapter"].IS_CHANGED  # type: ignore[attr-defined]
    shutil.copytree(adapters[0], tmp_path / "lora")
    before = changed(adapter=str(tmp_path / "lora"), model=None, scale=1.0)
    assert before == changed(adapter=adapters[0], model=None, scale=1.0) != ""
    shutil.copytree(adapters[1], tmp_path / "lora", dirs_exist_ok=True)
    assert changed(adapter=str(tmp_path / "lora"), model=None, scale=1.0) not in ("", before)
    assert changed(adapter="", model=None, scale=1.0) == changed(adapter=str(tmp_path / "gone")) == ""


class Bar:
    """ComfyUI's progress bar."""

    told: list[tuple[float, float, Any]]

    def __init__(self, total: float) -> None:
        Bar.told = []

    def update_absolute(self, value: float, total: float, preview: Any) -> None:
        Bar.told.append((value, total, preview))


def pretend_comfyui(monkeypatch: pytest.MonkeyPatch, stop: Any) -> None:
    utils, management = types.ModuleType("comfy.utils"), types.ModuleType("comfy.model_management")
    utils.ProgressBar = Bar  # type: ignore[attr-defined]
    management.throw_exception_if_processing_interrupted = stop  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comfy.utils", utils)
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)


def test_comfyui_sees_every_scale_and_the_pixels_stay(
    nodes: dict[str, type], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = draw(nodes, model, count=2)
    pretend_comfyui(monkeypatch, lambda: None)
    watched, pictures = draw(nodes, model, count=2)
    assert np.array_equal(plain, watched)
    assert len(Bar.told) >= pictures.bits.schedule.num_scales
    assert Bar.told[-1][:2] == (2, 2)
    kind, image, longest = Bar.told[-1][2]
    assert (kind, longest) == ("JPEG", 512)
    assert np.array_equal(np.asarray(image).shape, watched[0].shape)


def test_a_stopped_queue_ends_the_drawing_with_the_exception_of_comfyui(
    nodes: dict[str, type], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class InterruptProcessingException(Exception):
        pass

    def stop() -> None:
        raise InterruptProcessingException

    pretend_comfyui(monkeypatch, stop)
    with pytest.raises(InterruptProcessingException):
        draw(nodes, model)
    monkeypatch.undo()
    draw(nodes, model)
