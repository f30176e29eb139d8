"""Text to pictures in three lines, with the argument names of diffusers where they mean the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from infinity import storage
from infinity.bits import BitLabels
from infinity.checkpoint import MARKER_FILE
from infinity.generation.model_folder import model_folder
from infinity.generation.pipeline import Pipeline
from infinity.generation.sampling import SamplingConfig
from infinity.scales import nearest_aspect_ratio

OutputType = Literal["pil", "np", "pt"]
Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
Images = list[Image.Image] | UInt8[np.ndarray, "B H W 3"] | UInt8[Tensor, "B 3 H W"]


@dataclass(frozen=True, slots=True, eq=False)
class PipelineResult:
    """Pictures and what is needed to draw them again.

    Attributes:
        images: Pictures in the order of the prompts; those of one prompt are neighbours.
        prompts: Prompt of each picture.
        seeds: Seed of each picture.
        bits: Bit labels of all pictures; the tokenizer decodes them to the same pixels.
        sampling: Guidance, temperature and top-p of the pictures.
        aspect_ratio: Height / width of the pictures.
    """

    images: Images
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    bits: BitLabels
    sampling: SamplingConfig
    aspect_ratio: float


class InfinityPipeline:
    """A loaded text-to-image model.

    A picture is a pure function of prompt, seed, size and settings: the same alone, in any batch and in any process on
    the same kind of processor (decision 11).

    Example::

        from infinity import InfinityPipeline

        pipe = InfinityPipeline.from_pretrained("runs/demo")
        pipe("a photo of a red circle").images[0].save("circle.png")
    """

    def __init__(self, pipeline: Pipeline, model: str = "") -> None:
        """Wrap a loaded model folder; ``from_pretrained`` is the usual way.

        Args:
            pipeline: Transformer, tokenizer and text encoder.
            model: URI of the model folder, for ``save_pretrained``.
        """
        self.pipeline, self.model = pipeline, model

    @classmethod
    def from_pretrained(cls, model: str, *, device: str | None = None, dtype: Dtype = "auto") -> Self:
        """Load a model.

        Args:
            model: A model folder, or the folder of a run, which stands for the last model that it trained. A local path
                or an ``s3://`` URI.
            device: Device, such as "cpu" or "cuda:0"; None takes a GPU if there is one.
            dtype: Data type of matrix products and convolutions; "auto" is bfloat16 on a GPU and float32 on a CPU.

        Raises:
            CheckpointError: The folder is damaged, or its parts do not belong together.
            ValueError: There is no model, or no such device or data type.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r:.80}")
        folder = model_folder(storage.absolute(model))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(Pipeline.load(folder, device, bfloat16=None if dtype == "auto" else dtype == "bfloat16"), folder)

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""
        return self.pipeline.transformer.start.device

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        height: int | None = None,
        width: int | None = None,
        aspect_ratio: float | None = None,
        num_images_per_prompt: int = 1,
        negative_prompt: str | None = None,
        guidance_scale: float = 3.0,
        temperature: float = 1.0,
        top_p: float = 0.97,
        seed: int | Sequence[int] = 0,
        batch_size: int = 8,
        output_type: OutputType = "pil",
        progress: Callable[[float], None] | None = None,
    ) -> PipelineResult:
        """Draw pictures for prompts.

        Args:
            prompt: One text, or several.
            height: Height in pixels, only with ``width``: their ratio chooses the nearest of the model's shapes, whose
                area is fixed by the training.
            width: Width in pixels, only with ``height``.
            aspect_ratio: Height / width, instead of ``height`` and ``width``; 1.0 where nothing is given.
            num_images_per_prompt: Pictures per prompt, with consecutive seeds.
            negative_prompt: Text to steer away from; None is the learned unconditional condition.
            guidance_scale: Strength of classifier-free guidance; 1 is none.
            temperature: Divides the logits; above 0. Lower is less varied.
            top_p: Top-p (nucleus) sampling: a bit keeps the smallest set of values with this probability, in (0, 1].
            seed: Seed of the first picture of every prompt, or one seed per picture. A repeated prompt continues with
                the next seeds.
            batch_size: Most pictures per pass, fewer where memory is short; it changes no picture.
            output_type: "pil" for a list of ``PIL.Image``, "np" for an array (B, H, W, 3), "pt" for a tensor
                (B, 3, H, W); 8 bits per channel, RGB.
            progress: Called with the fraction done, from 0 to 1.

        Raises:
            ValueError: An argument is out of range; the message names it.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if num_images_per_prompt < 1:
            raise ValueError(f"num_images_per_prompt: expected at least 1, got {num_images_per_prompt}")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type: expected pil, np or pt, got {output_type!r}")
        ratio = _aspect_ratio(height, width, aspect_ratio)
        sampling = SamplingConfig(
            guidance=float(guidance_scale), temperature=temperature, nucleus=top_p, negative_prompt=negative_prompt
        )
        wanted = [text for text in prompts for _ in range(num_images_per_prompt)]
        seeds = _seeds(wanted, seed)
        generated = self.pipeline.generate(
            wanted, aspect_ratio=ratio, sampling=sampling, seeds=seeds, batch_size=batch_size, progress=progress
        )
        images = _as(output_type, generated.images_BHW3)
        return PipelineResult(images, tuple(wanted), tuple(seeds), generated.labels, sampling, ratio)

    def save_pretrained(self, folder: str) -> str:
        """Copy the model folder to another place, a local path or an ``s3://`` URI, and return its URI.

        Raises:
            ValueError: The pipeline was not loaded from a folder.
            StorageError: The place cannot be written.
        """
        if not self.model:
            raise ValueError("save_pretrained: this pipeline was not loaded from a model folder")
        target = storage.absolute(folder)
        # The markers come last, since they declare a folder complete.
        for file in sorted(storage.list_files(self.model), key=lambda name: name.endswith(MARKER_FILE)):
            inner = file.removeprefix(self.model).lstrip("/")
            storage.write_bytes(storage.join(target, inner), storage.read_bytes(file))
        return target


def _aspect_ratio(height: int | None, width: int | None, ratio: float | None) -> float:
    if (height is None) != (width is None):
        raise ValueError(f"height and width: expected both or neither, got {height} and {width}")
    if height is not None and width is not None:
        if ratio is not None:
            raise ValueError("aspect_ratio: expected either height and width or a ratio, got both")
        if height < 1 or width < 1:
            raise ValueError(f"height and width: expected at least 1 pixel, got {height} and {width}")
        return nearest_aspect_ratio(height, width)
    return nearest_aspect_ratio(1.0 if ratio is None else ratio, 1.0)


def _seeds(prompts: Sequence[str], seed: int | Sequence[int]) -> list[int]:
    """Return one seed per picture; a repeated prompt continues with the next seeds."""
    if not isinstance(seed, int):
        if len(seed) != len(prompts):
            raise ValueError(f"seed: expected one number or {len(prompts)}, one per picture, got {len(seed)}")
        return list(seed)
    counts: Counter[str] = Counter()
    found = []
    for prompt in prompts:
        found.append(seed + counts[prompt])
        counts[prompt] += 1
    return found


def _as(output_type: OutputType, images: UInt8[Tensor, "B H W 3"]) -> Images:
    if output_type == "pt":
        return images.permute(0, 3, 1, 2)
    pixels = images.cpu().numpy()
    return pixels if output_type == "np" else [Image.fromarray(picture) for picture in pixels]
