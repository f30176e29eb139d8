"""Edits of pictures in bits: inpainting, outpainting, variations, and two prompts in one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from infinity.generation.drawing.arguments import (
    aspect_ratio_of,
    one_seed_each,
    real_number,
    sampling_config,
    whole_number,
)
from infinity.generation.drawing.drawer import Drawer
from infinity.generation.drawing.own_pictures import source_of_image
from infinity.generation.drawing.results import OnPreview, OutputType, PipelineResult
from infinity.generation.editing.edits import Edit, inpainting, variation
from infinity.generation.editing.masks import COVERED, Mask
from infinity.generation.editing.sources import PictureBits, bits_of_image, decoded_bits, on_canvas
from infinity.generation.pipeline import prompt_list
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import PictureSteering

Source = Image.Image | PipelineResult
"""Picture to edit: any picture, or the result of a call with one picture, whose bits are known exactly."""


class Editor(Drawer):
    """A loaded model that edits pictures."""

    def edit(
        self,
        image: Source,
        mask: Mask,
        prompt: str,
        *,
        num_images: int = 1,
        negative_prompt: str | None = None,
        guidance_scale: float = 3.0,
        temperature: float = 1.0,
        top_p: float = 0.97,
        seed: int | Sequence[int] = 0,
        covered: float = COVERED,
        output_type: OutputType = "pil",
        callback_on_scale: OnPreview | None = None,
    ) -> PipelineResult:
        """Draw a part of a picture again (inpainting, or another prompt inside a mask).

        Tokens outside the mask keep their bits exactly; pixels beyond the reach of the decoder's convolutions from a
        changed position are equal.

        Args:
            image: Picture to edit, or the result of a call that drew one picture.
            mask: Pixels to draw again: white or True; of any size.
            prompt: Text of the new picture.
            num_images: Pictures with consecutive seeds.
            negative_prompt: Text to steer away from.
            guidance_scale: Strength of classifier-free guidance; 1 is none.
            temperature: Divides the logits.
            top_p: Top-p (nucleus) sampling.
            seed: Seed of the first picture, or one per picture.
            covered: Share of a token's area that the mask must cover so that the token is drawn again.
            output_type: Form of the pictures, as in the call.
            callback_on_scale: Called after every scale.

        Raises:
            ValueError: The mask covers no token, or an argument is out of range.
        """
        sampling = sampling_config(guidance_scale, temperature, top_p, negative_prompt)
        edit = inpainting(self.source(image), mask, covered=real_number("covered", covered))
        seeds = one_seed_each(num_images, seed)
        return self.draw_edit(edit, prompt, seeds, sampling, output_type, self._previews(callback_on_scale))

    def outpaint(
        self,
        image: Image.Image,
        prompt: str,
        aspect_ratio: float,
        *,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
    ) -> PipelineResult:
        """Draw what lies outside a picture, on a canvas of another shape.

        Args:
            image: Picture, which comes to lie in the middle.
            prompt: Text of the whole picture.
            aspect_ratio: Height / width of the canvas.
            seed: Seed of the picture.
            sampling: Guidance, temperature and top-p; None for the defaults.

        Raises:
            ValueError: The picture has this shape already.
        """
        return self.draw_edit(self.outpainting(image, aspect_ratio), prompt, [seed], sampling or SamplingConfig())

    def outpainting(self, image: Image.Image, aspect_ratio: float) -> Edit:
        """Return the edit that draws what lies outside a picture, on a canvas of another shape.

        Raises:
            ValueError: The picture has this shape already.
        """
        ratio = aspect_ratio_of(None, None, aspect_ratio)
        _check_picture(image)
        canvas, mask = on_canvas(image, ratio)
        source = bits_of_image(self.pipeline, canvas, ratio)
        try:
            return inpainting(source, mask)
        except ValueError as error:
            raise ValueError(
                f"aspect_ratio: the picture nearly has the shape {ratio:g} already, so that no token lies outside it; "
                "expected another shape"
            ) from error

    def vary(
        self,
        image: Source,
        prompt: str,
        *,
        keep_scales: int,
        num_images: int = 1,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
    ) -> PipelineResult:
        """Draw pictures that share the first scales of a picture.

        Args:
            image: Picture to vary, or the result of a call that drew one picture.
            prompt: Text of the new pictures.
            keep_scales: Number of first scales that keep their bits, at least 1.
            num_images: Pictures with consecutive seeds.
            seed: Seed of the first picture.
            sampling: Guidance, temperature and top-p; None for the defaults.

        Raises:
            ValueError: ``keep_scales`` is out of range.
        """
        edit = variation(self.source(image), whole_number("keep_scales", keep_scales))
        return self.draw_edit(edit, prompt, one_seed_each(num_images, seed), sampling or SamplingConfig())

    def blend(
        self,
        prompt: str,
        later_prompt: str,
        *,
        later_scale: int,
        num_images: int = 1,
        seed: int = 0,
        aspect_ratio: float = 1.0,
        sampling: SamplingConfig | None = None,
    ) -> PipelineResult:
        """Draw coarse scales for one prompt and finer ones for another.

        Args:
            prompt: Text of the first scales.
            later_prompt: Text from ``later_scale`` on.
            later_scale: First scale, from 0, of the later prompt.
            num_images: Pictures with consecutive seeds.
            seed: Seed of the first picture.
            aspect_ratio: Height / width.
            sampling: Guidance, temperature and top-p; None for the defaults.

        Raises:
            ValueError: The scale is out of range.
        """
        ratio = aspect_ratio_of(None, None, aspect_ratio)
        seeds = one_seed_each(num_images, seed)
        later, first = tuple(prompt_list([later_prompt] * len(seeds))), whole_number("later_scale", later_scale, 0)
        steering = PictureSteering(later_prompts=later, later_scale=first)
        return self.draw([prompt] * len(seeds), seeds, sampling or SamplingConfig(), ratio, steering=steering)

    def source(self, image: Source) -> PictureBits:
        """Return the bits of a picture that is to be edited, as they were drawn where this model drew it.

        Raises:
            ValueError: It is no picture, or a result that holds several, or is of a model with other bits.
        """
        if not isinstance(image, PipelineResult):
            _check_picture(image)
            return source_of_image(self, image)
        if image.bits.batch_size != 1:
            raise ValueError(f"image: expected a result with one picture, got {image.bits.batch_size}")
        return decoded_bits(self.pipeline, image.bits, image.aspect_ratio)


def _check_picture(image: object) -> None:
    if not isinstance(image, Image.Image):
        kind = type(image).__name__
        raise ValueError(
            f"image: expected a PIL picture or the result of a call, got {kind}; PIL's Image.open reads one"
        )
