"""Draw a picture again from the settings in its PNG file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.generation.drawing.drawer import Drawer
from infinity.generation.drawing.results import PipelineResult
from infinity.generation.editing.edits import recorded
from infinity.generation.files.model_folder import ModelNotFoundError
from infinity.generation.files.picture_files import DrawingSettings, WatermarkUse
from infinity.generation.steering import PictureSteering
from infinity.transformer.adapters.lora import AdapterError
from infinity.transformer.adapters.lora_files import load_adapter

_PLACES = ("*", "*/model", "*/*/model")
"""Where model folders lie below ``models`` and ``runs``."""


class OtherModelError(ValueError):
    """A picture was drawn with another model than the given one."""


def redo(drawer: Drawer, settings: DrawingSettings) -> PipelineResult:
    """Draw a picture again.

    The adapters that the settings name must be loaded (``load_adapters_of``).

    Raises:
        OtherModelError: The settings are those of another model.
        ValueError: The settings do not fit the model.
    """
    if settings.model != drawer.pipeline.digest:
        raise OtherModelError(
            f"the picture was drawn with the model {settings.model}, this one is {drawer.pipeline.digest}; "
            "give the folder of that model"
        )
    if settings.quantized != drawer.pipeline.quantized:
        raise OtherModelError(
            f"the picture was drawn with {settings.quantized or 'floating-point'} weights, the model is loaded with "
            f"{drawer.pipeline.quantized or 'floating-point'} ones; load it as the picture says"
        )
    if bool(settings.bfloat16) != drawer.pipeline.bfloat16:
        kinds = ["bfloat16" if each else "float32" for each in (settings.bfloat16, drawer.pipeline.bfloat16)]
        raise OtherModelError(
            f"the picture was drawn with products in {kinds[0]}, the model computes in {kinds[1]}; load it as the "
            "picture says"
        )
    if settings.cache != drawer.pipeline.cache:
        raise OtherModelError(
            f"the picture was drawn with {settings.cache or 'floating-point'} keys and values, the model is loaded "
            f"with {drawer.pipeline.cache or 'floating-point'} ones; load it as the picture says"
        )
    if settings.watermark != drawer.watermark_use:
        raise OtherModelError(
            f"the picture was drawn with {_watermark(settings.watermark)}, the model draws with "
            f"{_watermark(drawer.watermark_use)}; set the watermark that the picture names"
        )
    # By their content: the name of an adapter is that of its folder, which may have been moved.
    used, loaded = ([(use.content, use.scale) for use in uses] for uses in (settings.adapters, drawer.adapters))
    if used != loaded:
        named = ", ".join(f"{use.name}:{use.scale:g}" for use in settings.adapters) or "no adapter"
        raise AdapterError(f"the picture was drawn with {named}; load these adapters first")
    edit, prompts, seeds = settings.edit, [settings.prompt], [settings.seed]
    if edit is not None and edit.source_bits:
        again = recorded(drawer.pipeline, edit, settings.aspect_ratio)
        return drawer.draw_edit(again, settings.prompt, seeds, settings.sampling)
    steering = None
    if edit is not None and edit.later_prompt is not None:
        steering = PictureSteering(later_prompts=(edit.later_prompt,), later_scale=edit.later_scale)
    return drawer.draw(prompts, seeds, settings.sampling, settings.aspect_ratio, steering=steering)


def _watermark(use: WatermarkUse | None) -> str:
    return "no watermark" if use is None else f"the watermark of the key {use.key_id} at strength {use.strength:g}"


def load_adapters_of(drawer: Drawer, settings: DrawingSettings, places: Sequence[str]) -> None:
    """Load the adapters that a picture was drawn with, from the given places in any order, under the names it gives.

    Raises:
        AdapterError: One of them is not among the places.
    """
    found = {adapter.digest: adapter for adapter in (load_adapter(storage.absolute(place)) for place in places)}
    if missing := [use for use in settings.adapters if use.content not in found]:
        raise AdapterError(
            f"the picture was drawn with the adapter {missing[0].name} ({missing[0].content}), which is not among "
            "those given; give its file with --lora"
        )
    drawer.set_adapters((replace(found[use.content], name=use.name), use.scale) for use in settings.adapters)


def find_model(digest: str) -> str:
    """Return the model folder with a digest below ``models`` or the folder of runs (INFINITY_RUNS, or ``runs``).

    Raises:
        ModelNotFoundError: There is none.
    """
    roots = [Path("models"), Path(os.environ.get("INFINITY_RUNS") or "runs")]
    for root in roots:
        for marker in sorted(file for place in _PLACES for file in root.glob(f"{place}/{MARKER_FILE}")):
            if marker.read_text(errors="replace").strip() == digest:
                return str(marker.parent)
    where = " and ".join(str(root) for root in roots)
    raise ModelNotFoundError(f"no model {digest} below {where}; give its folder with --checkpoint")
