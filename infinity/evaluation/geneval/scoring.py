"""GenEval: does a picture show what its templated prompt asks for? Detections in, a verdict with its reason out.

The same scorer serves the real benchmark (boxes by Mask2Former, colours by CLIP) and drawn scenes (an exact detector).
Rules and messages are those of the public scorer (github.com/djghosh13/geneval, commit af4902f), even where they
surprise: objects are not used up, so two entries of one class look at the same boxes, and duplicates count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from jaxtyping import Float32

from infinity.config import Config

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
"""The ten colours of the benchmark, in the order in which reasons list them."""

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""Tags of the six tasks as the official prompt file spells them."""

Relation = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below")


@dataclass(frozen=True, kw_only=True, slots=True)
class GenevalConfig(Config):
    """Thresholds of the scorer; the defaults are the official setting.

    Args:
        threshold: Boxes must score strictly above this, compared in float32.
        counting_threshold: Threshold for prompts of the counting task.
        max_objects: Number of best boxes that are kept per class, before suppression.
        max_overlap: IoU with a better box of the same class from which on a box is dropped; 1 drops none.
        position_threshold: Share of the summed sizes by which centres must differ for a relation to hold.
    """

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0
    position_threshold: float = 0.1


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a prompt: at least (include) or fewer than (exclude) ``count`` objects of a class.

    Args:
        count: Number of objects, at least 1.
        colour: Colour that all of the ``count`` best boxes must have, or None.
        position: Relation to the boxes of an earlier entry, and that entry's index, or None.
    """

    object_class: str
    count: int
    colour: str | None = None
    position: tuple[Relation, int] | None = None


@dataclass(frozen=True, slots=True)
class GenevalPrompt:
    """A prompt with the objects that its pictures must show."""

    task: str
    prompt: str
    include: tuple[Requirement, ...]
    exclude: tuple[Requirement, ...]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> GenevalPrompt:
        """Read a line of the official jsonl: ``tag``, ``prompt``, ``include``, ``exclude``.

        Raises:
            ValueError: A key is missing or unknown, or a position points to an entry that is not before it.
        """
        if unknown := set(metadata) - {"tag", "prompt", "include", "exclude"}:
            raise ValueError(f"GenEval metadata: unknown keys {sorted(unknown)} in {json.dumps(metadata)[:200]}")
        if not isinstance(metadata.get("tag"), str) or not isinstance(metadata.get("prompt"), str):
            raise ValueError(f"GenEval metadata: expected texts tag and prompt, got {json.dumps(metadata)[:200]}")
        for key in ("include", "exclude"):
            if not isinstance(metadata.get(key, []), list):
                raise ValueError(f"GenEval metadata: expected a list {key}, got {json.dumps(metadata[key])[:80]}")
        include = tuple(_requirement(entry, before=i) for i, entry in enumerate(metadata.get("include", ())))
        exclude = tuple(_requirement(entry, before=0) for entry in metadata.get("exclude", ()))
        return cls(metadata["tag"], metadata["prompt"], include, exclude)

    def to_metadata(self) -> dict[str, Any]:
        """Return the official format; entries that are absent stay absent."""
        include, exclude = ([_entry(item) for item in items] for items in (self.include, self.exclude))
        return {
            "tag": self.task,
            "include": include,
            **({"exclude": exclude} if exclude else {}),
            "prompt": self.prompt,
        }


@dataclass(frozen=True, slots=True, eq=False)
class ClassDetections:
    """The boxes of one class that a detector found, in any order.

    Args:
        boxes: Box corners left, top, right, bottom in pixels.
        scores: Confidence of each box, 0 to 1.
        colours: Name of each box's colour; may be computed when read, since few colours matter.
    """

    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    colours: Sequence[str]

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 4) or len(self.colours) != len(self.scores):
            raise ValueError(
                f"ClassDetections: expected n boxes (n, 4), n scores and n colours, got boxes {self.boxes.shape}, "
                f"{len(self.scores)} scores, {len(self.colours)} colours"
            )
        if self.boxes.dtype != np.float32 or self.scores.dtype != np.float32:
            raise ValueError(
                f"ClassDetections: expected float32 boxes and scores, got {self.boxes.dtype} and {self.scores.dtype}"
            )


Detections = Mapping[str, ClassDetections]
"""Everything found in one picture, by class; an absent class has no boxes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one picture fulfils its prompt; ``reason`` has one line per broken requirement, none when correct."""

    correct: bool
    reason: str


def judge(prompt: GenevalPrompt, detections: Detections, config: GenevalConfig | None = None) -> Verdict:
    """Check one picture.

    Example:
        >>> prompt = GenevalPrompt("single_object", "a photo of a dog", (Requirement("dog", 1),), ())
        >>> box, score = np.zeros((1, 4), np.float32), np.array([0.9], np.float32)
        >>> judge(prompt, {"dog": ClassDetections(box, score, ["brown"])})
        Verdict(correct=True, reason='')
        >>> judge(prompt, {})
        Verdict(correct=False, reason='expected dog>=1, found 0')

    Args:
        prompt: What the picture must show.
        config: Thresholds; None takes the official ones.
    """
    config = config or GenevalConfig()
    kept = keep(detections, counting=prompt.task == "counting", config=config)
    reasons: list[str] = []
    groups: list[_Boxes | None] = []
    for requirement in prompt.include:
        failure = _check_include(requirement, kept.get(requirement.object_class, _NO_BOXES), groups, config)
        groups.append(None if failure else kept[requirement.object_class].first(requirement.count))
        reasons += [failure] if failure else []
    for requirement in prompt.exclude:
        found = len(kept.get(requirement.object_class, _NO_BOXES).boxes)
        if found >= requirement.count:
            reasons.append(f"expected {requirement.object_class}<{requirement.count}, found {found}")
    return Verdict(not reasons, "\n".join(reasons))


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """Kept boxes of one class, best first; ``colour(i)`` names the colour of box i."""

    boxes: Float32[np.ndarray, "n 4"]
    colour: Callable[[int], str]

    def first(self, count: int) -> _Boxes:
        return _Boxes(self.boxes[:count], self.colour)


_NO_BOXES = _Boxes(np.zeros((0, 4), np.float32), lambda i: "")


def keep(detections: Detections, *, counting: bool, config: GenevalConfig) -> dict[str, _Boxes]:
    """Threshold, sort, cap and suppress; return the remaining boxes of each class, best first.

    A class without remaining boxes is absent. Among equal scores the later row comes first, as in the public scorer (an

    ascending stable sort, reversed).
    """
    threshold = np.float32(config.counting_threshold if counting else config.threshold)
    kept = {}
    for name, found in detections.items():
        order = np.argsort(found.scores, kind="stable")[::-1]
        order = order[found.scores[order] > threshold][: config.max_objects]
        rows = _suppress(found.boxes, order, config.max_overlap)
        if rows:
            kept[name] = _Boxes(found.boxes[rows], lambda i, rows=rows, found=found: found.colours[rows[i]])  # type: ignore[misc]
    return kept


def _suppress(boxes: Float32[np.ndarray, "n 4"], order: Any, max_overlap: float) -> list[int]:
    remaining = [int(row) for row in order]
    if max_overlap == 1:
        return remaining
    chosen: list[int] = []
    for row in remaining:
        if all(overlap(boxes[best], boxes[row]) < np.float32(max_overlap) for best in chosen):
            chosen.append(row)
    return chosen


def overlap(a: Float32[np.ndarray, " 4"], b: Float32[np.ndarray, " 4"]) -> np.float32:
    """Return the IoU of two boxes whose right and bottom pixels are inclusive; 0 for an empty union."""
    common = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    union = _area(a) + _area(b) - common
    return np.float32(common / union) if union else np.float32(0)


def _area(box: Float32[np.ndarray, " 4"]) -> np.float32:
    width, height = np.maximum(box[2:] - box[:2] + 1, 0)
    return np.float32(width * height)


def relations(
    a: Float32[np.ndarray, " 4"], b: Float32[np.ndarray, " 4"], position_threshold: float = 0.1
) -> tuple[Relation, ...]:
    """Return how box ``a`` lies relative to box ``b``: none, one, or two relations, computed in float32.

    On each axis the offset of the centres is shortened by ``position_threshold`` times the summed sizes, then divided
    by the length of the offset before shortening. A relation holds where more than half of that length lies on an axis.
    """
    corners_a, corners_b = a.reshape(2, 2), b.reshape(2, 2)
    offset = corners_a.mean(axis=0) - corners_b.mean(axis=0)
    sizes = np.abs(corners_a[1] - corners_a[0]) + np.abs(corners_b[1] - corners_b[0])
    shortened = np.maximum(np.abs(offset) - position_threshold * sizes, 0) * np.sign(offset)
    if (np.abs(shortened) < 1e-3).all():
        return ()
    x, y = shortened / np.linalg.norm(offset)
    holds = (x < -0.5, x > 0.5, y < -0.5, y > 0.5)
    return tuple(relation for relation, true in zip(RELATIONS, holds, strict=True) if true)


def _check_include(want: Requirement, kept: _Boxes, groups: list[_Boxes | None], config: GenevalConfig) -> str:
    """Return the reason why an entry does not hold, or an empty text."""
    found = kept.first(want.count)
    if len(found.boxes) < want.count:
        return f"expected {want.object_class}>={want.count}, found {len(found.boxes)}"
    if want.colour is not None and (failure := _check_colour(want, found)):
        return failure
    if want.position is not None:
        return _check_position(want, found, groups, config)
    return ""


def _check_colour(want: Requirement, found: _Boxes) -> str:
    colours = [found.colour(i) for i in range(want.count)]
    right = colours.count(str(want.colour))
    if right >= want.count:
        return ""
    present = ", ".join(f"{colours.count(colour)} {colour}" for colour in COLOURS if colour in colours)
    return f"expected {want.colour} {want.object_class}>={want.count}, found {right} {want.colour}; and {present}"


def _check_position(want: Requirement, found: _Boxes, groups: list[_Boxes | None], config: GenevalConfig) -> str:
    assert want.position is not None
    relation, target_index = want.position
    target = groups[target_index]
    if target is None:
        return f"no target for {want.object_class} to be {relation}"
    for box, other in _pairs(found, target):
        true = relations(box, other, config.position_threshold)
        if relation not in true:
            return f"expected {want.object_class} {relation} target, found {' and '.join(true)} target"
    return ""


def _pairs(a: _Boxes, b: _Boxes) -> Iterator[tuple[Float32[np.ndarray, " 4"], Float32[np.ndarray, " 4"]]]:
    return ((box, other) for box in a.boxes for other in b.boxes)


def _requirement(entry: object, *, before: int) -> Requirement:
    if not isinstance(entry, Mapping):
        raise ValueError(f"GenEval metadata: expected entries with a class and a count, got {json.dumps(entry)[:80]}")
    if unknown := set(entry) - {"class", "count", "color", "position"}:
        raise ValueError(f"GenEval metadata: unknown keys {sorted(unknown)} in entry {json.dumps(entry)}")
    name, count, colour, position = (entry.get(key) for key in ("class", "count", "color", "position"))
    if not isinstance(name, str) or not _is_index(count) or count < 1:
        raise ValueError(f"GenEval metadata: expected a class name and a count of at least 1, got {json.dumps(entry)}")
    if colour is not None and not isinstance(colour, str):
        raise ValueError(f"GenEval metadata: expected the name of a colour, got {json.dumps(entry)}")
    return Requirement(name, count, colour, None if position is None else _position(position, before))


def _position(value: object, before: int) -> tuple[Relation, int]:
    match value:
        case [relation, target] if relation in RELATIONS and _is_index(target) and 0 <= target < before:
            return relation, target
    raise ValueError(
        f"GenEval metadata: expected one of {RELATIONS} and the index of an earlier entry, got {json.dumps(value)[:80]}"
    )


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _entry(requirement: Requirement) -> dict[str, Any]:
    entry: dict[str, Any] = {"class": requirement.object_class, "count": requirement.count}
    if requirement.colour is not None:
        entry["color"] = requirement.colour
    if requirement.position is not None:
        entry["position"] = list(requirement.position)
    return entry
