"""Nodes that load a model, add adapters, draw and edit; pixels are those of ``InfinityPipeline``.

Types between nodes: ``INFINITY_MODEL`` is a ``NodeModel``, ``INFINITY_PICTURES`` the ``PipelineResult`` of a drawing.
``IMAGE`` is a float tensor (B, H, W, 3) and ``MASK`` a float tensor (B, H, W), both from 0 to 1, as ComfyUI's own nodes
have them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from infinity import InfinityPipeline, PipelineResult, storage
from infinity.checkpoint import MARKER_FILE
from infinity.generation.drawing.arguments import DTYPES, MAX_SEED, Dtype
from infinity.generation.files.hub import is_hub_name
from infinity.generation.files.model_folder import model_folder
from infinity.generation.watermark import BitWatermark, read_watermark_key
from infinity.generation.watermark.pattern import DEFAULT_STRENGTH
from infinity.transformer.adapters.lora_files import load_adapter
from infinity.transformer.cache import CACHE_FORMS, check_cache_form
from infinity.transformer.number_formats.quantized import WEIGHT_FORMS, check_weight_form

from .watching import scale_callback

CATEGORY = "Infinity"
_INT_SIZE = {"default": 1024, "min": 64, "max": 8192, "step": 8}
_SAMPLING = {
    "guidance": ("FLOAT", {"default": 3.0, "min": 0.0, "max": 30.0, "step": 0.1}),
    "temperature": ("FLOAT", {"default": 1.0, "min": 0.05, "max": 5.0, "step": 0.05}),
    "top_p": ("FLOAT", {"default": 0.97, "min": 0.01, "max": 1.0, "step": 0.01}),
}
_SEED = ("INT", {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True})
_COUNT = ("INT", {"default": 1, "min": 1, "max": 64})
_TEXT = ("STRING", {"multiline": True, "default": ""})


@dataclass(frozen=True, slots=True, eq=False)
class NodeModel:
    """A loaded model with the adapters that it is to draw with.

    ComfyUI keeps outputs of nodes and hands them to several others, so a node never changes what it was given.

    Attributes:
        pipe: Loaded model, shared by all nodes that follow its loader.
        adapters: Places of adapters with their scales.
    """

    pipe: InfinityPipeline
    adapters: tuple[tuple[str, float], ...] = ()

    def ready(self) -> InfinityPipeline:
        """Return the model with these adapters and no others.

        Raises:
            AdapterError: A file is damaged, or of another model.
        """
        self.pipe.set_adapters(self.adapters)
        return self.pipe


class InfinityLoadModel:
    """Load a model folder, a run, an ``s3://`` URI or a hub's repository."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("INFINITY_MODEL",)
    DESCRIPTION = "Load an Infinity model: a model folder, the folder of a run, s3://…, or owner/model of a hub."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("STRING", {"default": "runs/demo"}),
                "device": (["auto", "cpu", "cuda", "mps"],),
                "dtype": (list(DTYPES),),
                "quantize": (["none", *WEIGHT_FORMS],),
            },
            "optional": {
                "cache": (["none", *CACHE_FORMS],),
                "watermark_key_file": ("STRING", {"default": ""}),
                "watermark_strength": ("FLOAT", {"default": DEFAULT_STRENGTH, "min": 0.1, "max": 50.0, "step": 0.1}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, model: str, device: str, dtype: str, quantize: str = "none", **_others: object) -> str:
        """Return the digest of the model folder, so that ComfyUI loads a retrained model again."""
        if is_hub_name(model):
            return model
        try:
            return storage.read_text(storage.join(model_folder(storage.absolute(model)), MARKER_FILE))
        except (ValueError, OSError):
            return ""  # there is no model yet; loading says so

    def load(
        self,
        model: str,
        device: str,
        dtype: Dtype,
        quantize: str,
        cache: str = "none",
        watermark_key_file: str = "",
        watermark_strength: float = DEFAULT_STRENGTH,
    ) -> tuple[NodeModel]:
        """Load a model; with the file of a key (or ``env:NAME``) its pictures carry a watermark in their bits.

        Raises:
            CheckpointError: The folder is damaged.
            ValueError: There is no model, no such device, data type or key.
        """
        place = watermark_key_file.strip()
        watermark = BitWatermark(read_watermark_key(place), watermark_strength) if place else None
        pipe = InfinityPipeline.from_pretrained(
            model,
            device=None if device == "auto" else device,
            dtype=dtype,
            quantize=check_weight_form(None if quantize == "none" else quantize),
            cache=check_cache_form(None if cache == "none" else cache),
            watermark=watermark,
        )
        return (NodeModel(pipe),)


class InfinityLoadAdapter:
    """Add an adapter (LoRA, DoRA) to a model; several of these nodes add up."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("INFINITY_MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("INFINITY_MODEL",),
                "adapter": ("STRING", {"default": ""}),
                "scale": ("FLOAT", {"default": 1.0, "min": -4.0, "max": 4.0, "step": 0.05}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, adapter: str, **_others: object) -> str:
        """Return the digest of the adapter, so that ComfyUI draws again with one that was trained again."""
        try:
            return load_adapter(storage.absolute(adapter)).digest
        except (ValueError, OSError):
            return ""  # there is no adapter yet; loading says so

    def load(self, model: NodeModel, adapter: str, scale: float) -> tuple[NodeModel]:
        """Return a model with one more adapter; the given one is unchanged.

        Raises:
            AdapterError: The file is damaged, or of another model.
        """
        more = replace(model, adapters=(*model.adapters, (adapter, float(scale))))
        more.ready()  # what cannot be loaded is refused at this node rather than at a later one
        return (more,)


class _Pictures:
    """What all nodes share that give pictures."""

    CATEGORY = CATEGORY
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("IMAGE", "INFINITY_PICTURES")
    RETURN_NAMES: ClassVar[tuple[str, ...]] = ("images", "pictures")


class InfinityDraw(_Pictures):
    """Draw pictures for a prompt, with a preview after every scale."""

    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("INFINITY_MODEL",),
                "prompt": _TEXT,
                "seed": _SEED,
                "width": ("INT", _INT_SIZE),
                "height": ("INT", _INT_SIZE),
                "count": _COUNT,
                **_SAMPLING,
            },
            "optional": {"negative_prompt": _TEXT},
        }

    def draw(
        self,
        model: NodeModel,
        prompt: str,
        seed: int,
        width: int,
        height: int,
        count: int,
        guidance: float,
        temperature: float,
        top_p: float,
        negative_prompt: str = "",
    ) -> tuple[Tensor, PipelineResult]:
        """Draw ``count`` pictures with consecutive seeds.

        The nearest of the model's shapes is drawn, of the area that it was trained with. An empty negative prompt is
        none.

        Returns:
            Pictures, float32 (B, H, W, 3) from 0 to 1, and the result with their bits.

        Raises:
            ValueError: A setting is out of range.
        """
        result = model.ready()(
            prompt,
            width=width,
            height=height,
            num_images_per_prompt=count,
            negative_prompt=negative_prompt or None,
            guidance_scale=guidance,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            output_type="np",
            callback_on_scale=scale_callback(count),
        )
        return as_comfy_images(result), result


class InfinityEdit(_Pictures):
    """Draw the masked part of a picture again; the bits of all other tokens stay."""

    FUNCTION = "edit"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("INFINITY_MODEL",),
                "mask": ("MASK",),
                "prompt": _TEXT,
                "seed": _SEED,
                "count": _COUNT,
                **_SAMPLING,
            },
            "optional": {"image": ("IMAGE",), "pictures": ("INFINITY_PICTURES",), "negative_prompt": _TEXT},
        }

    def edit(
        self,
        model: NodeModel,
        mask: Tensor,
        prompt: str,
        seed: int,
        count: int,
        guidance: float,
        temperature: float,
        top_p: float,
        image: Tensor | None = None,
        pictures: PipelineResult | None = None,
        negative_prompt: str = "",
    ) -> tuple[Tensor, PipelineResult]:
        """Draw the masked part again.

        ``pictures`` of a drawing node has the exact bits; an ``image`` is encoded first.

        Returns:
            Pictures, float32 (B, H, W, 3) from 0 to 1, and the result with their bits.

        Raises:
            ValueError: Not exactly one picture is given, the mask covers no token, or a setting is out of range.
        """
        result = model.ready().edit(
            _one_source(image, pictures),
            _one_mask(mask),
            prompt,
            num_images=count,
            negative_prompt=negative_prompt or None,
            guidance_scale=guidance,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            output_type="np",
            callback_on_scale=scale_callback(count),
        )
        return as_comfy_images(result), result


def as_comfy_images(result: PipelineResult) -> Tensor:
    """Return pictures as ComfyUI has them: float32 (B, H, W, 3), k / 255 for a channel value k."""
    return torch.from_numpy(result.pixels().astype(np.float32) / 255.0)


def _one_source(image: Tensor | None, pictures: PipelineResult | None) -> Image.Image | PipelineResult:
    if (image is None) == (pictures is None):
        found = "none" if image is None else "both"
        raise ValueError(f"Infinity Edit: expected either image or pictures to be connected, found {found}")
    if pictures is not None:
        return pictures
    assert image is not None
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[3] != 3:
        raise ValueError(f"image: expected one picture, (1, height, width, 3), got the shape {tuple(image.shape)}")
    if not image.isfinite().all():
        raise ValueError("image: expected numbers from 0 to 1, found NaN or infinity; look at the node that gave it")
    return Image.fromarray((image[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def _one_mask(mask: Tensor) -> Tensor:
    """Return a mask of ComfyUI, (1, H, W) or (H, W), as (H, W); Python says which numbers mark a pixel."""
    one = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if one.ndim != 2:
        raise ValueError(f"mask: expected one mask, (1, height, width), got the shape {tuple(mask.shape)}")
    return one
