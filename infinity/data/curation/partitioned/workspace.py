"""The folder of one decision: which files each task writes, and how it is known that a task is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, UInt8

from infinity import storage
from infinity.data.curation import facts as facts_files
from infinity.data.curation.answers import Answers
from infinity.data.curation.facts import SMALL_FACTS
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.partitioned.buckets import read_bucket, read_told, write_buckets
from infinity.data.curation.takedown import TakedownList
from infinity.data.dedup.near_duplicates import thumbnails_in
from infinity.data.tables import shifted

ROWS, FATES = "rows", "fates"
"""Stages whose files are read by others: rows that passed the rules, and the last files of all."""

P = ParamSpec("P")
T = TypeVar("T")
Told = dict[str, Any]
"""What a task tells the driver."""

Work = tuple[pa.Table, Int[np.ndarray, " n"] | None, Told]
"""What a task writes: rows, the bucket of each (None for one), and a few numbers that it tells the driver."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Neighbouring slices whose rows one task looks at.

    Attributes:
        files: URI of the facts of each slice, and the number that is added to its row numbers.
        first_row: Smallest row number that may occur.
        answers: What networks said of the pictures.
    """

    files: tuple[tuple[str, int], ...]
    first_row: int
    answers: Answers = field(default_factory=Answers)

    def facts(self) -> pa.Table:
        """Return the facts of all rows with the networks' answers, without thumbnails.

        Raises:
            FactsError: A file holds something else.
            AnswersError: Answers are those of other rows.
            StorageError: A file cannot be read.
        """
        tables = [self.answers.attach(_read(uri, shift, SMALL_FACTS), uri) for uri, shift in self.files]
        return pa.concat_tables(tables).combine_chunks()

    def thumbnails(self, rows: pa.ChunkedArray) -> UInt8[np.ndarray, "m 32 32 3"]:
        """Return the thumbnails of some rows, in their order; one slice is held at a time.

        Args:
            rows: Row numbers of readable pictures of this chunk, each once.

        Raises:
            KeyError: A row that has no thumbnail.
        """
        numbers = rows.to_numpy()
        found, seen = np.empty((len(numbers), 32, 32, 3), np.uint8), np.zeros(len(numbers), bool)
        for uri, shift in self.files:
            table = _read(uri, shift, ("row", "thumbnail"))
            places = pc.index_in(table["row"], value_set=pa.array(numbers, pa.int64())).fill_null(-1).to_numpy()
            wanted = np.flatnonzero(places >= 0)
            if len(wanted):
                pictures = table.take(pa.array(wanted)).combine_chunks()
                found[places[wanted]] = thumbnails_in(pictures)(np.arange(len(wanted)))
                seen[places[wanted]] = True
        if not seen.all():
            raise KeyError(f"expected thumbnails of {len(numbers)} rows, found {int(seen.sum())}")
        return found


def _read(uri: str, shift: int, columns: Sequence[str]) -> pa.Table:
    return shifted(facts_files.from_bytes(storage.read_bytes(uri), uri, columns), shift)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Places and settings that all tasks of one decision share.

    Attributes:
        folder: URI of a folder whose name follows from everything that the decision follows from.
        first_rows: Smallest row number of each chunk, ascending.
        num_partitions: Number of parts that meeting rows are dealt to.
        filters: Rules that leave pictures out.
        takedown: List of pictures that must go.
        evaluation: URI of the loaded evaluation sets; empty without any.
    """

    folder: str
    first_rows: tuple[int, ...]
    num_partitions: int
    filters: FilterConfig
    takedown: TakedownList
    evaluation: str = ""

    def uri(self, stage: str, number: int) -> str:
        """Return the place of the file of one task."""
        return storage.join(self.folder, stage, f"{number:06d}.parquet")

    def of_chunks(self, stage: str) -> list[str]:
        """Return the places of the files of a stage that has a task for each chunk."""
        return [self.uri(stage, number) for number in range(len(self.first_rows))]

    def of_partitions(self, stage: str) -> list[str]:
        """Return the places of the files of a stage that has a task for each partition."""
        return [self.uri(stage, number) for number in range(self.num_partitions)]

    def chunks_of(self, rows: pa.ChunkedArray) -> Int[np.ndarray, " n"]:
        """Return the number of the chunk that holds each row."""
        return np.asarray(np.searchsorted(np.array(self.first_rows), rows.to_numpy(), side="right") - 1)

    def done(self, stage: str, number: int, work: Callable[[], Work]) -> Told:
        """Return what a task tells of its work; it is done only where its file, which is whole or absent, is not there.

        Args:
            stage: Name of the stage, and of its folder.
            work: The task. Files that it writes itself are written again after a kill, with the same content.

        Raises:
            StorageError: A file cannot be read or written.
        """
        uri = self.uri(stage, number)
        if (told := read_told(uri)) is None:
            rows, buckets, told = work()
            write_buckets(uri, rows, np.zeros(rows.num_rows, np.int64) if buckets is None else buckets, told)
        return told

    def remaining(self, chunk: int, before: Sequence[str]) -> pa.Table:
        """Return the rows of a chunk that passed the rules on rows and were not dropped by the given stages."""
        rows = read_bucket([self.uri(ROWS, chunk)])
        for stage in before:
            dropped = self.dropped(stage, chunk)["row"]
            rows = rows.filter(pc.invert(pc.is_in(rows["row"], value_set=dropped.combine_chunks())))
        return rows.combine_chunks()

    def dropped(self, stage: str, chunk: int) -> pa.Table:
        """Return ``row`` and ``detail`` of what a stage of partitions dropped from a chunk."""
        return read_bucket(self.of_partitions(stage), chunk)


Function = Callable[Concatenate[Workspace, int, P], T]
"""What a stage does for a chunk or a partition, by its number."""


def writes(stage: str) -> Callable[[Function[P, Work]], Function[P, Told]]:
    """Make a task of a function that returns what one file of a stage shall hold (see ``Workspace.done``)."""

    def task_of(function: Function[P, Work]) -> Function[P, Told]:
        @wraps(function)
        def task(work: Workspace, number: int, /, *args: P.args, **kwargs: P.kwargs) -> Told:
            return work.done(stage, number, lambda: function(work, number, *args, **kwargs))

        return task

    return task_of
