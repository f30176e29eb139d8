"""CMMD and FD-DINOv2 of the pictures of a list of prompts, as benchmarks: drawn by a model, or elsewhere."""

from __future__ import annotations

import base64
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.fid.embedding_distance import EmbeddedSet, embed_set, embedding_score
from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.evaluation.fid.set_distance import MOST_ROWS, SetDistanceError
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.files import is_picture
from infinity.evaluation.prompts.benchmark import (
    Judge,
    JudgedPrompts,
    PictureFolder,
    PromptItem,
    PromptSample,
    judge_pictures,
)
from infinity.evaluation.prompts.found import place_of, with_missing
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.lists import PromptList, describe, read_lists
from infinity.evaluation.score import Score, join_notes
from infinity.perception.embeddings import EmbeddingConfig, load_embedder

_LEAST = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnDistanceBenchmark(ListedBenchmark, ABC):
    """Base of both: distance between pictures of prompts and a reference set of pictures, with an interval.

    Attributes:
        reference: Pictures to compare with: a folder, tar shards, or a manifest.
        network: Network that turns pictures into vectors.
        prompts: Lists of prompts. Without any, all pictures of a folder that was drawn elsewhere count, whatever their
            names are.
        interval: Whether an interval is computed, which takes twenty more distances.
    """

    reference: ReferenceSet
    network: EmbeddingConfig
    prompts: tuple[PromptList, ...] = ()
    interval: bool = True

    def __post_init__(self) -> None:
        if self.network.kind != self.metric:
            raise ValueError(f"{type(self).__name__}.network.kind: expected {self.metric!r}, got {self.network.kind!r}")
        if not self.prompts and (self.pictures is None or self.pictures.is_table):
            raise ValueError(
                f"{type(self).__name__}.prompts: expected at least one list of prompts, or a folder of pictures that "
                "were drawn elsewhere; got neither"
            )

    def all_items(self) -> tuple[PromptItem, ...]:
        """Return all prompts; without lists, one item per picture of the folder, named by its path.

        Raises:
            ValueError: A list cannot be read, or the reference set has fewer than two pictures.
            StorageError: A file is missing.
        """
        self.reference.files()  # fails before anything is drawn
        if self.prompts:
            return read_lists(self.prompts, None)
        assert self.pictures is not None
        return tuple(PromptItem(id=path, prompt=path) for path in sorted(self.pictures.files()) if is_picture(path))

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return pictures that were drawn elsewhere; raise what ``ListedBenchmark.find`` raises."""
        if self.prompts:
            return ListedBenchmark.find(self, folder, items)
        files = folder.files()
        return [with_missing(folder, item, [place_of(folder, files[item.id])], 1) for item in items]

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that a vector depends on.

        Raises:
            ValueError: The weights are missing, or are not the expected ones.
        """
        return {"rules": f"{self.metric}-vectors/1", "weights": self.network.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        """Return the judge whose records hold the vectors of an item's pictures, exact in base64."""
        embedder = networks.get(self.network, load_embedder)
        return judge_pictures("vectors", lambda pictures, _: map(_text, embedder.embed(pictures)))

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``<name>.overall``; the reference set is read here, on a GPU where there is one.

        Raises:
            SetDistanceError: More pictures than fit into memory.
            PictureError: A picture of the reference set cannot be read.
        """
        rows = [vector for _, record in results for vector in record.get("vectors", ())]
        note = results.missing_note()
        source = self._source([sample.item for sample in results.samples])
        metric = f"{self.name}.overall"
        if len(rows) < _LEAST:
            reason = note or f"{len(rows)} pictures have no spread"
            return BenchmarkResult(scores=(Score.not_measured(metric, "", protocol=source, reason=reason),))
        if len(rows) > MOST_ROWS:
            raise SetDistanceError(f"{self.name}: expected at most {MOST_ROWS:,} pictures, got {len(rows):,}")
        embedder = load_embedder(self.network, "cuda" if torch.cuda.is_available() else "cpu")
        drawn = EmbeddedSet(torch.stack([_vector(row) for row in rows]), source)
        score = embedding_score(drawn, embed_set(self.reference, embedder), embedder, interval=self.interval)
        return BenchmarkResult(scores=(score.replace(metric=metric, note=join_notes(note, score.note)),))

    def _source(self, items: Sequence[PromptItem]) -> str:
        if not self.prompts:
            return f"{len(items)} pictures of a folder"
        return f"{describe(items)}, {self.pictures_per_prompt} pictures each, {self.drawing()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CmmdBenchmark(DrawnDistanceBenchmark):
    """CMMD (arXiv:2401.09603) by CLIP's vectors; 0 for equal sets."""

    network: EmbeddingConfig = field(default_factory=lambda: EmbeddingConfig(kind="cmmd"))

    metric: ClassVar[str] = "cmmd"


@dataclass(frozen=True, kw_only=True, slots=True)
class FdDinov2Benchmark(DrawnDistanceBenchmark):
    """FD-DINOv2 (arXiv:2306.04675), the Fréchet distance of DINOv2's vectors; 0 for equal sets."""

    network: EmbeddingConfig = field(default_factory=lambda: EmbeddingConfig(kind="fd_dinov2"))

    metric: ClassVar[str] = "fd_dinov2"


def _text(row: torch.Tensor) -> str:
    return base64.b64encode(row.numpy().astype("<f4").tobytes()).decode()


def _vector(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())
