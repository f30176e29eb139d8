"""The workflow with which a real ComfyUI is compared: its nodes and inputs are those that ComfyUI would accept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.drawn.comfyui_host import load_custom_node, run_node
from benchmarks.drawn.comfyui_server import by_python, settings, workflow
from infinity import InfinityPipeline
from tests.fixtures.data.small_world import write_model

PACKAGE = Path(__file__).resolve().parents[3] / "integrations" / "comfyui"


def of_comfyui(kind: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """Run one of ComfyUI's own nodes of the workflow, as their documentation describes them."""
    if kind == "SolidMask":
        return (torch.full((1, given["height"], given["width"]), given["value"]),)
    if kind == "MaskComposite":
        found, source = given["destination"].clone(), given["source"]
        found[:, given["y"] : source.shape[1], given["x"] : source.shape[2]] += source
        return (found,)
    if kind == "ImageFromBatch":
        return (given["image"][given["batch_index"]][None],)
    assert kind == "SaveImage"
    return ((255.0 * given["images"].numpy()).clip(0, 255).astype(np.uint8),)


@pytest.mark.parametrize("edit", [None, "a blue ball"])
def test_the_compared_workflow_gives_the_pixels_of_python(tmp_path: Path, edit: str | None) -> None:
    nodes, model = load_custom_node(PACKAGE), write_model(tmp_path)
    pipe, about = InfinityPipeline.from_pretrained(model, device="cpu"), settings(random.Random(0))
    side = pipe("a", output_type="np").pixels().shape[1]
    done: dict[str, tuple[Any, ...]] = {}
    for name, each in workflow(model, "a red cube", 2, about, edit, side).items():
        kind, given = each["class_type"], {}
        for key, value in each["inputs"].items():
            given[key] = done[value[0]][value[1]] if isinstance(value, list) else value
        done[name] = run_node(nodes[kind], given) if kind in nodes else of_comfyui(kind, given)
    drawn, edited = by_python(pipe, "a red cube", 2, about, edit)
    assert np.array_equal(done["saved"][0], drawn)
    assert ("edited" in done) == (edited is not None)
    if edited is not None:
        assert np.array_equal(done["edited"][0], edited)
        assert not np.array_equal(edited[0], drawn[0])
