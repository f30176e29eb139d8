"""Score files of T2I-CompBench's scripts: which pictures they are about, and one number per picture."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import parse_json
from infinity.evaluation.pictures.files import is_picture
from infinity.evaluation.pictures.store import PictureError
from infinity.evaluation.prompts.benchmark import SCORE_FILE, PictureFolder

SCORERS = {
    "annotation_blip": ("blip_vqa", "share"),
    "annotation_clip": ("clip", ""),
    "annotation_3_in_1": ("three_in_one", "share"),
    "labels/annotation_obj_detection_2d": ("unidet_2d", "share"),
    "labels/annotation_obj_detection_3d": ("unidet_3d", "share"),
    "annotation_num": ("unidet_numeracy", "share"),
}
"""Name and unit of a script's scores, by the folder beside ``samples`` that it writes."""

_PICTURE = re.compile(r"(.*/)?samples/(.+)_(\d+)\.[^./]+")


@dataclass(frozen=True, slots=True)
class ScoredPicture:
    """One picture of a category.

    Attributes:
        path: Path below the folder of the pictures.
        prompt: Prompt, as the file's name has it.
        number: Number at the end of the file's name.
    """

    path: str
    prompt: str
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreFile:
    """Scores of all pictures of one category by one script.

    Attributes:
        category: Name of the folder that holds ``samples``; empty for the folder itself.
        scorer: Name of the script's scores.
        unit: Unit of the scores.
        pictures: Pictures in the order of their numbers.
        values: One score per picture.
    """

    category: str
    scorer: str
    unit: str
    pictures: tuple[ScoredPicture, ...]
    values: tuple[float, ...]


def read_score_files(folder: PictureFolder) -> Iterator[ScoreFile]:
    """Yield the scores of every script and category in a folder.

    Raises:
        PictureError: There is none, a file is damaged, or its scores are not one per picture.
        StorageError: A file cannot be read.
    """
    paths = sorted(folder.files())
    bases = sorted({match[1] or "" for path in paths if (match := _PICTURE.fullmatch(path))})
    found = [
        _read(folder, base, place, _pictures(folder, base, paths))
        for base in bases
        for place in SCORERS
        if f"{base}{place}/{SCORE_FILE}" in paths
    ]
    if not found:
        places = ", ".join(SCORERS)
        raise PictureError(
            f"{folder.uri}: expected samples/<prompt>_<number>.png beside {SCORE_FILE} in one of {places}, as the "
            "scripts of T2I-CompBench write them, found none; run a script there first"
        )
    yield from found


def _pictures(folder: PictureFolder, base: str, paths: Sequence[str]) -> tuple[ScoredPicture, ...]:
    by_number: dict[int, ScoredPicture] = {}
    for path in paths:
        if not path.startswith(f"{base}samples/") or not is_picture(path):
            continue
        match = _PICTURE.fullmatch(path)
        if match is None or (match[1] or "") != base:
            raise PictureError(
                f"{storage.join(folder.uri, path)}: expected a name such as 'a red cup_000000.png', which the scripts "
                "of T2I-CompBench need; take the file out or rename it"
            )
        picture = ScoredPicture(path, match[2], int(match[3]))
        other = by_number.setdefault(picture.number, picture)
        if other is not picture:
            raise PictureError(
                f"{folder.uri}: expected one picture {picture.number}, found {other.path} and {path}; take one of them "
                "out"
            )
    return tuple(picture for _, picture in sorted(by_number.items()))


def _read(folder: PictureFolder, base: str, place: str, pictures: Sequence[ScoredPicture]) -> ScoreFile:
    where = storage.join(folder.uri, f"{base}{place}", SCORE_FILE)
    answers = _answers(parse_json(storage.read_bytes(where), where=where), where)
    numbers = [picture.number for picture in pictures]
    # The detectors' scripts number scores as pictures are named, the others by their place in that order.
    if set(answers) != set(numbers):
        numbers = list(range(len(pictures)))
    if set(answers) != set(numbers):
        raise PictureError(
            f"{where}: expected one score for each of the {len(pictures)} pictures in samples, found {len(answers)}"
            f"{_first_difference(answers, numbers)}; run the script again"
        )
    scorer, unit = SCORERS[place]
    values = tuple(answers[number] for number in numbers)
    if unit == "share" and (wrong := [value for value in values if not 0 <= value <= 1]):
        raise PictureError(f"{where}: expected scores between 0 and 1, found {wrong[0]:g}; run the script again")
    category = base.rstrip("/").rpartition("/")[2]
    return ScoreFile(category=category, scorer=scorer, unit=unit, pictures=tuple(pictures), values=values)


def _answers(data: Any, where: str) -> dict[int, float]:
    if not isinstance(data, list):
        raise PictureError(f"{where}: expected a list of scores, found {type(data).__name__}")
    found: dict[int, float] = {}
    for place, entry in enumerate(data, start=1):
        at = f"{where}, entry {place}"
        number = entry.get("question_id") if isinstance(entry, Mapping) else None
        if not isinstance(number, int) or isinstance(number, bool):
            raise PictureError(f"{at}: expected a question_id and an answer, found {str(entry)[:80]!r}")
        if number in found:
            raise PictureError(f"{at}: the question_id {number} is there twice; expected it once")
        try:
            found[number] = float(entry.get("answer"))
        except (TypeError, ValueError):
            found[number] = math.nan
        if not math.isfinite(found[number]):
            raise PictureError(f"{at}: expected a finite number as answer, found {str(entry.get('answer'))[:80]!r}")
    return found


def _first_difference(answers: Collection[int], numbers: Collection[int]) -> str:
    without = sorted(set(numbers) - set(answers))
    return f" (none for picture {without[0]})" if without else ""
