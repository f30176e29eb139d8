"""Decisions on rows that no process holds all of: the stages of ``curation.partitioned``, dealt out to the cluster.

Every stage is a fan-out whose tasks read and write files in one folder and tell a few numbers. The folder's name
follows from everything that the decisions follow from, and a task whose file lies there is not done again:
a job that was stopped, at any point, goes on from what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infinity import storage
from infinity.config import digest_of
from infinity.data.curation.answers import Answers
from infinity.data.curation.decisions import repeat_settings
from infinity.data.curation.decontamination import EvaluationSets
from infinity.data.curation.facts import MEASURE_VERSION
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.partitioned import captions, components, looks, near, pairs, repeats, row_rules
from infinity.data.curation.partitioned.row_rules import CAPTIONS, EXACT, NEAR, ChunkCounts
from infinity.data.curation.partitioned.workspace import FATES, Chunk, Told, Workspace
from infinity.data.curation.takedown import TakedownList
from infinity.jobs.cluster.fan_out import each_result
from infinity.jobs.progress import Progress, ProgressSink

DECISIONS_FOLDER = "decisions"
DECIDE_VERSION = 1
"""Changes whenever a stage would write other files for the same rows."""

ROWS_PER_CHUNK, ROWS_PER_PARTITION = 16_384, 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionedDecisions:
    """The fate of every row, in files of about ``ROWS_PER_CHUNK`` rows each.

    Attributes:
        kept: URIs of the facts of the rows that stay, by row; read with ``read_bucket``.
        dropped: URIs of the rows that do not, with their reasons, by row.
        work: Places of all files; their folder can go when the data set exists.
    """

    counts: ChunkCounts
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    work: Workspace


def chunks_of(
    files: Iterable[tuple[str, int, int, int]],
    most: int = ROWS_PER_CHUNK,
    answers: Answers = Answers(),  # noqa: B008
) -> tuple[Chunk, ...]:
    """Return neighbouring slices together, as many as have about ``most`` rows.

    Args:
        files: Slices in order: URI of the facts, number that is added to its row numbers, smallest row number
            after that, and number of rows.
        most: Rows of a chunk, unless a slice alone has more.
        answers: What networks said of the pictures.
    """
    chunks: list[Chunk] = []
    waiting: list[tuple[str, int]] = []
    first = number = 0
    for uri, shift, first_row, rows in files:
        if waiting and number + rows > most:
            chunks.append(Chunk(files=tuple(waiting), first_row=first, answers=answers))
            waiting, number = [], 0
        first = first_row if not waiting else first
        waiting.append((uri, shift))
        number += rows
    return (*chunks, Chunk(files=tuple(waiting), first_row=first, answers=answers)) if waiting else tuple(chunks)


def decide_partitioned(
    chunks: Sequence[Chunk],
    filters: FilterConfig,
    takedown: TakedownList,
    root: str,
    progress: ProgressSink,
    *,
    evaluation: EvaluationSets | None = None,
    partitions: int | None = None,
) -> PartitionedDecisions:
    """Give every row its fate, the same as ``decide`` gives; neither the driver nor a task holds all rows.

    Args:
        chunks: Rows of all sources, in order.
        filters: Rules that leave pictures out.
        takedown: Pictures that are gone before anything is compared.
        root: URI of the folder that all versions of the data set share.
        progress: Callback after every task.
        evaluation: The evaluation sets that the filters name, loaded.
        partitions: Number of parts that meeting rows are dealt to; None for one per ``ROWS_PER_PARTITION`` rows. The
            result does not depend on it.

    Raises:
        MissingScoreError: A rule asks for a score that is not there.
        StorageError: Facts cannot be read, or files not be written.
    """
    partitions = partitions or max(1, len(chunks) * ROWS_PER_CHUNK // ROWS_PER_PARTITION)
    named = evaluation.digest() if evaluation else ""
    places = digest_of([[storage.join(*map(storage.name, (storage.parent(uri), uri))), shift]
                        for chunk in chunks for uri, shift in chunk.files])  # fmt: skip
    settings = [DECIDE_VERSION, MEASURE_VERSION, filters.to_json(), takedown.to_json(), named, partitions]
    if chunks and (answers := chunks[0].answers).folders:
        settings.append([[name, storage.name(folder)] for name, folder in answers.folders] + [answers.choice])
    folder = storage.join(root, DECISIONS_FOLDER, digest_of([*settings, places, [c.first_row for c in chunks]]))
    work = Workspace(
        folder=folder,
        first_rows=tuple(chunk.first_row for chunk in chunks),
        num_partitions=partitions,
        filters=filters,
        takedown=takedown,
        evaluation=storage.join(folder, "evaluation.parquet") if evaluation else "",
    )
    if evaluation:
        row_rules.save_evaluation(work.evaluation, evaluation)
    return _Decision(work, chunks, progress).run()


class _Decision:
    """The stages in order, each a fan-out."""

    def __init__(self, work: Workspace, chunks: Sequence[Chunk], progress: ProgressSink) -> None:
        self.work, self.chunks = work, chunks
        self.stage = Stages(progress).run

    def run(self) -> PartitionedDecisions:
        """Run all stages that are asked for."""
        work, stages = self.work, row_rules.stages_of(self.work.filters)
        if work.takedown:
            self.each_chunk(row_rules.find_listed)
        counts = added(self.each_chunk(row_rules.judge_rows))
        for place, stage in enumerate(stages):
            {EXACT: self.exact, NEAR: self.near, CAPTIONS: self.captions}[stage](stages[:place])
        settled = added(self.each_number(row_rules.settle, stages))
        return PartitionedDecisions(
            counts=self._whole(counts, settled),
            kept=tuple(work.of_chunks(row_rules.KEPT)),
            dropped=tuple(work.of_chunks(FATES)),
            work=work,
        )

    def _whole(self, rows: ChunkCounts, settled: ChunkCounts) -> ChunkCounts:
        found, settings = settled.tally.dropped, repeat_settings(self.work.filters)
        rules = tuple(
            rule.replace(setting=settings[rule.reason], dropped=found.get(rule.reason, 0))
            if rule.reason in settings
            else rule
            for rule in rows.rules
        )
        tally = rows.tally + settled.tally
        return replace(rows, tally=tally, rules=rules, converted=settled.converted, kept=settled.kept)

    def exact(self, before: Sequence[str]) -> None:
        """Drop rows with the same pixels."""
        self.each_partition(repeats.drop_exact)

    def captions(self, before: Sequence[str]) -> None:
        """Drop rows whose captions repeat one, of the same picture or anywhere."""
        alike = self.work.filters.caption_duplicates
        if alike is None or alike.scope == "picture":
            self.each_number(repeats.send_captions, before)
            self.each_partition(repeats.drop_captions)
            return
        self.each_number(captions.send_words, before)
        self.each_partition(captions.choose_words)
        self.each_partition(captions.compare_captions)
        files = self._components(self.work.of_partitions(captions.PAIRS), captions.PREFIX)
        self.each_partition(components.write_labels, files, self.work.first_rows, captions.PREFIX)
        self.each_number(captions.send_members)
        self.each_partition(captions.decide_captions)
        self.each_partition(captions.drop_captions_anywhere)

    def near(self, before: Sequence[str]) -> None:
        """Drop rows that nearly repeat one that stays."""
        work = self.work
        self.each_chunk(looks.send_looks, before)
        ends = looks.ranges(self.each_partition(looks.choose_firsts))
        self.each_partition(looks.spread_firsts, ends)
        starts = near.starts_of(self.each_partition(looks.order_firsts))
        every = pairs.cells(work.num_partitions)
        calls = [(work, number, group, starts) for number, group in enumerate(every)]
        self.stage(pairs.compare_ranges, calls)
        files = self._components([work.uri(pairs.PAIRS, number) for number in range(len(every))])
        self.each_partition(components.write_labels, files, starts[:-1])
        self.stage(near.send_members, [(work, number, starts[number]) for number in range(work.num_partitions)])
        self.each_chunk(near.send_faces)
        self.each_partition(near.decide_near, starts[-1])
        self.each_partition(near.drop_near)

    def _components(self, files: list[str], prefix: str = "") -> list[str]:
        """Return the places of the edges that are left when every picture knows the smallest of its component."""
        before, turn = None, 0
        while True:
            told = self.each_partition(components.large_star, turn, files, prefix)
            found = sum(each["edges"] for each in told), sum(each["sum"] for each in told)
            if found == before:
                return files
            self.each_partition(components.small_star, turn, prefix)
            files, before, turn = self.work.of_partitions(components.small_stage(turn, prefix)), found, turn + 1

    def each_chunk(self, function: Callable[..., Told], *more: Any) -> list[Told]:
        """Run a task for each chunk, which is given the chunk."""
        return self.stage(function, [(self.work, number, chunk, *more) for number, chunk in enumerate(self.chunks)])

    def each_number(self, function: Callable[..., Told], *more: Any) -> list[Told]:
        """Run a task for each chunk, which is given its number alone."""
        return self.stage(function, [(self.work, number, *more) for number in range(len(self.chunks))])

    def each_partition(self, function: Callable[..., Told], *more: Any) -> list[Told]:
        """Run a task for each partition."""
        return self.stage(function, [(self.work, number, *more) for number in range(self.work.num_partitions)])


class Stages:
    """Fan-outs one after the other, of which nobody knows before how many there are."""

    def __init__(self, progress: ProgressSink) -> None:
        self._progress = progress
        self._done = 0

    def run(self, function: Callable[..., Told], calls: Sequence[tuple[Any, ...]]) -> list[Told]:
        """Run a task for each call, and return what they tell, in order."""
        name = function.__name__.replace("_", " ")
        self._done += 1
        share = 1 - 0.9**self._done

        def on_done(done: int) -> None:
            self._progress(Progress(share, f"{name}: {done:,} of {len(calls):,} parts"))

        return list(each_result(function, calls, on_done))


def added(told: Sequence[Told]) -> ChunkCounts:
    """Return the counts of all chunks, from what their tasks told."""
    counts = [ChunkCounts.from_json(each) for each in told]
    total = counts[0]
    for each in counts[1:]:
        total += each
    return total
