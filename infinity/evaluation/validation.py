"""How well the transformer predicts bits that it was not trained on: loss and accuracy by scale (paper Fig. 10)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images
from infinity.evaluation.benchmark import (
    BenchmarkResult,
    EvalContext,
    EvalTarget,
    RowBatch,
    batches,
    picture_ids,
    spread,
)
from infinity.evaluation.mean_state import MeanState
from infinity.evaluation.model import loaded_pipeline
from infinity.generation.pipeline import Pipeline
from infinity.ranges import Count, Share
from infinity.scales import ScaleSchedule
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.self_correction import draw_flips, teacher_forcing
from infinity.transformer.loss import likeliest_bits, token_cross_entropy


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationBenchmark(Config):
    """Cross-entropy and accuracy of teacher-forced bits.

    Args:
        num_pictures: Number of pictures, spread over the split; None takes all.
        self_correction: Highest rate of wrong bits in the history, as in training; 0 keeps the history clean.
    """

    num_pictures: Count | None = 256
    self_correction: Share = 0.3

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[ValidationPart, ...]:
        """Return one part per batch of rows."""
        rows = spread(manifest, target.split, self.num_pictures)
        return tuple(
            ValidationPart(batch=batch, self_correction=self.self_correction)
            for batch in batches(manifest, rows, target.batch_size)
        )

    def summarize(self, state: ValidationState) -> BenchmarkResult:
        """Return ``validation.loss``, ``validation_loss.scale_<k>``, and mean and scales of both accuracies."""
        protocol = (
            f"validation/1: teacher forcing, self-correction noise up to {self.self_correction:g}, whole captions, "
            "tokens weighted equally, mean over pictures"
        )
        scores = [
            state.loss.score("validation.loss", "nats", protocol=protocol, note="per bit; chance is 0.693"),
            state.bits.score("bit_accuracy.mean", "share", protocol=protocol, note="chance is 0.5"),
            state.tokens.score("token_accuracy.mean", "share", protocol=protocol, note="all bits of a token right"),
        ]
        for name, unit, means in (
            ("validation_loss", "nats", state.loss_by_scale),
            ("bit_accuracy", "share", state.bits_by_scale),
            ("token_accuracy", "share", state.tokens_by_scale),
        ):
            scores += [mean.score(f"{name}.scale_{k}", unit, protocol=protocol) for k, mean in enumerate(means)]
        return BenchmarkResult(scores=tuple(scores), items={"validation.loss": dict(state.items)})


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationState:
    """Means over pictures, also by scale in the order of the scales; ``items`` are losses by picture id."""

    loss: MeanState
    bits: MeanState
    tokens: MeanState
    loss_by_scale: tuple[MeanState, ...]
    bits_by_scale: tuple[MeanState, ...]
    tokens_by_scale: tuple[MeanState, ...]
    items: tuple[tuple[str, float], ...] = ()

    def __add__(self, other: ValidationState) -> ValidationState:
        return ValidationState(
            loss=self.loss + other.loss,
            bits=self.bits + other.bits,
            tokens=self.tokens + other.tokens,
            loss_by_scale=_add(self.loss_by_scale, other.loss_by_scale),
            bits_by_scale=_add(self.bits_by_scale, other.bits_by_scale),
            tokens_by_scale=_add(self.tokens_by_scale, other.tokens_by_scale),
            items=self.items + other.items,
        )

    @classmethod
    def of(
        cls, logits: Tensor, bits_BLC: Bool[Tensor, "B L C"], schedule: ScaleSchedule, ids: Sequence[str] = ()
    ) -> ValidationState:
        """Return the state of one batch; logits of either head are accepted. Pictures without ids have no items."""
        right = likeliest_bits(logits, bits_BLC.shape[-1]) == bits_BLC
        bits_BL, tokens_BL = right.double().mean(dim=-1), right.all(dim=-1).double()
        losses_BL = token_cross_entropy(logits, bits_BLC)
        values = losses_BL.double().mean(dim=-1).tolist()
        return cls(
            items=tuple(zip(ids, values, strict=True)) if ids else (),
            loss=_mean(losses_BL),
            bits=_mean(bits_BL),
            tokens=_mean(tokens_BL),
            loss_by_scale=tuple(_mean(losses_BL[:, span]) for span in schedule.spans),
            bits_by_scale=tuple(_mean(bits_BL[:, span]) for span in schedule.spans),
            tokens_by_scale=tuple(_mean(tokens_BL[:, span]) for span in schedule.spans),
        )


def _mean(values_BL: Float[Tensor, "B L"]) -> MeanState:
    return MeanState.of(values_BL.double().mean(dim=-1).tolist())


def _add(a: tuple[MeanState, ...], b: tuple[MeanState, ...]) -> tuple[MeanState, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationPart:
    """Work on a batch of rows."""

    batch: RowBatch
    self_correction: float

    @property
    def num_pictures(self) -> int:
        """Number of pictures whose bits are predicted."""
        return len(self.batch.rows)

    @torch.no_grad()
    def compute(self, context: EvalContext) -> ValidationState:
        """Predict the bits of the pictures from their captions and coarser scales."""
        pipeline, rows = loaded_pipeline(context), self.batch.rows
        config, device = pipeline.tokenizer.config, pipeline.transformer.start.device
        schedule = pipeline.config.resolution.schedule(self.batch.aspect_ratio)
        images = load_images(context.manifest, rows, schedule.image_size_px(config.stride_px))
        features = pipeline.tokenizer.encode(to_pixels(torch.from_numpy(images), device))
        taught = teacher_forcing(
            features, schedule, kind=config.quantizer, fold=config.fold, flips=self._flips(pipeline, schedule, context)
        )
        text = pipeline.text_encoder.encode(context.manifest.captions(rows)).to(device)
        with pipeline.autocast():
            logits = pipeline.transformer(text, taught.inputs_BMC, schedule)
        return ValidationState.of(logits, taught.labels.bits_BLC, schedule, picture_ids(context.manifest, rows))

    def _flips(self, pipeline: Pipeline, schedule: ScaleSchedule, context: EvalContext) -> list[Tensor] | None:
        """Return wrong bits, drawn per picture, so that they do not depend on the batch."""
        if self.self_correction == 0:
            return None
        drawn = [
            draw_flips(
                schedule,
                batch_size=1,
                num_bits=pipeline.tokenizer.config.token_bits,
                max_rate=self.self_correction,
                generator=row_generator(context.target.seed, row),
            )
            for row in self.batch.rows
        ]
        device = pipeline.transformer.start.device
        return [torch.cat(masks).to(device) for masks in zip(*drawn, strict=True)]


def row_generator(seed: int, row: int) -> torch.Generator:
    """Return the random generator of one picture of the data set."""
    digest = hashlib.sha256(f"validation {seed} {row}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
