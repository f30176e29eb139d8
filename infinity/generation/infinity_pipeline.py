"""Text to pictures in three lines, with the argument names of diffusers where they mean the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.generation.device import best_device, check_device
from infinity.generation.drawing.arguments import (
    Dtype,
    aspect_ratio_of,
    is_bfloat16,
    picture_count,
    picture_seeds,
    place_text,
    sampling_config,
)
from infinity.generation.drawing.editor import Editor
from infinity.generation.drawing.results import OnPreview, OutputType, PipelineResult
from infinity.generation.files.hub import fetch_model, is_hub_name, upload_model
from infinity.generation.files.model_folder import model_folder
from infinity.generation.pipeline import Pipeline, prompt_list
from infinity.generation.placement import ModelPlacement
from infinity.generation.sampling import PyramidGuidance
from infinity.generation.steering import PictureSteering
from infinity.generation.watermark.pattern import BitWatermark
from infinity.transformer.adapters.lora import Adapter
from infinity.transformer.cache import CacheForm
from infinity.transformer.number_formats.float8 import check_float8
from infinity.transformer.number_formats.quantized import WeightForm

_PIECE_BYTES = 2**24
_T = TypeVar("_T")


class InfinityPipeline(Editor):
    """A loaded text-to-image model.

    A picture is a pure function of prompt, seed, size and settings: the same alone, in any batch and in any process on
    the same kind of processor (decision 11).

    Example::

        from infinity import InfinityPipeline

        pipe = InfinityPipeline.from_pretrained("runs/demo")
        pipe("a photo of a red circle").images[0].save("circle.png")
    """

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        device: str | None = None,
        dtype: Dtype | torch.dtype = "auto",
        revision: str | None = None,
        compiled: bool = False,
        graphs: bool = False,
        quantize: WeightForm | None = None,
        cache: CacheForm | None = None,
        watermark: BitWatermark | None = None,
        text_device: str | None = None,
        release_text: bool = False,
        offload: bool = False,
        memory_gb: float | None = None,
    ) -> Self:
        """Load a model.

        Args:
            model: A model folder, or the folder of a run, which stands for the last model that it trained: a local path
                or an ``s3://`` URI. Or the name of a hub's repository, ``owner/model``.
            device: Device, such as "cpu" or "cuda:0"; None takes a GPU if there is one.
            dtype: Data type of matrix products and convolutions, by name or as torch's; "auto" is bfloat16 on a GPU and
                float32 on a CPU.
            compiled: Whether blocks are compiled (``torch.compile``); the first picture then takes minutes.
            revision: Branch, tag or commit of a hub's repository.
            graphs: Whether each scale is captured as a CUDA graph, once two batches of one form were drawn; the memory
                of such a form stays taken.
            quantize: "int8" or "int4" stores the blocks' weights in 8 or 5 bits each; slower, and no adapters. "float8"
                computes their products in 8 bits, on a GPU of compute capability 8.9 or newer; no adapters either.
            cache: "int8" stores keys and values of earlier scales in 8 bits each: less memory per picture.
            watermark: Watermark of all pictures; None for none.
            text_device: Device of the text encoder, such as "cpu" beside a small GPU; None is that of the model.
            release_text: Whether the text encoder is in memory only while it encodes the prompts of a call.
            offload: Whether the blocks' weights lie in the memory of the CPU, and go to the device layer by layer, once
                per scale: for a GPU that cannot hold them. Pictures are the same.
            memory_gb: Working memory of a pass in GB (10^9 bytes); None is what the device has free.

        Raises:
            CheckpointError: The folder is damaged, or its parts do not belong together.
            ValueError: There is no model, no such device or data type, or the hub cannot be reached.
        """
        about: dict[str, Any] = {
            "text_device": text_device,
            "release_text": release_text,
            "offload": offload,
            "memory_gb": memory_gb,
        }
        forms: dict[str, Any] = {"quantized": quantize, "cache": cache, "placement": ModelPlacement(**about)}
        bfloat16, device = is_bfloat16(dtype), best_device() if device is None else device
        model = place_text("model", model)
        place = fetch_model(model, revision=revision) if is_hub_name(model) else model
        folder = model_folder(storage.absolute(place))
        pipeline = Pipeline.load(folder, device, bfloat16=bfloat16, compiled=compiled, graphs=graphs, **forms)
        pipe = cls(pipeline, folder)
        pipe.watermark = watermark
        return pipe

    def to(self, device: str | torch.device) -> Self:
        """Move the model to another device, in the data type in which it was loaded; return the pipeline itself.

        The text encoder stays where it was loaded; its features are moved.

        Raises:
            ValueError: This machine has no such device, or the device no float8.
        """
        if self.pipeline.placement.offload:
            raise ValueError("to: a model with offloaded weights stays where it is; load it again")
        name = check_device(str(device))
        if self.pipeline.quantized == "float8":
            check_float8(torch.device(name))
        with self._changing("device"):
            loaded = self._stack.loaded
            self._stack.set([])
            transformer, tokenizer = self.pipeline.transformer.to(name), self.pipeline.tokenizer.to(name)
            self.pipeline = replace(self.pipeline, transformer=transformer, tokenizer=tokenizer)
            self._stack.set(loaded)
        return self

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        height: int | None = None,
        width: int | None = None,
        aspect_ratio: float | None = None,
        num_images_per_prompt: int = 1,
        negative_prompt: str | None = None,
        guidance_scale: float | tuple[float, ...] | PyramidGuidance = 3.0,
        temperature: float | tuple[float, ...] = 1.0,
        top_p: float = 0.97,
        seed: int | Sequence[int] | None = 0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int = 8,
        output_type: OutputType = "pil",
        progress: Callable[[float], None] | None = None,
        callback_on_scale: OnPreview | None = None,
        pruned: float | Sequence[float] = (),
        cache_share: float | Sequence[float] = 1.0,
        adapters: Sequence[Sequence[tuple[Adapter | str, float]]] | None = None,
    ) -> PipelineResult:
        """Draw pictures for prompts.

        Args:
            prompt: One text, or several.
            height: Height in pixels, only with ``width``: the nearest of the model's shapes is drawn, of fixed area.
            width: Width in pixels, only with ``height``.
            aspect_ratio: Height / width, instead of ``height`` and ``width``; 1.0 where nothing is given.
            num_images_per_prompt: Pictures per prompt, with consecutive seeds.
            negative_prompt: Text to steer away from; None is the learned unconditional condition.
            guidance_scale: Strength of classifier-free guidance; 1 is none. One number, one per scale, or a pyramid.
            temperature: Divides the logits; above 0. Lower is less varied. One number, or one per scale.
            top_p: Top-p (nucleus) sampling: a bit keeps the smallest set of values with this probability, in (0, 1].
            seed: Seed of the first picture of every prompt, whose next ones follow; or one seed per picture.
            generator: Source of the seeds instead of ``seed``, or one per picture; the result says what they gave.
            batch_size: Most pictures per pass, fewer where memory is short; it changes no picture.
            output_type: "pil" (``PIL.Image``), "np" (B, H, W, 3) or "pt" (B, 3, H, W); RGB, 8 bits per channel.
            progress: Called with the fraction done, from 0 to 1.
            callback_on_scale: Called after every scale of every batch; its argument decodes a preview if asked.
            pruned: Share of tokens that the last scales leave out, from 0 to below 1; one number is the last scale's.
            cache_share: Share of earlier tokens whose keys and values blocks keep, above 0 to 1; or one per block.
            adapters: One list of adapters with their scales for each prompt, instead of the loaded adapters.

        Raises:
            AdapterError: An adapter is damaged, or of another model.
            ValueError: An argument is out of range; the message names it.
        """
        count = picture_count("num_images_per_prompt", num_images_per_prompt)
        ratio = aspect_ratio_of(height, width, aspect_ratio)
        sampling = sampling_config(guidance_scale, temperature, top_p, negative_prompt, pruned, cache_share)
        wanted = [text for text in prompt_list(prompt) for _ in range(count)]
        seeds = picture_seeds(wanted, seed, generator)
        how: dict[str, Any] = {"batch_size": batch_size, "output_type": output_type, "progress": progress}
        on_scale = self._previews(callback_on_scale)
        if adapters is None:
            return self.draw(wanted, seeds, sampling, ratio, steering=PictureSteering(on_scale=on_scale), **how)
        if on_scale is not None:
            raise ValueError("callback_on_scale: pictures with adapters of their own have no previews; leave one out")
        return self.draw_each(wanted, seeds, _of_each_picture(adapters, wanted, count), sampling, ratio, **how)

    def save_pretrained(self, folder: str) -> str:
        """Copy the model folder to another place, a local path or an ``s3://`` URI, and return its URI.

        Loaded adapters are not part of the copy; ``infinity adapter merge`` writes a merged model. A model that was at
        the place is replaced.

        Raises:
            ValueError: The pipeline was not loaded from a folder, the folder does not hold the loaded model any more,
                or the place lies inside it.
            StorageError: The place cannot be written.
        """
        if not self.model:
            raise ValueError("save_pretrained: this pipeline was not loaded from a model folder")
        target = storage.absolute(place_text("folder", folder))
        if storage.inside([self.model])(target):
            raise ValueError(f"save_pretrained: {target} lies in the model's own folder; expected another place")
        marker = storage.join(self.model, MARKER_FILE)
        if not storage.exists(marker) or storage.read_text(marker).strip() != self.pipeline.digest:
            raise ValueError(
                f"save_pretrained: {self.model} does not hold the model {self.pipeline.digest} any more; expected the "
                "folder as it was loaded"
            )
        # The markers come last, since they declare a folder complete.
        for file in sorted(storage.list_files(self.model), key=lambda name: name.endswith(MARKER_FILE)):
            inner = file.removeprefix(self.model).lstrip("/")
            place = storage.join(target, inner)
            with storage.local_copy(file) as source, source.open("rb") as data, storage.create(place) as copy:
                shutil.copyfileobj(data, copy, _PIECE_BYTES)
        return target

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Upload the model folder to a hub as the repository ``owner/model``, and return its address.

        Raises:
            ValueError: The pipeline was not loaded from a folder, or the hub refused or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            return upload_model(Path(self.save_pretrained(folder)), name, private=private)


def _of_each_picture(adapters: Sequence[_T], wanted: Sequence[str], count: int) -> list[_T]:
    """Return what is given for each prompt, for each of its pictures."""
    if not isinstance(adapters, Sequence) or len(adapters) * count != len(wanted):
        raise ValueError(f"adapters: expected one list of pairs for each of {len(wanted) // count} prompts")
    return [pairs for pairs in adapters for _ in range(count)]
