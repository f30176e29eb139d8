"""From facts and settings to what is kept: a pure function that opens no picture and does not depend on any order.

Every row has exactly one fate: unreadable, dropped for the first reason that applies, or kept. Reasons are asked in
this order: the caption is missing or damaged, thresholds on scores, a picture of an evaluation set, duplicates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float

from infinity.data.curation.caption_cleaning import is_nonsense, without_marks
from infinity.data.curation.caption_scores import caption_scores, is_damaged
from infinity.data.curation.decontamination import EvaluationSets, matching_captions, matching_pictures
from infinity.data.curation.filters import (
    CAPTION_DAMAGED,
    CAPTION_DUPLICATE,
    CAPTION_MISSING,
    DUPLICATE,
    EVALUATION_CAPTION,
    EVALUATION_PICTURE,
    MODEL_SCORES,
    NEAR_DUPLICATE,
    FilterConfig,
    ScoreRule,
)
from infinity.data.curation.histograms import Histogram
from infinity.data.curation.languages import language_shares
from infinity.data.curation.rule_counts import RuleCount
from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.duplicates import Match, caption_duplicates, exact_duplicates, near_duplicates
from infinity.data.dedup.near_duplicates import Thumbnails
from infinity.data.sources.checking import EXAMPLES, UNREADABLE, Tally, printable

DROPPED = pa.schema([("row", pa.int64()), ("name", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
"""Every row that is not kept, and why; unreadable ones with reason ``unreadable_<slug>``."""

_PREFIX = f"{UNREADABLE}_"
_CAPTIONS_AT_ONCE = 8192


class MissingScoreError(ValueError):
    """A rule asks for a score that no model has written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """The fate of every row.

    Attributes:
        kept: Facts of the pictures that stay, by row.
        dropped: Columns of ``DROPPED``, by row; all the others.
        tally: Counts and examples.
        rules: All rules, also those that are off, in the order in which they are asked.
        histograms: One histogram per score, over all readable pictures.
        cleaned: Number of captions by what was removed from them.
    """

    kept: pa.Table
    dropped: pa.Table
    tally: Tally
    rules: tuple[RuleCount, ...]
    histograms: tuple[Histogram, ...]
    cleaned: dict[str, int] = field(default_factory=dict)


class _RowReasons:
    """The reason of each row, set once."""

    def __init__(self, facts: pa.Table) -> None:
        self.facts = facts
        self.open: Bool[np.ndarray, " n"] = np.ones(facts.num_rows, bool)
        """Rows that have no reason yet, as a mask."""
        self.dropped: dict[int, tuple[str, str]] = {}
        """Reason and detail of the others, by their place."""
        self.rules: list[RuleCount] = []

    def drop(self, reason: str, setting: str, rejected: Bool[np.ndarray, " n"], details: Sequence[str]) -> None:
        """Give the reason to the rejected rows that have none; ``details`` are those of all rejected rows."""
        before = len(self.dropped)
        for place, detail in zip(np.flatnonzero(rejected).tolist(), details, strict=True):
            if self.open[place]:
                self.dropped[place] = (reason, detail)
        self.open &= ~rejected
        self.rules.append(RuleCount(reason=reason, setting=setting, dropped=len(self.dropped) - before))

    def drop_matches(self, reason: str, setting: str, find: Callable[[pa.Table], Sequence[Match]] | None) -> None:
        """Drop what matches something that stays, among the rows without a reason; None finds nothing."""
        rejected, matches = np.zeros(len(self.open), bool), list[Match]()
        places = np.flatnonzero(self.open)
        if find is not None:
            everything = len(places) == len(self.open)
            matches = sorted(find(self.facts if everything else self.facts.take(pa.array(places))), key=_index)
        rejected[places[[match.index for match in matches]]] = True
        self.drop(reason, setting, rejected, [match.detail for match in matches])


def _index(match: Match) -> int:
    return match.index


def decide(
    facts: pa.Table,
    filters: FilterConfig,
    evaluation: EvaluationSets | None = None,
    thumbnails: Thumbnails | None = None,
) -> Decisions:
    """Give every row of a source its fate.

    Args:
        facts: Columns of ``FACTS`` of all slices, in any order, and a column for each score of a model.
        filters: Rules that leave pictures out.
        evaluation: The evaluation sets that the filters name, loaded.
        thumbnails: Function from row numbers to thumbnails; None takes them from the column ``thumbnail``.

    Raises:
        ValueError: The filters name evaluation sets, and none are given.
        MissingScoreError: A rule asks for a score that is not there, or not there for every readable picture.
    """
    facts, cleaned = without_marks(_by_row(facts))
    readable = facts.filter(pc.is_null(facts["problem"])) if facts["problem"].null_count < facts.num_rows else facts
    fates = _RowReasons(readable)
    missing = np.fromiter((not caption for caption in _captions(readable)), bool, readable.num_rows)
    details = readable["detail"].filter(pa.array(missing)).to_pylist()
    fates.drop(CAPTION_MISSING, "caption", missing, [detail or "" for detail in details])
    damaged = np.fromiter((is_damaged(caption) for caption in _captions(readable)), bool, readable.num_rows)
    fates.drop(CAPTION_DAMAGED, "caption", damaged, [""] * int(damaged.sum()))
    _drop_nonsense(fates, filters)
    histograms = _drop_by_scores(fates, filters)
    _drop_evaluation(fates, filters, evaluation, thumbnails)
    _drop_duplicates(fates, filters, thumbnails)
    dropped = _dropped(facts, fates)
    return Decisions(
        kept=readable if fates.open.all() else readable.filter(pa.array(fates.open)),
        dropped=dropped,
        tally=told_of(facts.num_rows, dropped, readable),
        rules=tuple(fates.rules),
        histograms=histograms,
        cleaned=cleaned,
    )


def _by_row(facts: pa.Table) -> pa.Table:
    """Return the rows in order, without a copy where they are in order already."""
    rows = facts["row"].to_numpy()
    return facts if (np.diff(rows) > 0).all() else facts.sort_by("row").combine_chunks()


def _captions(readable: pa.Table) -> Iterator[str]:
    """Yield all captions, of which some thousand are Python's texts at a time."""
    for batch in readable.select(["caption"]).to_batches(max_chunksize=_CAPTIONS_AT_ONCE):
        yield from batch["caption"].to_pylist()


def _drop_nonsense(fates: _RowReasons, filters: FilterConfig) -> None:
    """Drop captions that describe nothing; a kind that is not asked for is no rule."""
    for kind in filters.captions.rejects:
        rejected = np.fromiter((is_nonsense(text, kind) for text in _captions(fates.facts)), bool, len(fates.open))
        fates.drop(f"caption_{kind}", "on", rejected, [""] * int(rejected.sum()))


def _drop_by_scores(fates: _RowReasons, filters: FilterConfig) -> tuple[Histogram, ...]:
    """Ask the rules on scores, and count; only then are duplicates looked for, which need the memory of the scores."""
    scores = all_scores(fates.facts, filters)
    for rule in filters.rules():
        _apply(fates, rule, scores)
    limits = {rule.score: (rule.minimum, rule.maximum) for rule in filters.rules() if rule.is_on}
    ranges = {rule.score: rule.score_range for rule in filters.rules()}
    return tuple(
        Histogram.of(name, values, *limits.get(name, (None, None)), ranges.get(name, (0.0, 1.0)))
        for name, values in scores.items()
    )


def all_scores(readable: pa.Table, filters: FilterConfig) -> dict[str, Float[np.ndarray, " n"]]:
    """Return every score of readable pictures by its name.

    Raises:
        MissingScoreError: A rule asks for a score that some readable picture does not have.
    """
    width, height = (readable[name].to_numpy().astype(np.float64) for name in ("width_px", "height_px"))
    scores = caption_scores(_captions(readable), filters.captions.script)
    if filters.captions.languages:
        scores["language_share"] = language_shares(_captions(readable), filters.captions.languages)
    scores |= {
        "side_px": np.minimum(width, height),
        "num_pixels": width * height,
        "elongation": np.maximum(width, height) / np.minimum(width, height),
        "contrast": readable["contrast"].to_numpy().astype(np.float64),
        "sharpness": readable["sharpness"].to_numpy().astype(np.float64),
    }
    needed = tuple(rule.score for rule in filters.rules() if rule.is_on)
    for name in dict.fromkeys((*MODEL_SCORES, *needed)):  # also scores of rules that a subclass of the filters adds
        if name not in scores and name in readable.column_names and readable[name].null_count == 0:
            scores[name] = readable[name].to_numpy().astype(np.float64)
    for name in needed:
        if name not in scores or np.isnan(scores[name]).any():
            raise MissingScoreError(_missing(name, readable))
    return scores


def _missing(name: str, readable: pa.Table) -> str:
    if name not in readable.column_names:
        return f"a filter asks for the score {name}, which no model has written; score the pictures first"
    values = readable[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    absent = np.flatnonzero(np.isnan(values))
    return (
        f"a filter asks for the score {name}, which {len(absent)} of {readable.num_rows} pictures do not have, for "
        f"example {readable['name'][int(absent[0])].as_py()}; score them first"
    )


def _apply(fates: _RowReasons, rule: ScoreRule, scores: dict[str, Float[np.ndarray, " n"]]) -> None:
    rejected = np.zeros(len(fates.open), bool)
    if rule.is_on:
        values = scores[rule.score]
        if rule.minimum is not None:
            rejected |= values < rule.minimum
        if rule.maximum is not None:
            rejected |= values > rule.maximum
        details = [f"{rule.score} {value:.4g}" for value in values[rejected].tolist()]
    else:
        details = []
    fates.drop(rule.reason, _setting(rule), rejected, details)


def _setting(rule: ScoreRule) -> str:
    limits = [f"at least {rule.minimum:g}"] if rule.minimum is not None else []
    limits += [f"at most {rule.maximum:g}"] if rule.maximum is not None else []
    return f"{rule.score} {' and '.join(limits)}" if limits else "off"


def _drop_evaluation(
    fates: _RowReasons, filters: FilterConfig, evaluation: EvaluationSets | None, thumbnails: Thumbnails | None
) -> None:
    sets = filters.evaluation
    if (sets.prompts or sets.pictures) and evaluation is None:
        raise ValueError("decide: the filters name evaluation sets; load them and hand them in")
    prompts = (
        partial(matching_captions, prompts=evaluation.prompts, config=sets) if evaluation and sets.prompts else None
    )
    setting = f"{len(sets.prompts)} prompt lists, {sets.containment:g} of {sets.ngram} words" if sets.prompts else "off"
    fates.drop_matches(EVALUATION_CAPTION, setting, prompts)

    def pictures(rows: pa.Table) -> Sequence[Match]:
        assert evaluation is not None
        return matching_pictures(rows, evaluation.pictures, sets, _by_place(rows, thumbnails))

    setting = f"{len(sets.pictures)} sets, {_near(sets.near)}" if sets.pictures else "off"
    fates.drop_matches(EVALUATION_PICTURE, setting, pictures if sets.pictures else None)


def _drop_duplicates(fates: _RowReasons, filters: FilterConfig, thumbnails: Thumbnails | None) -> None:
    same, near, alike = filters.duplicates, filters.near_duplicates, filters.caption_duplicates
    exact = None if same == "keep" else partial(exact_duplicates, duplicates=same)
    settings = repeat_settings(filters)
    fates.drop_matches(DUPLICATE, settings[DUPLICATE], exact)

    def looks(rows: pa.Table) -> Sequence[Match]:
        assert near is not None
        return near_duplicates(rows, near, thumbnails=_by_place(rows, thumbnails))

    fates.drop_matches(NEAR_DUPLICATE, settings[NEAR_DUPLICATE], looks if near else None)
    captions = partial(caption_duplicates, limits=alike) if alike else None
    fates.drop_matches(CAPTION_DUPLICATE, settings[CAPTION_DUPLICATE], captions)


def repeat_settings(filters: FilterConfig) -> dict[str, str]:
    """Return the settings of the rules against repetitions in words, by their reason."""
    near, alike = filters.near_duplicates, filters.caption_duplicates
    return {
        DUPLICATE: "off" if filters.duplicates == "keep" else filters.duplicates,
        NEAR_DUPLICATE: _near(near) if near else "off",
        CAPTION_DUPLICATE: f"similarity at least {alike.similarity:g}, {alike.scope}" if alike else "off",
    }


def _by_place(rows: pa.Table, thumbnails: Thumbnails | None) -> Thumbnails | None:
    """Return thumbnails by place in a table, from thumbnails by number of row."""
    if thumbnails is None:
        return None
    numbers = rows["row"].to_numpy()
    return lambda places: thumbnails(numbers[places])


def _near(limits: NearDuplicates) -> str:
    return f"hash at most {limits.distance} bits, colours at most {limits.difference:g} levels"


def _dropped(facts: pa.Table, fates: _RowReasons) -> pa.Table:
    unreadable = facts.filter(pc.is_valid(facts["problem"]))
    closed = sorted(fates.dropped)
    rejected = fates.facts.select(["row", "name"]).take(pa.array(closed, pa.int64()))
    reasons, details = zip(*(fates.dropped[place] for place in closed), strict=True) if closed else ((), ())
    rows = {
        "row": unreadable["row"].to_pylist() + rejected["row"].to_pylist(),
        "name": unreadable["name"].to_pylist() + rejected["name"].to_pylist(),
        "reason": [_PREFIX + slug for slug in unreadable["problem"].to_pylist()] + list(reasons),
        "detail": unreadable["detail"].to_pylist() + list(details),
    }
    return pa.Table.from_pydict(rows, schema=DROPPED).sort_by("row")


def told_of(num_rows: int, dropped: pa.Table, readable: pa.Table) -> Tally:
    """Return counts and examples of dropped rows.

    Args:
        num_rows: Number of rows that were read.
        dropped: Columns of ``DROPPED``, by row.
        readable: Facts of all readable pictures.
    """
    counts = dict(sorted(Counter(dropped["reason"].to_pylist()).items()))
    unreadable = {slug.removeprefix(_PREFIX): n for slug, n in counts.items() if slug.startswith(_PREFIX)}
    examples: dict[str, tuple[str, ...]] = {}
    for reason in counts:
        lines = dropped.filter(pc.equal(dropped["reason"], reason)).slice(0, EXAMPLES).to_pylist()
        facts = readable.filter(pc.is_in(readable["row"], pa.array([line["row"] for line in lines])))
        described = {row["row"]: row for row in facts.select(["row", "width_px", "height_px", "caption"]).to_pylist()}
        examples[reason] = tuple(printable(_example(line, described.get(line["row"]))) for line in lines)
    return Tally(
        read=num_rows,
        dropped={reason: n for reason, n in counts.items() if not reason.startswith(_PREFIX)},
        unreadable=unreadable,
        examples=examples,
    )


def _example(line: dict[str, str], facts: dict[str, object] | None) -> str:
    if facts is None:
        return f"{line['name']}: {line['reason'].removeprefix(_PREFIX)}, {line['detail']}"
    caption = str(facts["caption"])
    caption = caption if len(caption) <= 80 else caption[:79] + "…"
    detail = f", {line['detail']}" if line["detail"] else ""
    return f"{line['name']} ({facts['width_px']} x {facts['height_px']}): {caption!r}{detail}"
