"""The first and the last look at a chunk: rules that need one row alone, and the fate of every row."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity import storage
from infinity.data.curation.decisions import DROPPED, decide, told_of
from infinity.data.curation.decontamination import EvaluationSets
from infinity.data.curation.facts import CONVERTED
from infinity.data.curation.filters import CAPTION_DUPLICATE, DUPLICATE, NEAR_DUPLICATE, FilterConfig
from infinity.data.curation.histograms import Histogram
from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, write_buckets, write_rows
from infinity.data.curation.partitioned.workspace import FATES, ROWS, Chunk, Work, Workspace, writes
from infinity.data.curation.rule_counts import RuleCount
from infinity.data.curation.takedown import listed_pixels, split_taken_down
from infinity.data.dedup.near_duplicates import Thumbnails
from infinity.data.sources.checking import Tally

LISTED, DROPPED_ROWS, KEPT, EXACT_IN = "listed", "dropped", "kept", "exact-in"
EXACT, NEAR, CAPTIONS = "exact", "near", "captions"
"""Stages of partitions that drop rows, in the order in which they are asked."""

PREFERENCE_COLUMNS = ("row", "name", "caption", "content", "num_bytes", "width_px", "height_px", "pixels")
"""Columns of the facts that decide which of several rows is preferred, and those that say which are equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkCounts:
    """What is told of the rows of one chunk or of all; adds up.

    Attributes:
        tally: Counts and examples of what is not kept.
        rules: All rules in order, with how many rows each dropped.
        histograms: One histogram per score that every readable picture has.
        cleaned: Number of captions by what was removed from them.
        converted: Number of kept pictures by colour profile.
        kept: Number of rows that stay.
    """

    tally: Tally
    rules: tuple[RuleCount, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    cleaned: dict[str, int] = field(default_factory=dict)
    converted: dict[str, int] = field(default_factory=dict)
    kept: int = 0

    def __add__(self, other: ChunkCounts) -> ChunkCounts:
        both = {each.score: each for each in other.histograms}
        return ChunkCounts(
            tally=self.tally + other.tally,
            rules=tuple(a.replace(dropped=a.dropped + b.dropped) for a, b in zip(self.rules, other.rules, strict=True)),
            histograms=tuple(each + both[each.score] for each in self.histograms if each.score in both),
            cleaned=_sum(self.cleaned, other.cleaned),
            converted=_sum(self.converted, other.converted),
            kept=self.kept + other.kept,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        tally = self.tally
        return {
            "tally": [tally.read, tally.dropped, tally.unreadable, {k: list(v) for k, v in tally.examples.items()}],
            "rules": [each.to_json() for each in self.rules],
            "histograms": [each.to_json() for each in self.histograms],
            "cleaned": self.cleaned,
            "converted": self.converted,
            "kept": self.kept,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> ChunkCounts:
        """Return the counts that ``to_json`` told."""
        read, dropped, unreadable, examples = told["tally"]
        return cls(
            tally=Tally(
                read=read,
                dropped=dropped,
                unreadable=unreadable,
                examples={reason: tuple(lines) for reason, lines in examples.items()},
            ),
            rules=tuple(RuleCount.from_json(each, where="receipt") for each in told["rules"]),
            histograms=tuple(Histogram.from_json(each, where="receipt") for each in told["histograms"]),
            cleaned=told["cleaned"],
            converted=told["converted"],
            kept=told["kept"],
        )


def _sum(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(a) + Counter(b)).items()))


@writes(LISTED)
def find_listed(work: Workspace, number: int, chunk: Chunk) -> Work:
    """Task of a chunk: write the pixels of pictures that the takedown list names; rows with the same ones go too."""
    found = listed_pixels(chunk.facts(), work.takedown)
    return pa.table({"pixels": pa.array(sorted(found), pa.binary(32))}), None, {"rows": len(found)}


@writes(ROWS)
def judge_rows(work: Workspace, number: int, chunk: Chunk) -> Work:
    """Task of a chunk: ask all rules that look at one row; what passes goes to the partition of its pixels."""
    facts, taken = chunk.facts(), Tally.of()
    if work.takedown:
        listed = read_bucket(work.of_chunks(LISTED))["pixels"].to_pylist()
        facts, taken = split_taken_down(facts, work.takedown, frozenset(listed))
    filters = work.filters.replace(duplicates="keep", near_duplicates=None, caption_duplicates=None)
    evaluation = load_evaluation(work.evaluation) if work.evaluation else None
    found = decide(facts, filters, evaluation, _by_row(chunk, facts) if filters.evaluation.pictures else None)
    write_rows(work.uri(DROPPED_ROWS, number), found.dropped)
    kept = found.kept.select(PREFERENCE_COLUMNS)
    write_buckets(work.uri(EXACT_IN, number), kept, by_checksum(kept["pixels"], work.num_partitions))
    counts = ChunkCounts(
        tally=taken + found.tally,
        rules=found.rules,
        histograms=found.histograms,
        cleaned=found.cleaned,
        kept=found.kept.num_rows,
    )
    return found.kept, None, counts.to_json()


def _by_row(chunk: Chunk, facts: pa.Table) -> Thumbnails:
    """Return the thumbnails of a chunk by row number, all held in memory."""
    rows = facts["row"].filter(pc.is_null(facts["problem"]))
    pictures, numbers = chunk.thumbnails(rows), rows.to_numpy()
    order = np.argsort(numbers)
    return lambda wanted: pictures[order[np.searchsorted(numbers[order], wanted)]]


@writes(FATES)
def settle(work: Workspace, number: int, stages: Sequence[str]) -> Work:
    """Task of a chunk: write the rows that stay and those that do not, with their reasons.

    Args:
        stages: Stages that dropped rows, in the order in which they were asked.
    """
    rows = read_bucket([work.uri(ROWS, number)])
    dropped = [read_bucket([work.uri(DROPPED_ROWS, number)])]
    for stage in stages:
        found = work.dropped(stage, number).sort_by("row")
        reasons = pa.array([REASONS[stage]] * found.num_rows, pa.string())
        names = rows.select(["row", "name"]).join(found, "row", join_type="inner").sort_by("row")
        dropped.append(names.append_column("reason", reasons).select(DROPPED.names).cast(DROPPED))
    kept = work.remaining(number, stages)
    repeats = pa.concat_tables([dropped[0].slice(0, 0), *dropped[1:]])
    write_rows(work.uri(KEPT, number), kept)
    profiles = [text.removeprefix(CONVERTED) for text in kept["detail"].to_pylist() if text]
    counts = ChunkCounts(tally=told_of(0, repeats, rows), converted=_sum({}, Counter(profiles)), kept=kept.num_rows)
    return pa.concat_tables(dropped).sort_by("row"), None, counts.to_json()


REASONS = {EXACT: DUPLICATE, NEAR: NEAR_DUPLICATE, CAPTIONS: CAPTION_DUPLICATE}
"""Reason that is counted for each stage that drops rows."""


def stages_of(filters: FilterConfig) -> tuple[str, ...]:
    """Return the stages that look for repetitions, as far as they are asked for."""
    asked = {
        EXACT: filters.duplicates != "keep",
        NEAR: filters.near_duplicates is not None,
        CAPTIONS: filters.caption_duplicates is not None,
    }
    return tuple(stage for stage, is_asked in asked.items() if is_asked)


def save_evaluation(uri: str, sets: EvaluationSets) -> None:
    """Write loaded evaluation sets where every task can read them."""
    prompts = json.dumps(sets.prompts).encode()
    file = io.BytesIO()
    pq.write_table(sets.pictures.replace_schema_metadata({b"infinity.prompts": prompts}), file, compression="zstd")
    storage.write_bytes(uri, file.getbuffer())


def load_evaluation(uri: str) -> EvaluationSets:
    """Return the evaluation sets that ``save_evaluation`` wrote."""
    pictures = pq.read_table(io.BytesIO(storage.read_bytes(uri)))
    prompts = json.loads(pictures.schema.metadata[b"infinity.prompts"])
    return EvaluationSets(prompts=tuple(prompts), pictures=pictures.replace_schema_metadata(None))
