"""Captions of drawn scenes: GenEval's six tasks and templates over a small vocabulary of shapes and colours.

The metadata of a prompt has the fields of the published prompt file (github.com/djghosh13/geneval,
prompts/evaluation_metadata.jsonl), so that one scorer serves drawn scenes and the real benchmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from infinity.config import Config

Task = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TASKS: tuple[Task, ...] = get_args(Task)

PLURALS: dict[str, str] = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
    "ring": "rings",
    "moon": "moons",
    "diamond": "diamonds",
    "arrow": "arrows",
}
"""Every shape with its plural; the keys are the class names of the scorer."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 40),
    "orange": (250, 140, 20),
    "yellow": (245, 215, 40),
    "green": (40, 160, 70),
    "blue": (40, 80, 220),
    "purple": (125, 45, 160),
    "pink": (250, 130, 190),
    "black": (25, 25, 25),
}
"""RGB of every colour, named as in GenEval; any two are at least 70 apart, each at least 90 from the background."""

NUMBERS: dict[int, str] = {2: "two", 3: "three", 4: "four"}
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")

NUM_HELD_OUT: dict[Task, int] = {
    "single_object": 5,
    "two_object": 20,
    "counting": 10,
    "colors": 20,
    "position": 30,
    "color_attr": 36,
}
"""Number of captions per task that are kept out of training: 121 in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneRequirement(Config):
    """``count`` objects of one shape, perhaps of one colour, and perhaps in a relation to an earlier requirement.

    ``position`` is (relation, index of the earlier requirement), for example ("left of", 0).
    """

    shape: str
    count: int = 1
    color: str | None = None
    position: tuple[str, int] | None = None

    def metadata(self) -> dict[str, Any]:
        """Return the entry in the format of the published prompt file; absent values have no key."""
        entry: dict[str, Any] = {"class": self.shape, "count": self.count}
        if self.color is not None:
            entry["color"] = self.color
        if self.position is not None:
            entry["position"] = list(self.position)
        return entry


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePrompt(Config):
    """One caption with what its picture must show (``include``) and must not show (``exclude``)."""

    task: Task
    prompt: str
    include: tuple[SceneRequirement, ...]
    exclude: tuple[SceneRequirement, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """Return a line of GenEval's metadata file: tag, include, exclude if there is one, prompt."""
        data: dict[str, Any] = {"tag": self.task, "include": [entry.metadata() for entry in self.include]}
        if self.exclude:
            data["exclude"] = [entry.metadata() for entry in self.exclude]
        return {**data, "prompt": self.prompt}


@cache
def all_prompts(task: Task) -> tuple[ScenePrompt, ...]:
    """Return every caption of one task, in a fixed order."""
    return tuple(_BUILDERS[task]())


@cache
def held_out_prompts(task: Task | None = None) -> tuple[ScenePrompt, ...]:
    """Return the captions that no training picture has: those of one task, or of all six tasks in order.

    Example:
        >>> len(held_out_prompts()), held_out_prompts("counting")[0].task
        (121, 'counting')

    Within each task the captions are ordered by the sha256 of their group, and the first ``NUM_HELD_OUT`` are taken. A
    caption is its own group, except that "a photo of a star and a ring" and "a photo of a ring and a star" form one
    group and are kept out together (for two objects and for colour attribution alike). Of the three counts of a shape
    only the first in this order can be taken, so that training shows every shape in numbers. So the split depends on
    the texts alone, and not on a seed, a size or a count. Shapes, colours and their pairs do occur in training, in
    other captions.
    """
    if task is None:
        return tuple(prompt for each in TASKS for prompt in held_out_prompts(each))
    ordered = sorted(all_prompts(task), key=lambda prompt: (_hash(_group(prompt)), prompt.prompt))
    if task == "counting":
        ordered = list({prompt.include[0].shape: prompt for prompt in reversed(ordered)}.values())[::-1]
    return tuple(ordered[: NUM_HELD_OUT[task]])


@cache
def training_prompts(task: Task) -> tuple[ScenePrompt, ...]:
    """Return the captions of one task that training pictures may have: all that share no group with a held-out one."""
    held_out = {_group(prompt) for prompt in held_out_prompts(task)}
    return tuple(prompt for prompt in all_prompts(task) if _group(prompt) not in held_out)


@cache
def prompts_to_ask(task: Task) -> tuple[ScenePrompt, ...]:
    """Return every caption of one task: the held-out ones in their order, then those of training by their hash."""
    rest = sorted(training_prompts(task), key=lambda prompt: (_hash(prompt.prompt), prompt.prompt))
    return held_out_prompts(task) + tuple(rest)


def with_article(noun: str) -> str:
    """Return ``noun`` with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _group(prompt: ScenePrompt) -> str:
    """Return what a caption shares with those that name the same objects in another order."""
    if prompt.task in ("two_object", "color_attr"):
        return " ".join(sorted(f"{entry.color} {entry.shape}," for entry in prompt.include))
    return prompt.prompt


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _single_object() -> Iterator[ScenePrompt]:
    for shape in PLURALS:
        yield ScenePrompt(
            task="single_object",
            prompt=f"a photo of {with_article(shape)}",
            include=(SceneRequirement(shape=shape),),
        )


def _two_object() -> Iterator[ScenePrompt]:
    for a, b in _pairs():
        yield ScenePrompt(
            task="two_object",
            prompt=f"a photo of {with_article(a)} and {with_article(b)}",
            include=(SceneRequirement(shape=a), SceneRequirement(shape=b)),
        )


def _counting() -> Iterator[ScenePrompt]:
    for shape, plural in PLURALS.items():
        for count, number in NUMBERS.items():
            yield ScenePrompt(
                task="counting",
                prompt=f"a photo of {number} {plural}",
                include=(SceneRequirement(shape=shape, count=count),),
                exclude=(SceneRequirement(shape=shape, count=count + 1),),
            )


def _colors() -> Iterator[ScenePrompt]:
    for shape in PLURALS:
        for color in COLORS:
            yield ScenePrompt(
                task="colors",
                prompt=f"a photo of {with_article(f'{color} {shape}')}",
                include=(SceneRequirement(shape=shape, color=color),),
            )


def _position() -> Iterator[ScenePrompt]:
    for a, b in _pairs():
        for relation in RELATIONS:
            yield ScenePrompt(
                task="position",
                prompt=f"a photo of {with_article(a)} {relation} {with_article(b)}",
                include=(SceneRequirement(shape=b), SceneRequirement(shape=a, position=(relation, 0))),
            )


def _color_attr() -> Iterator[ScenePrompt]:
    for a, b in _pairs():
        for color_a in COLORS:
            for color_b in COLORS:
                if color_a != color_b:
                    yield ScenePrompt(
                        task="color_attr",
                        prompt=f"a photo of {with_article(f'{color_a} {a}')} and {with_article(f'{color_b} {b}')}",
                        include=(SceneRequirement(shape=a, color=color_a), SceneRequirement(shape=b, color=color_b)),
                    )


def _pairs() -> Iterator[tuple[str, str]]:
    return ((a, b) for a in PLURALS for b in PLURALS if a != b)


_BUILDERS = {
    "single_object": _single_object,
    "two_object": _two_object,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
}
