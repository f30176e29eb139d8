"""Search at drawing time: draw several candidates of a prompt, and keep the one that a scorer likes best.

The search only chooses a seed. Its picture is the plain picture of that seed, so every door draws it again, and no file
needs to know of the search. Candidates that are compared early are drawn to a scale and scored by its preview; those
that are kept are drawn anew to the end, with the same bits, since a picture owns its random numbers (decision 11).

With shared scales, the candidates after the first keep the first scales of the first one, which are computed once for
all of them. Such a candidate is a variation of the first picture: its file holds the bits that it keeps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from infinity.config import Config
from infinity.generation.drawing.arguments import real_number, whole_number
from infinity.generation.drawing.drawer import Drawer
from infinity.generation.drawing.results import PipelineResult, ScalePreview
from infinity.generation.editing.edits import variation
from infinity.generation.editing.sources import PictureBits
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import PictureSteering, ScaleDone
from infinity.strict_json import MAX_WHOLE_NUMBER

Picture = UInt8[np.ndarray, "H W 3"]
PictureScorer = Callable[[Sequence[Picture], Sequence[str]], Sequence[float] | Float[np.ndarray, " n"]]
"""Function from pictures and their captions to one number each, larger for better; every scorer of the data stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig(Config):
    """How many candidates are drawn, and when they are compared.

    Attributes:
        candidates: Candidates per picture, with consecutive seeds.
        look_after: Number of scales after which previews are compared; None compares finished pictures alone.
        kept: Candidates that are drawn to the end after this look.
        shared_scales: Number of first scales that all candidates share; 0 draws each for itself.
    """

    candidates: int = 4
    look_after: int | None = None
    kept: int = 1
    shared_scales: int = 0

    def __post_init__(self) -> None:
        if self.candidates < 1 or not 1 <= self.kept <= self.candidates:
            raise ValueError(
                f"search: expected at least 1 candidate, and 1 to {self.candidates} kept, got {self.candidates} and "
                f"{self.kept}"
            )
        if self.look_after is not None and self.look_after < 1:
            raise ValueError(f"search: expected look_after of at least 1 scale, got {self.look_after}")
        if self.shared_scales < 0 or (self.shared_scales and self.look_after is not None):
            raise ValueError(
                f"search: expected shared_scales of at least 0, and 0 with look_after, got {self.shared_scales}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Best picture of a search.

    Attributes:
        best: Picture of the best seed, as the pipeline draws it, or as it varies the first one.
        score: Score of this picture.
        seeds: Seeds of the finished candidates, best first.
        scores: Their scores.
    """

    best: PipelineResult
    score: float
    seeds: tuple[int, ...]
    scores: tuple[float, ...]


def search(
    drawer: Drawer,
    prompt: str,
    scorer: PictureScorer,
    config: SearchConfig | None = None,
    *,
    sampling: SamplingConfig | None = None,
    aspect_ratio: float = 1.0,
    seed: int = 0,
    batch_size: int = 8,
) -> SearchResult:
    """Draw candidates of a prompt and return the best; among equal scores the first seed wins.

    Args:
        drawer: Loaded model, such as an ``InfinityPipeline``.
        prompt: Text of the picture.
        scorer: Function that scores pictures for captions.
        config: Number of candidates and when they are compared; None for the defaults.
        sampling: Guidance, temperature and top-p; None for the defaults. Greedy candidates would all be equal.
        aspect_ratio: Height / width of the picture.
        seed: Seed of the first candidate.
        batch_size: Most candidates per pass.

    Raises:
        ValueError: The sampling is greedy, the look comes after the last scale, all scales are shared, or the scorer
            returns other than one finite number per picture.
    """
    config, sampling = config or SearchConfig(), sampling or SamplingConfig()
    if not isinstance(config, SearchConfig) or not callable(scorer):
        found = f"{type(config).__name__} and {type(scorer).__name__}"  # type: ignore[unreachable]
        raise ValueError(f"search: expected a SearchConfig and a function as scorer, got {found}")
    aspect_ratio, batch_size = real_number("aspect_ratio", aspect_ratio), whole_number("batch_size", batch_size)
    seed = whole_number("seed", seed, -MAX_WHOLE_NUMBER)
    if sampling.greedy and config.candidates > 1:
        raise ValueError("search: greedy candidates are all equal; expected sampling, or 1 candidate")
    seeds = list(range(seed, seed + config.candidates))
    if config.look_after is not None:
        scales = drawer.pipeline.config.resolution.schedule(aspect_ratio).num_scales
        if config.look_after >= scales:
            raise ValueError(f"search: expected look_after below the {scales} scales, got {config.look_after}")
        previews = _previews(drawer, prompt, seeds, sampling, aspect_ratio, config.look_after, batch_size)
        seeds = [seeds[i] for i in _order(_scored(scorer, previews, prompt))[: config.kept]]
        seeds.sort()
    first = len(seeds) if config.shared_scales == 0 else 1
    found = drawer.draw(
        [prompt] * first, seeds[:first], sampling, aspect_ratio, batch_size=batch_size, output_type="np"
    )
    each = [found.one(i) for i in range(first)]
    if first < len(seeds):
        source = PictureBits(found.bits.to("cpu"), torch.from_numpy(found.pixels()[0]), aspect_ratio)
        branches = drawer.draw_edit(
            variation(source, config.shared_scales), prompt, seeds[1:], sampling, "np", batch_size=batch_size
        )
        each += [branches.one(i) for i in range(len(seeds) - 1)]
    scores = _scored(scorer, [one.pixels()[0] for one in each], prompt)
    order = _order(scores)
    return SearchResult(
        each[order[0]], scores[order[0]], tuple(seeds[i] for i in order), tuple(scores[i] for i in order)
    )


class _Enough(Exception):
    """Ends a pass whose further scales nobody needs."""


def _previews(
    drawer: Drawer,
    prompt: str,
    seeds: Sequence[int],
    sampling: SamplingConfig,
    aspect_ratio: float,
    scales: int,
    batch_size: int,
) -> list[Picture]:
    """Return the pictures after some scales; the scales that follow are not computed."""
    found: list[Picture] = []

    def on_scale(rows: slice, done: ScaleDone) -> None:
        if done.scale == scales - 1:
            numbers = range(rows.start, rows.stop)
            preview = ScalePreview(numbers, done.scale, done.num_scales, done, drawer.pipeline.tokenizer)
            found.extend(np.asarray(image) for image in preview.images())
            raise _Enough

    while len(found) < len(seeds):  # a pass may be smaller than asked for, where memory is short
        some = seeds[len(found) : len(found) + batch_size]
        with contextlib.suppress(_Enough):
            drawer.draw(
                [prompt] * len(some),
                some,
                sampling,
                aspect_ratio,
                steering=PictureSteering(on_scale=on_scale),
                batch_size=batch_size,
            )
    return found


def _scored(scorer: PictureScorer, pictures: Sequence[Picture], prompt: str) -> list[float]:
    given = scorer(pictures, [prompt] * len(pictures))
    try:
        scores = [float(each) for each in given]
    except (TypeError, ValueError):
        scores = []
    if len(scores) != len(pictures) or not np.isfinite(scores).all():
        raise ValueError(f"search: expected one finite number per picture of the scorer, got {given!s:.80}")
    return scores


def _order(scores: Sequence[float]) -> list[int]:
    """Return the numbers of the candidates, best first; equal ones in the order of their seeds."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))
