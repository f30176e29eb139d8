"""The fate of all rows of a data set's sources, or of a parent's, and the words for a data set that cannot be made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pyarrow as pa

from infinity.data.curation.decisions import decide
from infinity.data.curation.decontamination import load_evaluation_sets
from infinity.data.curation.facts import CONVERTED
from infinity.data.curation.histograms import Histogram
from infinity.data.curation.rule_counts import RuleCount
from infinity.data.curation.takedown import TakedownList, split_taken_down
from infinity.data.dataset.layout import samples_of
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ManifestHead
from infinity.data.sources.checking import UNREADABLE, Tally
from infinity.jobs.dataset.facts import DatasetError, SourceTable
from infinity.jobs.dataset.spec import BuildDatasetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterDecisions:
    """Samples that stay, and what the manifest tells about the others."""

    kept: pa.Table
    tally: Tally
    rules: tuple[RuleCount, ...]
    histograms: tuple[Histogram, ...]
    dropped: pa.Table | None = None
    converted: dict[str, int] = field(default_factory=dict)
    cleaned: dict[str, int] = field(default_factory=dict)

    def without_rows(self) -> FilterDecisions:
        """Return the decisions without the rows that stay: what the manifest tells about the others."""
        return replace(self, kept=self.kept.schema.empty_table(), dropped=None)


def decide_rows(spec: BuildDatasetSpec, rows: SourceTable, takedown: TakedownList) -> FilterDecisions:
    """Decide on all rows; what was taken down is out before duplicates are looked for."""
    facts, taken = split_taken_down(rows.facts, takedown)
    evaluation = load_evaluation_sets(spec.filters.evaluation, spec.filters.max_pixels)
    compares = spec.filters.near_duplicates is not None or bool(spec.filters.evaluation.pictures)
    thumbnails = rows.thumbnails().of if compares else None
    decisions = decide(facts, spec.filters, evaluation, thumbnails)
    tally = taken + decisions.tally
    refuse_unreadable(spec, tally)
    return FilterDecisions(
        kept=decisions.kept,
        tally=tally,
        rules=decisions.rules,
        histograms=decisions.histograms,
        dropped=decisions.dropped,
        converted=_converted(decisions.kept),
        cleaned=decisions.cleaned,
    )


def _converted(kept: pa.Table) -> dict[str, int]:
    """Return the number of pictures by colour profile."""
    told = kept["detail"].drop_null().to_pylist()
    names = (text.removeprefix(CONVERTED) for text in told if text.startswith(CONVERTED))
    return dict(sorted(Counter(names).items()))


def decide_again(parent: Manifest, takedown: TakedownList) -> FilterDecisions:
    """Return the parent without what was taken down, from its manifest alone: sources and facts may be gone."""
    kept, taken = split_taken_down(samples_of(parent.table), takedown)
    return told_again(parent.head, kept, taken, takedown)


def told_again(head: ManifestHead, kept: pa.Table, taken: Tally, takedown: TakedownList) -> FilterDecisions:
    """Return what a parent's head tells, with what was taken down since.

    Args:
        kept: Samples that stay.
        taken: Counts of those that were taken down.
        takedown: What had to go.
    """
    dropped = {
        name.removeprefix("dropped_"): number for name, number in head.counts.items() if name.startswith("dropped_")
    }
    before = Tally(
        read=head.counts["read"] - taken.read, dropped=dropped, unreadable=head.unreadable, examples=head.examples
    )
    if takedown.digests or takedown.domains or takedown.phash:  # any example may tell of what must not be left
        before = replace(before, examples={})
    if takedown.digests:
        taken = replace(taken, examples={})
    return FilterDecisions(
        kept=kept,
        tally=before + taken,
        rules=head.rules,
        histograms=head.histograms,
        converted=head.converted,
        cleaned=head.cleaned,
    )


def counts_of(tally: Tally, kept: int) -> dict[str, int]:
    unreadable, dropped = sum(tally.unreadable.values()), sum(tally.dropped.values())
    if tally.read != kept + dropped + unreadable:
        raise RuntimeError(f"{tally.read} read, but {kept} kept + {dropped} dropped + {unreadable} unreadable")
    counts = {"read": tally.read, "kept": kept, UNREADABLE: unreadable}
    return counts | {f"dropped_{reason}": number for reason, number in tally.dropped.items()}


def refuse_unreadable(spec: BuildDatasetSpec, tally: Tally) -> None:
    """Require that enough rows can be read.

    Raises:
        DatasetError: A larger share than the spec allows cannot be read.
    """
    unreadable = sum(tally.unreadable.values())
    if unreadable > spec.max_unreadable_share * tally.read:
        raise DatasetError(
            f"{_name(spec)}: {unreadable} of {tally.read} pictures cannot be read ({_reasons(tally.unreadable)}), more "
            f"than the allowed share of {spec.max_unreadable_share:g}; {_for_example(tally)}"
        )


def _name(spec: BuildDatasetSpec) -> str:
    return spec.source or ("drawn scenes" if spec.scenes else str(spec.parent))


def nothing_left(spec: BuildDatasetSpec, tally: Tally, hint: str = "") -> str:
    """Return the words for a data set without a picture.

    Args:
        tally: Counts of all rows.
        hint: Further advice where no row has a caption.
    """
    if not tally.read:
        return f"{_name(spec)}: found no rows"
    left_out = tally.dropped | {f"{UNREADABLE}_{reason}": number for reason, number in tally.unreadable.items()}
    if set(tally.dropped) == {"caption_missing"}:
        return (
            f"{_name(spec)}: no captions at all: {_reasons(left_out)} of {tally.read} pictures; give each a row "
            f"with a text in metadata.jsonl, or a .txt of its name beside it; {f'{hint}; ' if hint else ''}"
            f"{_for_example(tally)}"
        )
    return f"{_name(spec)}: no picture is left of {tally.read} ({_reasons(left_out)}); {_for_example(tally)}"


def _reasons(numbers: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(numbers.items(), key=lambda item: -item[1]))


def _for_example(tally: Tally) -> str:
    return "for example " + "; ".join(examples[0] for examples in tally.examples.values())
