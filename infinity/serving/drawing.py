"""Compute batches of the server with a loaded model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.data.images.decoding import MAX_PIXELS
from infinity.generation.drawing.own_pictures import source_of
from infinity.generation.drawing.results import PipelineResult, ScalePreview
from infinity.generation.editing.edits import Edit, inpainting, variation
from infinity.generation.editing.masks import mask_of, transparent_pixels
from infinity.generation.files.picture_files import to_png
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import PictureSteering, ScaleDone
from infinity.scales import ScaleSchedule
from infinity.serving.batcher import QueuedPicture
from infinity.serving.inputs import PictureRequest
from infinity.serving.refusal import RefusedError
from infinity.serving.settings import ServingConfig
from infinity.transformer.adapters.lora_files import load_adapter

_MOST_EDIT_PIXELS = min(MAX_PIXELS, 16_000_000)


@dataclass(frozen=True, slots=True)
class OnePicture:
    """A picture of a request."""

    prompt: str
    seed: int
    request: PictureRequest


@dataclass(frozen=True, slots=True)
class DrawnFile:
    """A finished picture.

    Attributes:
        png: Bytes of the file, which holds its settings.
        size: Width and height in pixels.
        usage: Tokens of the prompt and of the picture, as OpenAI's API counts them.
    """

    png: bytes
    size: tuple[int, int]
    usage: Mapping[str, Any]


def batch_key(request: PictureRequest) -> tuple[Any, ...]:
    """Return what pictures of a batch have in common; an edit shares its batch with itself alone."""
    if request.image is not None:
        return ("edit", id(request))
    return (request.aspect_ratio or 1.0, request.sampling, request.adapters)


class DrawingRoom:
    """A loaded model with its adapters, used by one thread."""

    def __init__(self, config: ServingConfig) -> None:
        self.pipe = InfinityPipeline.from_pretrained(
            config.model,
            device=config.device,
            quantize=config.quantize,
            cache=config.cache,
            watermark=config.watermark(),
            text_device=config.text_device,
            offload=config.offload,
        )
        self.adapters = {
            name: dataclasses.replace(load_adapter(storage.absolute(place)), name=name)
            for name, place in config.adapters.items()
        }
        for adapter in self.adapters.values():
            self.pipe.set_adapters([(adapter, 1.0)])  # refuses one of another model now rather than at a request
        self.pipe.set_adapters([])

    def schedule(self, request: PictureRequest) -> ScaleSchedule:
        """Return the scales of a request's pictures; those of an edit are as many in every shape."""
        return self.pipe.pipeline.config.resolution.schedule(request.aspect_ratio or 1.0)

    def compute(self, batch: Sequence[QueuedPicture]) -> list[DrawnFile]:
        """Return a file for each picture; all have one key.

        Raises:
            RefusedError: The picture to edit or its mask cannot be read or used.
        """
        works = [waiting.work for waiting in batch]
        request: PictureRequest = works[0].request
        self.pipe.set_adapters((self.adapters[name], scale) for name, scale in request.adapters)
        if request.image is not None:
            result = self._edited(works, request, batch)
        else:
            result = self.pipe.draw(
                [work.prompt for work in works],
                [work.seed for work in works],
                request.sampling,
                request.aspect_ratio or 1.0,
                steering=PictureSteering(on_scale=self._telling(batch)),
                batch_size=len(works),
                output_type="np",
            )
        pairs = zip(result.pixels(), result.settings, strict=True)
        tokens, given = result.bits.schedule.num_tokens, request.image is not None
        return [
            DrawnFile(to_png(image, about), about.size, self._usage(about.prompt, tokens, given=given))
            for image, about in pairs
        ]

    def _usage(self, prompt: str, tokens: int, *, given: bool) -> dict[str, Any]:
        """Return the tokens of a picture, its prompt, and the picture that it edits, if one is given."""
        encoder = self.pipe.pipeline.text_encoder
        text, image = min(encoder.num_tokens(prompt), encoder.max_tokens), tokens if given else 0
        return {
            "input_tokens": text + image,
            "input_tokens_details": {"text_tokens": text, "image_tokens": image},
            "output_tokens": tokens,
            "total_tokens": text + image + tokens,
        }

    def warm_up(self) -> None:
        """Draw a picture, so that the first client does not wait for what is set up once."""
        self.pipe.draw(["warm-up"], [0], SamplingConfig(), output_type="np")

    def _edited(
        self, works: Sequence[OnePicture], request: PictureRequest, batch: Sequence[QueuedPicture]
    ) -> PipelineResult:
        edit = self._edit(request)
        seeds = [work.seed for work in works]
        return self.pipe.draw_edit(edit, request.prompt, seeds, request.sampling, "np", self._telling(batch))

    def _edit(self, request: PictureRequest) -> Edit:
        assert request.image is not None
        with _about("image"):
            source = source_of(self.pipe, request.image, where="image", max_pixels=_MOST_EDIT_PIXELS)
        if request.aspect_ratio not in (None, source.aspect_ratio):
            raise RefusedError("size: expected the shape of the picture, which an edit keeps, or auto", "size")
        if request.keep_scales is not None:
            with _about("keep_scales"):
                return variation(source, request.keep_scales)
        with _about("mask"):
            most = _MOST_EDIT_PIXELS
            mask = transparent_pixels(request.image, most) if request.mask is None else mask_of(request.mask, most)
            if mask is None:
                raise RefusedError("mask: expected a mask, keep_scales, or an image with transparent pixels", "mask")
            return inpainting(source, mask)

    def _telling(self, batch: Sequence[QueuedPicture]) -> Any:
        """Return a callback that decodes previews for the pictures that somebody watches; None where nobody does."""
        if not any(waiting.on_scale for waiting in batch):
            return None

        def on_scale(rows: slice, done: ScaleDone) -> None:
            preview = ScalePreview(
                range(rows.start, rows.stop), done.scale, done.num_scales, done, self.pipe.pipeline.tokenizer
            )
            images = preview.images()
            for waiting, image in zip(batch[rows], images, strict=True):
                if waiting.on_scale is not None and not waiting.is_cancelled:
                    waiting.on_scale(done.scale, done.num_scales, image)

        return on_scale


@contextmanager
def _about(field: str) -> Iterator[None]:
    """Refuse a request whose field cannot be used."""
    try:
        yield
    except ValueError as error:
        raise RefusedError(f"{field}: {str(error).removeprefix(f'{field}: ')}", field) from error
