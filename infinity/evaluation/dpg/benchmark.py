"""DPG-Bench: long prompts, four pictures each, questions that a vision-language model answers; both protocols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any, ClassVar

import numpy as np

from infinity import storage
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.bootstrap import stratified_interval
from infinity.evaluation.dpg.prompts import read_prompts
from infinity.evaluation.dpg.scoring import (
    PROTOCOLS,
    ItemError,
    PictureScore,
    Protocol,
    Table,
    cut,
    questions_of,
    read_table,
    score_picture,
    tile,
)
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.files import is_picture
from infinity.evaluation.pictures.store import Picture, PictureError
from infinity.evaluation.prompts.benchmark import (
    JudgedPrompts,
    MissingPicture,
    PictureFolder,
    PromptItem,
    PromptSample,
    Record,
    note_of_missing,
    split_missing,
)
from infinity.evaluation.prompts.found import (
    in_folders_or_flat,
    locate,
    only_folder,
    place_of,
    warn_of_unmatched,
    with_missing,
)
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.rewriting import describe
from infinity.evaluation.score import Score, join_notes, slug
from infinity.perception.language.vqa import Vqa, VqaConfig
from infinity.ranges import Count, Range
from infinity.storage.pinned import PinnedFile

OFFICIAL_TABLE = PinnedFile(
    uri="https://raw.githubusercontent.com/TencentQQGYLab/ELLA/3c228f1dc6c4d3cad0a47493816151a419f14db3/"
    "dpg_bench/dpg_bench.csv",
    git_blob="98457fc9901943f51ff9a30367250fc292533bed",
)
OFFICIAL_PROMPTS = PinnedFile(
    uri="https://github.com/TencentQQGYLab/ELLA/archive/3c228f1dc6c4d3cad0a47493816151a419f14db3.zip"
)

_MOST_ASPECT = 3
"""Largest ratio of the sides of a grid; a longer picture is a strip, whose quarters are no pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DpgBenchmark(ListedBenchmark):
    """DPG-Bench (arXiv:2403.05135).

    Attributes:
        prompts: A folder (path or s3://) of files ``<item id>.txt``, or a zip file that holds them in a folder
            ``prompts``.
        vqa: Model that answers the questions.
        pictures_per_prompt: Tiles of the grid; the benchmark has 4.
        resolution_px: Side of a tile in a grid that was drawn elsewhere; None is half of the grid's side, or all of it
            with one picture per prompt. As in the reference, a smaller grid is padded with black.
        pictures: Grids ``<item id>.png`` that were drawn elsewhere; None draws them with the model.
    """

    prompts: str | PinnedFile = OFFICIAL_PROMPTS
    questions: PinnedFile = OFFICIAL_TABLE
    vqa: VqaConfig = field(default_factory=VqaConfig)
    pictures_per_prompt: Annotated[int, Range(1, 4)] = 4
    resolution_px: Count | None = None

    metric: ClassVar[str] = "dpg"

    def all_items(self) -> tuple[PromptItem, ...]:
        """Return all prompts with the questions of both protocols about each, in the order of their names.

        Raises:
            ValueError: There are no prompts, or a prompt or the table cannot be read.
            StorageError: A file is missing.
        """
        tables = self._tables()
        prompts = read_prompts(self.prompts)
        return tuple(
            PromptItem(id=name, prompt=prompts[name], about={"questions": _texts(name, tables.values())})
            for name in sorted(prompts)
        )

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return the grid of every item: the picture whose name up to the first dot is the item's id.

        An item without a grid may have single pictures, ``<id>_<number>.png`` or ``<id>/samples/<number>.png``. A table
        may name any number of pictures.

        Raises:
            PictureError: Two grids of one item, or two pictures of one number.
        """
        if folder.is_table:
            return locate(folder, items, 1, most=self.pictures_per_prompt)
        grids = self._grids(folder)
        whole = items if self.num_prompts is None else self.all_items()
        stems = {item.id.split(".")[0] for item in whole}
        if not any(stem in stems for stem in grids):
            number = self.pictures_per_prompt
            if (inner := only_folder(folder, filter(is_picture, folder.files()), stems)) is not None:
                return self.find(inner, items)
            return locate(folder, items, number, layout=in_folders_or_flat, most=number, known=whole)
        pictures = [path for path in folder.files() if is_picture(path)]
        warn_of_unmatched(folder, [p for p in pictures if "/" in p or p.split(".")[0] not in stems], len(pictures))
        return [
            with_missing(
                folder, item, [place_of(folder, grids[stem])] if (stem := item.id.split(".")[0]) in grids else [], 1
            )
            for item in items
        ]

    def _grids(self, folder: PictureFolder) -> dict[str, storage.FileInfo]:
        found: dict[str, storage.FileInfo] = {}
        for path, info in sorted(folder.files().items()):
            if "/" in path or not is_picture(path):
                continue
            other = found.setdefault(path.split(".")[0], info)
            if other is not info:
                raise PictureError(
                    f"{folder.uri}: expected one grid of {path.split('.')[0]}, found {storage.name(other.uri)} and "
                    f"{path}; take one of them out"
                )
        return found

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that an answer depends on: the model, and how grids are cut."""
        return {
            "rules": "dpg/1",
            "vqa": self.vqa.to_json(),
            "tiles": self.pictures_per_prompt,
            "grids": self.pictures is not None,
            "resolution_px": self.resolution_px,
            **({"whole": True} if self.is_whole else {}),
        }

    @property
    def is_whole(self) -> bool:
        """Whether a file that was drawn elsewhere is one picture, not a grid."""
        return self.pictures is not None and self.pictures_per_prompt == 1 and self.resolution_px is None

    def judge(self, networks: Networks) -> DpgJudge:
        """Return the judge, with its model loaded."""
        return DpgJudge(networks.get(self.vqa, Vqa), self)

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``dpg…overall``, ``.l1.<category>``, ``.l2.<category>`` and ``.failed``, by both protocols."""
        tables = self._tables()
        names = {"reference": self.name, "corrected": self.name.replace("dpg", "dpg_corrected")}
        parts = [self._figures(results, tables[each], each, names[each]) for each in PROTOCOLS]
        return BenchmarkResult(
            scores=tuple(chain.from_iterable(scores for scores, _ in parts)),
            records={f"{self.name}_answers.jsonl": results.lines()},
            items={metric: values for _, items in parts for metric, values in items.items()},
        )

    def _tables(self) -> dict[Protocol, Table]:
        data = self.questions.read()
        return {protocol: read_table(data, protocol, where=self.questions.uri) for protocol in PROTOCOLS}

    def _figures(
        self, results: JudgedPrompts, table: Table, protocol: Protocol, name: str
    ) -> tuple[list[Score], dict[str, dict[str, float]]]:
        scored, failed = score_all(results, table, protocol)
        wording = self._protocol(protocol)
        total = len(scored) + len(failed)
        missing = [f"{item}: {reason}" for item, reason in failed.items()]
        note = join_notes(note_of_missing(missing, total, "prompts"), self._note(results))
        count = Score(
            metric=f"{name}.failed", value=float(len(failed)), unit="prompts", n=total, protocol=wording,
            note="prompts without a score: pictures missing, no questions, or questions that depend on absent ones",
        )  # fmt: skip
        if not scored:
            reason = note or "there was no prompt"
            return [Score.not_measured(f"{name}.overall", "percent", protocol=wording, reason=reason), count], {}
        averages = {item: 100 * picture.average for item, picture in scored.items()}
        overall = _percent(f"{name}.overall", {item: (value, 1.0) for item, value in averages.items()}, wording, note)
        categories = [
            _percent(f"{name}.{level}.{slug(category)}", values, wording, note)
            for level in ("l1", "l2")
            for category, values in sorted(pool(scored, protocol, level).items())
        ]
        return [overall, *categories, count], {f"{name}.overall": averages}

    def _protocol(self, protocol: Protocol) -> str:
        quirks = {
            "reference": "as the public script, quirks included: first table row skipped, categories from the last "
            "tile before dependencies",
            "corrected": "all table rows, dependencies reach all descendants, categories from all tiles after them",
        }[protocol]
        part = "" if self.num_prompts is None else f"; a part of the prompts: {self.num_prompts}"
        table = self.questions.git_blob or self.questions.sha256 or self.questions.uri
        grid = "" if self.is_whole else " in a 2x2 grid"
        return (
            f"dpg-{protocol}/1: {self.pictures_per_prompt} pictures a prompt{grid}, {self.vqa.describe()}, "
            f"question table {table[:16]}, {describe(self.rewriter)}; {quirks}{part}"
        )

    def _note(self, results: JudgedPrompts) -> str:
        sizes = sorted({tuple(record["size_px"]) for record in results.records if "size_px" in record})
        about = "tiles of " + ", ".join(f"{rows}x{columns}" for rows, columns in sizes) + " pixels" if sizes else ""
        padded = sum(bool(record.get("padded")) for record in results.records)
        black = f"{padded} grids are smaller than two tiles a side and were filled up with black" if padded else ""
        return join_notes(about, black)


@dataclass(frozen=True, slots=True)
class DpgJudge:
    """Ask the questions about every tile; an item's record holds each tile's answers by the text of the question."""

    vqa: Vqa
    benchmark: DpgBenchmark

    def __call__(
        self, samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> list[Record]:
        """Return the records of all items; questions are asked in batches."""
        records: list[dict[str, Any]] = []
        waiting: list[tuple[Picture, str]] = []
        for sample, found in zip(samples, pictures, strict=True):
            usable, reasons = split_missing(found)
            sizes = {picture.shape for picture in usable}
            if reasons or len(sizes) != 1:
                other = f"pictures of {len(sizes)} sizes" if sizes else "no picture"
                records.append({"missing": reasons[0] if reasons else other})
                continue
            if problem := self._problem(usable):
                records.append({"missing": problem})
                continue
            tiles, padded = self._tiles(usable)
            size = {"size_px": list(tiles[0].shape[:2])}
            records.append({"answers": [{} for _ in tiles], **size, **({"padded": True} if padded else {})})
            waiting += [(part, question) for part in tiles for question in sample.item.about["questions"]]
        answers = iter(self.vqa.answer(waiting))
        for sample, record in zip(samples, records, strict=True):
            for by_question in record.get("answers", ()):
                by_question.update({question: next(answers) for question in sample.item.about["questions"]})
        return list(records)

    def _problem(self, pictures: list[Picture]) -> str:
        """Return why a file cannot be cut into tiles; empty where it can."""
        rows, columns, _ = pictures[0].shape
        if self.benchmark.pictures is None or len(pictures) > 1 or self.benchmark.pictures_per_prompt == 1:
            return ""
        if min(rows, columns) < 2 or max(rows, columns) > _MOST_ASPECT * min(rows, columns):
            return f"expected a grid of 2 x 2 pictures, found {rows}x{columns} pixels (rows x columns)"
        return ""

    def _tiles(self, pictures: list[Picture]) -> tuple[list[Picture], bool]:
        """Return the tiles of one item, and whether a grid was too small for them."""
        if self.benchmark.pictures is None or len(pictures) > 1:
            return cut(tile(pictures), (pictures[0].shape[0], pictures[0].shape[1]), len(pictures)), False
        (grid,) = pictures
        side = self.benchmark.resolution_px
        if self.benchmark.is_whole:
            return [grid], False
        size = (grid.shape[0] // 2, grid.shape[1] // 2) if side is None else (side, side)
        padded = 2 * size[0] > grid.shape[0] or 2 * size[1] > grid.shape[1]
        return cut(grid, size, self.benchmark.pictures_per_prompt), padded


def score_all(
    results: JudgedPrompts, table: Table, protocol: Protocol
) -> tuple[dict[str, PictureScore], dict[str, str]]:
    """Return scores by item, and for items without a score the reason."""
    scored: dict[str, PictureScore] = {}
    failed: dict[str, str] = {}
    for sample, record in results:
        name = sample.item.id
        if "missing" in record:
            failed[name] = record["missing"]
            continue
        try:
            questions = questions_of(table, name)
            answers = [{question.id: part[question.text] for question in questions} for part in record["answers"]]
            scored[name] = score_picture(questions, answers, protocol)
        except ItemError as error:
            failed[name] = str(error)
    return scored, failed


def pool(
    scored: Mapping[str, PictureScore], protocol: Protocol, level: str
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the sum of the questions' scores and their number by category and item.

    Args:
        scored: Scores by item.
        protocol: Which scores count.
        level: "l1" for coarse categories, "l2" for fine ones.
    """
    pooled: dict[str, dict[str, tuple[float, float]]] = {}
    for item, picture in scored.items():
        for question, value in picture.counted(protocol):
            category = pooled.setdefault(question.group if level == "l1" else question.category, {})
            total, number = category.get(item, (0.0, 0.0))
            category[item] = total + value, number + 1
    return {
        category: {item: (100 * total, number) for item, (total, number) in values.items()}
        for category, values in pooled.items()
    }


def _texts(name: str, tables: Iterable[Table]) -> list[str]:
    """Return the questions about an item in any of the tables, each once."""
    key = name.split(".")[0]
    return list(dict.fromkeys(question.text for table in tables for question in table.get(key, ())))


def _percent(metric: str, values: Mapping[str, tuple[float, float]], protocol: str, note: str) -> Score:
    """Return the sum over the number of all items, with an interval from resampling items."""
    sums, numbers = (np.array([pair[side] for pair in values.values()], np.float64) for side in (0, 1))
    value, interval = float(sums.sum() / numbers.sum()), stratified_interval([(sums, numbers)])
    return Score.resampled(metric, value, "percent", int(numbers.sum()), interval, protocol=protocol, note=note)
