"""How well the tokenizer alone reconstructs pictures: PSNR, SSIM, LPIPS, and pairs to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import compose_sheet
from infinity.data.loading.batches import load_images
from infinity.evaluation.benchmark import (
    BenchmarkResult,
    EvalContext,
    EvalTarget,
    Picture,
    RowBatch,
    SheetImage,
    batches,
    magnification,
    picture_ids,
    spread,
)
from infinity.evaluation.mean_state import MeanState
from infinity.evaluation.model import loaded_pipeline
from infinity.evaluation.reconstruction.image_quality import PROTOCOL, WINDOW_PX, psnr_db, ssim
from infinity.evaluation.score import Score
from infinity.perception.lpips import LpipsConfig, load_lpips
from infinity.ranges import Count, Natural
from infinity.scales import ScaleSchedule
from infinity.tokenizer import Tokenizer
from infinity.tokenizer.pixels import to_images, to_pixels

Pictures = UInt8[np.ndarray, "B H W 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionBenchmark(Config):
    """PSNR, SSIM and LPIPS of pictures that were encoded to all bits and decoded again.

    Args:
        num_pictures: Number of pictures, spread over the split; None takes all.
        lpips: Weights of LPIPS; None does not measure it.
        num_shown: Number of pairs on the sheet of examples, and on the sheet of the worst pairs.
    """

    num_pictures: Count | None = 256
    lpips: LpipsConfig | None = None
    num_shown: Natural = 8

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[ReconstructionPart, ...]:
        """Return one part per batch of rows."""
        rows = spread(manifest, target.split, self.num_pictures)
        places = np.arange(min(self.num_shown, len(rows))) * len(rows) // max(1, min(self.num_shown, len(rows)))
        shown = frozenset(rows[int(place)] for place in places)
        return tuple(
            ReconstructionPart(
                batch=batch,
                shown=tuple(row for row in batch.rows if row in shown),
                num_worst=self.num_shown,
                lpips=self.lpips,
            )
            for batch in batches(manifest, rows, target.batch_size)
        )

    def summarize(self, state: ReconstructionState) -> BenchmarkResult:
        """Return ``reconstruction.psnr_db``, ``.ssim`` and ``.lpips``; sheets "reconstructions" and "worst"."""
        scores = (
            state.psnr.score("reconstruction.psnr_db", "dB", protocol=PROTOCOL),
            _score_of(state.ssim, "reconstruction.ssim", PROTOCOL, state.psnr.count, f"below {WINDOW_PX} px a side"),
            *self._lpips(state),
        )
        sheets = {}
        if state.shown:
            sheets["reconstructions"] = _sheet(state.shown, "Original | reconstruction")
        if state.worst:
            lowest = f"{state.worst[0].psnr_db:.1f} to {state.worst[-1].psnr_db:.1f} dB"
            sheets["worst"] = _sheet(state.worst, f"Original | reconstruction, the worst: {lowest}")
        items = {"reconstruction.psnr_db": dict(state.items)}
        if state.lpips_items:
            items["reconstruction.lpips"] = dict(state.lpips_items)
        return BenchmarkResult(scores=scores, sheets=sheets, items=items)

    def _lpips(self, state: ReconstructionState) -> Iterator[Score]:
        if self.lpips is not None:
            small = "too small for its trunk"
            yield _score_of(state.lpips, "reconstruction.lpips", self.lpips.protocol, state.psnr.count, small)


def _score_of(state: MeanState, metric: str, protocol: str, wanted: int, reason: str) -> Score:
    """Return the mean as a score, with a note where pictures are missing from it."""
    note = "" if state.count == wanted else f"{wanted - state.count} of {wanted} pictures left out: {reason}"
    return state.score(metric, "", protocol=protocol, note=note)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A picture, its reconstruction, and the PSNR between them."""

    row: int
    psnr_db: float
    original: Picture
    reconstruction: Picture


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructionState:
    """Sums over pictures, pairs to show, the worst pairs in order, and the PSNR of every picture by its id."""

    psnr: MeanState
    ssim: MeanState
    shown: tuple[Pair, ...]
    worst: tuple[Pair, ...]
    num_worst: int
    items: tuple[tuple[str, float], ...] = ()
    lpips: MeanState = field(default_factory=MeanState)
    lpips_items: tuple[tuple[str, float], ...] = ()

    def __add__(self, other: ReconstructionState) -> ReconstructionState:
        num_worst = max(self.num_worst, other.num_worst)
        return ReconstructionState(
            psnr=self.psnr + other.psnr,
            ssim=self.ssim + other.ssim,
            shown=self.shown + other.shown,
            worst=_worst((*self.worst, *other.worst), num_worst),
            num_worst=num_worst,
            items=self.items + other.items,
            lpips=self.lpips + other.lpips,
            lpips_items=self.lpips_items + other.lpips_items,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionPart:
    """Work on a batch of rows; the pairs of the rows ``shown`` are kept."""

    batch: RowBatch
    shown: tuple[int, ...]
    num_worst: int
    lpips: LpipsConfig | None = None

    @property
    def num_pictures(self) -> int:
        """Number of pictures that are encoded and decoded."""
        return len(self.batch.rows)

    def compute(self, context: EvalContext) -> ReconstructionState:
        """Reconstruct the pictures and compare."""
        pipeline = loaded_pipeline(context)
        schedule = pipeline.config.resolution.schedule(self.batch.aspect_ratio)
        size_px = schedule.image_size_px(pipeline.tokenizer.config.stride_px)
        originals = load_images(context.manifest, self.batch.rows, size_px)
        decoded = reconstruct(pipeline.tokenizer, originals, schedule)
        values = psnr_db(originals, decoded)
        ids = picture_ids(context.manifest, self.batch.rows)
        distances = self._distances(context, originals, decoded)
        pairs = tuple(map(Pair, self.batch.rows, values.tolist(), originals, decoded))
        return ReconstructionState(
            psnr=MeanState.of(values),
            ssim=MeanState.of(ssim(originals, decoded)) if min(size_px) >= WINDOW_PX else MeanState(),
            shown=tuple(pair for pair in pairs if pair.row in self.shown),
            worst=_worst(pairs, self.num_worst),
            num_worst=self.num_worst,
            items=tuple(zip(ids, values.tolist(), strict=True)),
            lpips=MeanState.of(distances),
            lpips_items=tuple(zip(ids, distances, strict=True)) if distances else (),
        )

    @torch.inference_mode()
    def _distances(self, context: EvalContext, originals: Pictures, decoded: Pictures) -> list[float]:
        """Return LPIPS of every pair; empty where it is not wanted or the pictures are too small."""
        if self.lpips is None:
            return []
        network = context.networks.get(self.lpips, load_lpips)
        if min(originals.shape[1:3]) < network.least_px:
            return []
        pixels = (
            to_pixels(torch.from_numpy(each), torch.device(context.target.device)) for each in (originals, decoded)
        )
        return [float(value) for value in network(*pixels).double()]


def reconstruct(
    tokenizer: Tokenizer, images: UInt8[np.ndarray, "B H W 3"], schedule: ScaleSchedule
) -> UInt8[np.ndarray, "B H W 3"]:
    """Return pictures that were encoded to the bits of all scales and decoded again, rounded to 8 bits."""
    device = next(tokenizer.parameters()).device
    pixels = tokenizer.reconstruct(to_pixels(torch.from_numpy(images), device), schedule)
    return np.asarray(to_images(pixels).numpy())


def _worst(pairs: tuple[Pair, ...], number: int) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: (pair.psnr_db, pair.row))[:number])


def _sheet(pairs: tuple[Pair, ...], title: str) -> SheetImage:
    pictures = [picture for pair in pairs for picture in (pair.original, pair.reconstruction)]
    return SheetImage(png=compose_sheet(pictures, 8, enlarge=magnification(pictures[0])), title=title)
