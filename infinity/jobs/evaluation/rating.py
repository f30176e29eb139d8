"""Make a human-preference study from finished evaluations, and score the files of its raters."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from infinity import storage
from infinity.config import Config, digest_of
from infinity.data.images.contact_sheet import encode_png
from infinity.evaluation.pictures.store import read_picture
from infinity.evaluation.rating.votes import RatedPair
from infinity.evaluation.score import benchmark_of
from infinity.jobs.evaluation.results import DrawnPrompt, Evaluated
from infinity.reporting.scores.rating import rating_html

PAGE_FILE, KEY_FILE, PICTURES = "rating.html", "key.json", "pictures"


@dataclass(frozen=True, kw_only=True, slots=True)
class RatingKey(Config):
    """What raters must not see: which model drew which picture.

    Attributes:
        evaluations: Folder of the evaluation by the model's name.
    """

    study: str
    pairs: tuple[RatedPair, ...]
    evaluations: dict[str, str]


@dataclass(frozen=True, slots=True)
class RatingFiles:
    """Files of a study: the page for raters with its pictures, and the key, which stays with its maker."""

    page: str
    key: str
    number: int


def make_rating(
    evaluations: Mapping[str, Evaluated], folder: str, *, most: int, seed: int = 0, benchmark: str = ""
) -> RatingFiles:
    """Write the page ``raters/rating.html`` with its pictures, and ``key.json``.

    Args:
        evaluations: Evaluations by the names of their models, at least two.
        folder: URI of the folder.
        most: Largest number of prompts, spread over all that two evaluations drew.
        seed: Seed of the sides and of the pictures' names.
        benchmark: Benchmark whose pictures are shown; empty for the first.

    Raises:
        ValueError: Fewer than two evaluations, or two of them share no prompt with pictures.
        PictureError: A picture cannot be read.
        StorageError: A file cannot be read or written.
    """
    if len(evaluations) < 2:
        raise ValueError(f"expected at least two evaluations with models of different names, got {len(evaluations)}")
    drawn = {name: _by_prompt(each, benchmark) for name, each in evaluations.items()}
    found = list(_pairs(drawn, most, random.Random(seed)))
    name = digest_of([seed, [pair.to_json() for pair, _, _ in found]])[:8]
    listed = []
    for pair, left, right in found:
        paths = [_copy(uri, folder, f"{seed} {name} {pair.id} {side}") for side, uri in (("l", left), ("r", right))]
        listed.append({"id": pair.id, "prompt": pair.prompt, "left": paths[0], "right": paths[1]})
    page, key = storage.join(folder, "raters", PAGE_FILE), storage.join(folder, KEY_FILE)
    about = RatingKey(
        study=name, pairs=tuple(pair for pair, _, _ in found),
        evaluations={model: each.folder for model, each in evaluations.items()},
    )  # fmt: skip
    storage.write_text(page, rating_html(name, listed))
    storage.write_text(key, about.dump())
    return RatingFiles(page, key, len(found))


def _by_prompt(evaluated: Evaluated, benchmark: str) -> dict[str, DrawnPrompt]:
    drawings = [each for each in evaluated.drawings() if each.pictures]
    chosen = benchmark or (drawings[0].benchmark if drawings else "")
    return {each.id: each for each in drawings if each.benchmark == chosen}


def _pairs(
    drawn: Mapping[str, Mapping[str, DrawnPrompt]], most: int, draw: random.Random
) -> Iterator[tuple[RatedPair, str, str]]:
    """Yield pairs with the URIs of the left and the right picture: the first picture of the prompt of each model."""
    for one, other in combinations(sorted(drawn), 2):
        both = [
            item for item in drawn[one] if item in drawn[other] and drawn[one][item].prompt == drawn[other][item].prompt
        ]
        if not both:
            raise ValueError(f"{one} and {other}: expected prompts that both drew in one benchmark, found none")
        size = min(most, len(both))
        for item in (both[place * len(both) // size] for place in range(size)):
            left, right = (one, other) if draw.random() < 0.5 else (other, one)
            pair = RatedPair(
                id=f"{draw.getrandbits(48):012x}", prompt=drawn[one][item].prompt, item=item, left=left, right=right
            )
            yield pair, drawn[left][item].pictures[0], drawn[right][item].pictures[0]


def _copy(uri: str, folder: str, secret: str) -> str:
    """Write a picture anew, under a name and with a content that tell nothing of its model; return its path."""
    path = f"{PICTURES}/{hashlib.sha256(secret.encode()).hexdigest()[:16]}.png"
    storage.write_bytes(storage.join(folder, "raters", path), encode_png(read_picture(uri)))
    return path


def shared_values(
    evaluations: Sequence[tuple[str, Evaluated]], pairs: Sequence[RatedPair]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return values by metric, model and prompt, for metrics that all evaluations have.

    Benchmarks number their prompts alike, so a value counts only where the metric's prompt is that of the pair.

    Args:
        evaluations: Evaluations by the names of their models.
        pairs: Pairs of the study.
    """
    rated = {(pair.item, pair.prompt) for pair in pairs}
    items = {name: _about(each, rated) for name, each in evaluations}
    shared = set.intersection(*(set(found) for found in items.values()))
    return {
        metric: {
            name: {item: value for item, value in found[metric].items() if value is not None}
            for name, found in items.items()
        }
        for metric in sorted(shared)
    }


def _about(evaluated: Evaluated, rated: Collection[tuple[str, str]]) -> dict[str, dict[str, float | None]]:
    """Return the values by metric and prompt, of the prompts that were rated."""
    known = {(drawn.benchmark, drawn.id) for drawn in evaluated.drawings() if (drawn.id, drawn.prompt) in rated}
    return {
        metric: {item: value for item, value in values.items() if (benchmark_of(metric), item) in known}
        for metric, values in evaluated.items().items()
    }
