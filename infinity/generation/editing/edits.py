"""The edits: which bits of a picture are kept, which prompts steer the others, and which pixels may differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from infinity.bits import BitLabels
from infinity.generation.device import own_defaults
from infinity.generation.editing.masks import COVERED, Mask, pixel_mask, reached_pixels, redrawn_tokens
from infinity.generation.editing.records import edit_record, recorded_bits
from infinity.generation.editing.sources import PictureBits, decoded_bits
from infinity.generation.files.picture_files import EditRecord
from infinity.generation.generate import Generated
from infinity.generation.pipeline import Pipeline
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import KeptBits, PictureSteering


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """An edit of one picture.

    Attributes:
        kept_L: Tokens that keep their bits.
    """

    source: PictureBits
    kept_L: Bool[Tensor, " L"]

    @property
    def record(self) -> EditRecord:
        """What the result's settings hold, so that it is drawn again without the source."""
        return edit_record(self.source.labels, self.kept_L)


@own_defaults()
def inpainting(source: PictureBits, mask: Mask, *, covered: float = COVERED) -> Edit:
    """Return the edit that draws the masked tokens again and keeps all others.

    Args:
        mask: Pixels to draw again, of any size.
        covered: Share of a token's area that the mask must cover.

    Raises:
        ValueError: The mask is no mask, or covers no token.
    """
    redrawn = redrawn_tokens(pixel_mask(mask, source.size_px), source.labels.schedule, covered=covered)
    return Edit(source, ~redrawn)


@own_defaults()
def variation(source: PictureBits, keep_scales: int) -> Edit:
    """Return the edit that keeps the first scales and draws the finer ones again.

    Raises:
        ValueError: No scale would be kept, or none drawn.
    """
    schedule = source.labels.schedule
    if not 1 <= keep_scales < schedule.num_scales:
        raise ValueError(f"keep_scales: expected 1 to {schedule.num_scales - 1}, got {keep_scales}")
    return Edit(source, torch.arange(schedule.num_tokens) < schedule.spans[keep_scales].start)


def recorded(pipeline: Pipeline, record: EditRecord, aspect_ratio: float) -> Edit:
    """Return the edit that a picture's settings describe.

    Raises:
        ValueError: The record is damaged, or of another model.
    """
    schedule = pipeline.config.resolution.schedule(aspect_ratio)
    labels, kept = recorded_bits(record, schedule, pipeline.transformer.config.num_bits)
    return Edit(decoded_bits(pipeline, labels, aspect_ratio), kept)


def draw_edit(
    pipeline: Pipeline,
    edit: Edit,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: SamplingConfig,
    *,
    batch_size: int = 8,
    steering: PictureSteering | None = None,
) -> Generated:
    """Draw an edit once per prompt and seed.

    Tokens that are kept have exactly the source's bits. Pixels that no convolution of the decoder connects with a
    changed position are those of the source; its group norms would change them slightly otherwise. ``steering`` may
    hold a callback and a watermark, which is in the redrawn tokens alone.

    Raises:
        ValueError: The source is one of another model.
    """
    count, source = len(prompts), edit.source
    labels = BitLabels(source.labels.schedule, source.labels.bits_BLC.expand(count, -1, -1))
    shared = _whole_scales(edit) if len(set(prompts)) == 1 else 0
    kept = KeptBits(labels, edit.kept_L.expand(count, -1), shared)
    drawn = pipeline.generate(
        prompts,
        aspect_ratio=source.aspect_ratio,
        sampling=sampling,
        seeds=seeds,
        batch_size=batch_size,
        steering=replace(steering or PictureSteering(), kept=kept),
    )
    images = torch.stack([with_source_pixels(pipeline, drawn, row, source) for row in range(count)])
    return Generated(images_BHW3=images, labels=drawn.labels)


def _whole_scales(edit: Edit) -> int:
    """Return the number of first scales that the edit keeps wholly, at most all but the last."""
    spans = edit.source.labels.schedule.spans[:-1]
    return next((k for k, span in enumerate(spans) if not bool(edit.kept_L[span].all())), len(spans))


@own_defaults()
@torch.no_grad()
def with_source_pixels(pipeline: Pipeline, drawn: Generated, row: int, source: PictureBits) -> UInt8[Tensor, "H W 3"]:
    """Return an edited picture with the source's pixels beyond the reach of the decoder's convolutions."""
    tokenizer, device = pipeline.tokenizer, pipeline.device
    one, other = (tokenizer.sum_codes(labels.to(device)) for labels in (drawn.labels.select([row]), source.labels))
    reached = reached_pixels(one - other, tokenizer.config, source.size_px).cpu()
    return torch.where(reached.unsqueeze(-1), drawn.images_BHW3[row], source.image_HW3)
