"""What may steer the sampling of bits beside the prompt: bits taken over, a later prompt, and a look at every scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.bits import BitLabels
from infinity.generation.watermark.pattern import BitWatermark
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition


@dataclass(frozen=True, slots=True, eq=False)
class KeptBits:
    """Bits that pictures take over from other pictures instead of sampling them.

    Random numbers are drawn for all tokens all the same, so that a mask changes the meaning of no other number.

    Attributes:
        labels: Bits of the source pictures, B of them.
        kept_BL: Tokens whose bits are taken over.
        shared: Number of first scales that all pictures take over with the same bits, below the same caption; they are
            computed once for the batch.
    """

    labels: BitLabels
    kept_BL: Bool[Tensor, "B L"]
    shared: int = 0

    def __post_init__(self) -> None:
        expected = tuple(self.labels.bits_BLC.shape[:2])
        if tuple(self.kept_BL.shape) != expected or self.kept_BL.dtype != torch.bool:
            found = f"{tuple(self.kept_BL.shape)} of {self.kept_BL.dtype}"
            raise ValueError(f"KeptBits: expected a bool mask (pictures, tokens) {expected}, got {found}")

    def over(self, drawn_BMC: Bool[Tensor, "B M C"], span: slice) -> Bool[Tensor, "B M C"]:
        """Return the drawn bits of one scale with the kept tokens replaced, of the first pictures or of all."""
        rows, device = len(drawn_BMC), drawn_BMC.device
        kept = self.kept_BL[:rows, span].to(device).unsqueeze(-1)
        return torch.where(kept, self.labels.bits_BLC[:rows, span].to(device), drawn_BMC)

    def check(self, schedule: ScaleSchedule, batch_size: int, num_bits: int) -> None:
        """Refuse bits of other grids, of another number of pictures, or of another tokenizer.

        Raises:
            ValueError: The bits do not fit; the message says what was expected.
        """
        found = (self.labels.schedule.grids, self.labels.batch_size, self.labels.num_bits)
        if found != (schedule.grids, batch_size, num_bits):
            raise ValueError(
                f"kept bits: expected {batch_size} pictures of {num_bits} bits per token and grids {schedule.grids}, "
                f"got {found[1]} pictures of {found[2]} bits and grids {found[0]}"
            )


@dataclass(frozen=True, slots=True)
class LaterText:
    """Captions that replace the first ones from a scale on; the cached keys and values of earlier scales stay.

    Attributes:
        scale: First scale, from 0, that reads the later captions.
        text: Features of B captions, on the transformer's device.
    """

    scale: int
    text: TextCondition


@dataclass(frozen=True, slots=True, eq=False)
class ScaleDone:
    """A scale that has just been sampled.

    Attributes:
        scale: Number of the scale, from 0.
        num_scales: Number of scales of the schedule.
        summed_BCHW: Running sum of the codes, which the tokenizer decodes to a preview; it changes at the next scale.
    """

    scale: int
    num_scales: int
    summed_BCHW: Float[Tensor, "B C H W"]


OnScale = Callable[[ScaleDone], None]
"""Callback after every scale; an exception that it raises ends the sampling."""


@dataclass(frozen=True, slots=True, eq=False)
class Steering:
    """Everything that steers a batch beside its prompts; the default steers nothing.

    Attributes:
        kept: Bits taken over from other pictures.
        later: Captions from a later scale on.
        on_scale: Callback after every scale.
        watermark: Watermark towards which the bits lean.
    """

    kept: KeptBits | None = None
    later: LaterText | None = None
    on_scale: OnScale | None = None
    watermark: BitWatermark | None = None

    def check(self, schedule: ScaleSchedule, batch_size: int, num_bits: int) -> None:
        """Refuse what does not fit the batch.

        Raises:
            ValueError: Kept bits or later captions do not fit; the message says what was expected.
        """
        if self.kept is not None:
            self.kept.check(schedule, batch_size, num_bits)
        if self.later is not None and not 0 <= self.later.scale <= schedule.num_scales:
            raise ValueError(f"later prompt: expected a scale from 0 to {schedule.num_scales}, got {self.later.scale}")

    @property
    def shared_scales(self) -> int:
        """Number of first scales that are computed once for all pictures of the batch."""
        is_shared = self.kept is not None and self.later is None and self.kept.labels.batch_size > 1
        return self.kept.shared if self.kept is not None and is_shared else 0

    @property
    def is_plain(self) -> bool:
        """Whether nothing but callbacks steers the batch."""
        return self.kept is None and self.later is None and self.watermark is None

    def offsets(self, schedule: ScaleSchedule, num_bits: int, device: torch.device) -> Float[Tensor, "L C"] | None:
        """Return what the watermark adds to the logit of a 1 of every bit; None without a watermark."""
        return None if self.watermark is None else self.watermark.offsets(schedule, num_bits).to(device)

    def over(self, drawn_BMC: Bool[Tensor, "B M C"], span: slice) -> Bool[Tensor, "B M C"]:
        """Return the drawn bits of one scale with the kept tokens replaced, where there are any."""
        return drawn_BMC if self.kept is None else self.kept.over(drawn_BMC, span)


NOTHING = Steering()

OnPictures = Callable[[slice, ScaleDone], None]
"""Callback after every scale of a batch: the batch's pictures among all, and the scale."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureSteering:
    """What steers N pictures that are generated in batches.

    Attributes:
        kept: Bits taken over from N other pictures.
        later_prompts: N prompts from ``later_scale`` on; empty for none.
        later_scale: First scale, from 0, that reads the later prompts.
        on_scale: Callback after every scale of a batch.
        watermark: Watermark towards which all bits lean that are not taken over.
    """

    kept: KeptBits | None = None
    later_prompts: Sequence[str] = ()
    later_scale: int = 0
    on_scale: OnPictures | None = None
    watermark: BitWatermark | None = None

    def batch(self, rows: slice, encode: Callable[[Sequence[str]], TextCondition]) -> Steering:
        """Return the steering of some of the pictures.

        Args:
            encode: Function that returns the features of prompts on the transformer's device.
        """
        kept, on_scale = self.kept, self.on_scale
        return Steering(
            None if kept is None else KeptBits(kept.labels.select(rows), kept.kept_BL[rows], kept.shared),
            LaterText(self.later_scale, encode(self.later_prompts[rows])) if self.later_prompts else None,
            None if on_scale is None else lambda done: on_scale(rows, done),
            self.watermark,
        )
