"""Drawn scenes: captioned pictures of coloured shapes, the data set that needs no download.

A picture has a plain background and one to four shapes that never touch. Shapes are drawn with anti-aliased edges at
positions and sizes that vary by a few pixels, so no two pictures are alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from infinity.config import Config
from infinity.ranges import Count
from infinity.scenes.prompts import COLORS, TASKS, ScenePrompt, Task, training_prompts

BACKGROUND: tuple[int, int, int] = (235, 235, 235)

TASK_SHARES: dict[Task, float] = {
    "single_object": 0.06,
    "two_object": 0.14,
    "counting": 0.24,
    "colors": 0.12,
    "position": 0.24,
    "color_attr": 0.20,
}
"""Share of the training pictures per task; tasks with more to learn get more."""

SIZE_RANGE = (0.34, 0.39)
"""Smallest and largest side of a shape's frame, in picture sides."""
JITTER = 0.025
"""Largest offset of a shape's centre from its place along each axis, in picture sides."""

_SUPERSAMPLING = 8

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenesConfig(Config):
    """Number and size of training scenes; equal values give equal pictures on every machine.

    Attributes:
        count: Number of pictures.
        size_px: Height and width of a picture, at least 24.
        seed: Seed of captions, colours, places and sizes.
    """

    count: Count
    size_px: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px < 24:
            raise ValueError(
                f"ScenesConfig.size_px: expected at least 24, where shapes can be told apart, got {self.size_px}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """One drawn shape: colour name, centre (x, y) and side of its frame, in pixels."""

    shape: str
    color: str
    center_px: Point
    size_px: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """An RGB picture with its caption and its objects."""

    image: UInt8[np.ndarray, "H W 3"]
    prompt: ScenePrompt
    objects: tuple[SceneObject, ...]


def draw_scenes(config: ScenesConfig) -> Iterator[Scene]:
    """Yield the training scenes in order; scene i is the same for every count."""
    return (training_scene(config, index) for index in range(config.count))


def training_scene(config: ScenesConfig, index: int) -> Scene:
    """Return scene number ``index`` alone, so that workers can share the drawing."""
    shares = np.array([TASK_SHARES[task] for task in TASKS])
    random = np.random.default_rng((config.seed, index))
    task: Task = str(random.choice(np.array(TASKS), p=shares / shares.sum()))  # type: ignore[assignment]
    prompts = training_prompts(task)
    return draw_scene(prompts[random.integers(len(prompts))], config.size_px, random)


def draw_scene(prompt: ScenePrompt, size_px: int, random: np.random.Generator) -> Scene:
    """Return a new picture for a caption.

    Objects that are named first lie to the left of the others, or on the side that the caption names. A colour that the
    caption leaves open is chosen at random, the same for all objects of one count.
    """
    wanted = [
        (entry.shape, color) for entry in prompt.include for color in [entry.color or _any_color(random)] * entry.count
    ]
    objects = []
    for (shape, color), (x, y) in zip(wanted, _places(prompt), strict=True):
        dx, dy = random.uniform(-JITTER, JITTER, size=2)
        objects.append(
            SceneObject(
                shape=shape,
                color=color,
                center_px=((x + dx) * size_px, (y + dy) * size_px),
                size_px=random.uniform(*SIZE_RANGE) * size_px,
            )
        )
    return Scene(image=render(objects, size_px), prompt=prompt, objects=tuple(objects))


def render(objects: Sequence[SceneObject], size_px: int) -> UInt8[np.ndarray, "H W 3"]:
    """Paint the objects, first to last, on the background."""
    canvas = np.broadcast_to(np.array(BACKGROUND, np.float32), (size_px, size_px, 3)).copy()
    for item in objects:
        cover = coverage(item.shape, item.center_px, item.size_px, size_px)[..., None]
        canvas += cover * (np.array(COLORS[item.color], np.float32) - canvas)
    return np.rint(canvas).astype(np.uint8)


def coverage(shape: str, center_px: Point, side_px: float, size_px: int) -> Float[np.ndarray, "H W"]:
    """Return how much of every pixel a shape covers, 0 to 1, measured on an 8 x 8 grid inside the pixel."""
    outline, hole = _outlines()[shape]
    scale = _SUPERSAMPLING
    # Only the pixels around the shape are drawn enlarged.
    left, top = (max(0, math.floor(c - side_px / 2) - 1) for c in center_px)
    right, bottom = (min(size_px, math.ceil(c + side_px / 2) + 1) for c in center_px)
    result = np.zeros((size_px, size_px), np.float32)
    if right <= left or bottom <= top:
        return result
    patch = Image.new("L", ((right - left) * scale, (bottom - top) * scale))
    pen = ImageDraw.Draw(patch)
    for points, ink in ((outline, 255), (hole, 0)):
        if points:
            # A pixel's centre is at half its side; PIL paints the pixels whose centres lie inside.
            pen.polygon(
                [
                    (
                        (center_px[0] + x * side_px - left) * scale - 0.5,
                        (center_px[1] + y * side_px - top) * scale - 0.5,
                    )
                    for x, y in points
                ],
                fill=ink,
            )
    result[top:bottom, left:right] = np.asarray(patch.reduce(scale), np.float32) / 255
    return result


def write_scenes(config: ScenesConfig, folder: Path) -> None:
    """Write the scenes as an image folder: ``images/*.png`` and ``metadata.jsonl``.

    A row has ``file_name`` and ``text``, as is common, and GenEval's fields of the caption.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as rows:
        for index, scene in enumerate(draw_scenes(config)):
            name = f"images/{index:06d}.png"
            Image.fromarray(scene.image).save(folder / name, compress_level=1)
            row = {"file_name": name, "text": scene.prompt.prompt, **scene.prompt.metadata()}
            rows.write(json.dumps(row) + "\n")


def _any_color(random: np.random.Generator) -> str:
    return str(random.choice(list(COLORS)))


def _places(prompt: ScenePrompt) -> list[Point]:
    """Return the centres of the objects, in picture sides, in the order of ``include``."""
    near, middle, far = 0.25, 0.5, 0.75
    left_of = [(near, middle), (far, middle)]
    if prompt.task == "position":
        relation = next(entry.position[0] for entry in prompt.include if entry.position)
        first = {"left of": left_of[::-1], "right of": left_of, "above": [(middle, far), (middle, near)]}
        return first.get(relation, [(middle, near), (middle, far)])
    match sum(entry.count for entry in prompt.include):
        case 1:
            return [(middle, middle)]
        case 2:
            return left_of
        case 3:
            return [(near, near), (far, near), (middle, far)]
        case _:
            return [(near, near), (far, near), (near, far), (far, far)]


@cache
def _outlines() -> dict[str, tuple[tuple[Point, ...], tuple[Point, ...]]]:
    """Return outline and hole of every shape in a frame from -0.5 to 0.5, y downwards."""
    arm = 0.165
    cross: tuple[Point, ...] = ((-arm, -0.5), (arm, -0.5), (arm, -arm), (0.5, -arm), (0.5, arm), (arm, arm))
    cross += tuple((-x, -y) for x, y in cross)
    arrow = ((0.5, 0.0), (0.02, -0.46), (0.02, -0.17), (-0.5, -0.17), (-0.5, 0.17), (0.02, 0.17), (0.02, 0.46))
    return {
        "circle": (_ellipse(0.47), ()),
        "square": (((-0.43, -0.43), (0.43, -0.43), (0.43, 0.43), (-0.43, 0.43)), ()),
        "triangle": (((0.0, -0.47), (0.5, 0.43), (-0.5, 0.43)), ()),
        "star": (_star(), ()),
        "heart": (_heart(), ()),
        "cross": (cross, ()),
        "ring": (_ellipse(0.48), _ellipse(0.23)),
        "moon": (_moon(), ()),
        "diamond": (((0.0, -0.5), (0.38, 0.0), (0.0, 0.5), (-0.38, 0.0)), ()),
        "arrow": (arrow, ()),
    }


def _ellipse(radius: float, num_points: int = 48) -> tuple[Point, ...]:
    angles = [2 * math.pi * i / num_points for i in range(num_points)]
    return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _star() -> tuple[Point, ...]:
    """Return five points, one upwards, moved down a little so that the star fills its frame."""
    radii = [0.52 if i % 2 == 0 else 0.22 for i in range(10)]
    angles = [math.pi * i / 5 for i in range(10)]
    return tuple((r * math.sin(a), -r * math.cos(a) + 0.03) for r, a in zip(radii, angles, strict=True))


def _heart(num_points: int = 48) -> tuple[Point, ...]:
    angles = [2 * math.pi * i / num_points for i in range(num_points)]
    curve = [
        (16 * math.sin(a) ** 3, -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)))
        for a in angles
    ]
    return tuple((x / 34, (y - 2.5) / 31) for x, y in curve)


def _moon(num_points: int = 24) -> tuple[Point, ...]:
    """Return a crescent that opens to the right: an outer arc and back along an inner one."""
    tip = math.radians(50)
    outer = [tip + (2 * math.pi - 2 * tip) * i / num_points for i in range(num_points + 1)]
    arc = [(0.5 * math.cos(a), 0.5 * math.sin(a)) for a in outer]
    x, y = arc[0]
    center = 0.26
    radius = math.hypot(x - center, y)
    half = math.atan2(y, x - center)
    inner = [-half - (2 * math.pi - 2 * half) * i / num_points for i in range(1, num_points)]
    back = [(center + radius * math.cos(a), radius * math.sin(a)) for a in inner]
    return tuple((px + 0.06, py) for px, py in arc + back)
