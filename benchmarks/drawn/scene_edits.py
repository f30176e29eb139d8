"""Edits of drawn scenes without any training for them: is the new object there, and is the rest as it was?

    python -m benchmarks.drawn.scene_edits runs/demo --sheet edits.png

A scene is drawn exactly, one of its objects is masked by its frame, and the model draws the masked tokens again for
a caption in which that object has another colour or another shape. An edit succeeds where the exact detector of scenes
finds all that the new caption asks for, by GenEval's rules: the object that was not masked has to be there too. Tokens
outside the mask are compared bit by bit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring.scenes import drawing_parser, sampling_of
from infinity import InfinityPipeline
from infinity.data.images.contact_sheet import compose_sheet
from infinity.evaluation.geneval.scene_detector import detect
from infinity.evaluation.geneval.scoring import GenevalPrompt, judge
from infinity.evaluation.score import wilson_interval
from infinity.generation.editing.edits import inpainting
from infinity.generation.sampling import SamplingConfig
from infinity.scenes.drawing import Scene, draw_scene
from infinity.scenes.prompts import ScenePrompt, Task, all_prompts

KINDS = ("colour", "shape")
TASKS: tuple[Task, ...] = ("colors", "color_attr")
"""Scenes of one object and of two, all with stated colours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneEdit:
    """A scene and what one of its objects is to become.

    Attributes:
        scene: Scene before the edit.
        wanted: Caption after it.
        place: Index of the object that changes.
    """

    scene: Scene
    wanted: ScenePrompt
    place: int

    def mask(self, margin_px: float) -> np.ndarray:
        """Return the pixels to draw again: the object's frame and a margin around it."""
        item, size_px = self.scene.objects[self.place], self.scene.image.shape[0]
        pixels = np.arange(size_px) + 0.5
        inside = [np.abs(pixels - centre) <= item.size_px / 2 + margin_px for centre in item.center_px]
        return np.outer(inside[1], inside[0])


def drawn_edits(kind: str, task: Task, number: int, size_px: int, seed: int) -> list[SceneEdit]:
    """Return edits at random: of equal captions but for the colour, or the shape, of one object."""
    random = np.random.default_rng((seed, KINDS.index(kind), TASKS.index(task)))
    prompts = all_prompts(task)
    found: list[SceneEdit] = []
    while len(found) < number:
        before, after = (prompts[int(random.integers(len(prompts)))] for _ in range(2))
        changed = changes(before, after)
        if len(changed) == 1 and changed[0][1] == kind:
            scene = draw_scene(before, size_px, random)
            found.append(SceneEdit(scene=scene, wanted=after, place=changed[0][0]))
    return found


def changes(before: ScenePrompt, after: ScenePrompt) -> list[tuple[int, str]]:
    """Return (index of the object, "colour" or "shape") of all that differs between two captions of one form."""
    pairs = enumerate(zip(before.include, after.include, strict=True))
    return [
        (index, kind)
        for index, (one, other) in pairs
        for kind, differs in (("colour", one.color != other.color), ("shape", one.shape != other.shape))
        if differs
    ]


def shows(picture: np.ndarray, wanted: ScenePrompt) -> bool:
    """Return whether the exact detector finds what a caption asks for."""
    return judge(GenevalPrompt.from_metadata(wanted.metadata()), detect(picture)).correct


def draw(
    pipe: InfinityPipeline, edit: SceneEdit, sampling: SamplingConfig, margin_px: float, seed: int
) -> tuple[np.ndarray, bool]:
    """Draw an edit; return the picture, and whether every token outside the mask kept its bits."""
    source = pipe.source(Image.fromarray(edit.scene.image))
    plan = inpainting(source, edit.mask(margin_px))
    drawn = pipe.draw_edit(plan, edit.wanted.prompt, [seed], sampling, "np")
    kept = (drawn.bits.bits_BLC[0] == source.labels.bits_BLC[0])[plan.kept_L]
    return next(iter(drawn.pixels())), bool(kept.all())


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, draw the edits and print a line per kind; 1 where a token outside a mask changed."""
    parser = drawing_parser(__doc__, guidance=3.0, temperature=0.5)
    parser.add_argument("--number", type=int, default=50, help="edits per kind and task (50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and drawings (0)")
    parser.add_argument("--margin-px", type=float, default=3.0, help="margin around the masked object (3)")
    parser.add_argument("--sheet", type=Path, help="PNG of the first 8 edits of each kind, before and after")
    given = parser.parse_args(arguments)
    pipe = InfinityPipeline.from_pretrained(given.model, device="cpu")
    size_px = pipe.pipeline.config.resolution.schedule(1.0).image_size_px(pipe.pipeline.tokenizer.config.stride_px)[0]
    sampling = sampling_of(given)
    cells, unchanged, number, right = [], 0, 0, 0
    for kind in KINDS:
        for task in TASKS:
            correct = 0
            for index, edit in enumerate(drawn_edits(kind, task, given.number, size_px, given.seed)):
                picture, kept = draw(pipe, edit, sampling, given.margin_px, given.seed + index)
                correct, unchanged = correct + shows(picture, edit.wanted), unchanged + kept
                cells += [edit.scene.image, picture] if index < 8 else []
            number, right = number + given.number, right + correct
            print(f"{kind}, {'one object' if task == 'colors' else 'two objects'}: {in_words(correct, given.number)}")
    print(f"all: {in_words(right, number)}; bits outside the mask equal in {unchanged} of {number}")
    if given.sheet:
        given.sheet.write_bytes(compose_sheet(cells, columns=16))
    return 0 if unchanged == number else 1


def in_words(correct: int, number: int) -> str:
    """Return a share with its 95 % interval."""
    low, high = wilson_interval(correct, number)
    return f"{correct / number:.3f} ({low:.3f} to {high:.3f}, n = {number})"


if __name__ == "__main__":
    sys.exit(main())
