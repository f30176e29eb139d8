"""What a report is made of: plain values that the stages' reports are converted to; no job is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from infinity.config import Config
from infinity.data.curation.histograms import Histogram
from infinity.data.curation.rule_counts import RuleCount
from infinity.evaluation.score import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet(Config):
    """One PNG with several pictures side by side.

    Args:
        image: URI of the PNG.
        title: What the sheet shows, for example "step 400".
        captions: Captions of the pictures, row by row; empty when the pictures need none.
    """

    image: str
    title: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSummary(Config):
    """One stage of the run: its folder, duration, settings, and the command that repeats it.

    Args:
        name: Slug, also a key of ``seconds`` in report.json.
        title: Name of the stage, in words.
        folder: URI of the stage's outputs.
        seconds: Duration of the stage when it was computed; a later run that skips it keeps this number.
        command: Shell command that computes the stage's numbers again.
        settings: Spec of the stage, as JSON.
    """

    name: str
    title: str
    folder: str
    seconds: float
    command: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSummary(Config):
    """The funnel of the data stage; ``counts`` has read, kept, unreadable, and one ``dropped_<reason>`` per reason.

    ``rules`` and ``histograms`` say what each filter requires and how its score is distributed.
    """

    counts: dict[str, int]
    ratios: dict[str, int]
    splits: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    caption_examples: tuple[str, ...]
    num_shards: int
    num_bytes: int
    thumbnails: str | None = None
    rules: tuple[RuleCount, ...] = ()
    histograms: tuple[Histogram, ...] = ()

    def __post_init__(self) -> None:
        if missing := [name for name in ("read", "kept") if name not in self.counts]:
            raise ValueError(f"DatasetSummary.counts: expected the numbers read and kept, missing {', '.join(missing)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSummary(Config):
    """One training run.

    Args:
        stage: Slug of the training's stage.
        title: Name of the training, in words.
        metrics: URI of the JSON lines file with one object per logged step.
        final: Last value of each metric.
        samples: Sheets of the same prompts or pictures, in order of their step.
        rows: What the rows of a sheet show, top to bottom; empty where it is not stated.
    """

    stage: str
    title: str
    metrics: str
    final: dict[str, float]
    samples: tuple[Sheet, ...]
    num_parameters: int
    num_steps: int
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary(Config):
    """Everything that the page and report.json say about one end-to-end run.

    Args:
        run_digest: Digest of the run's parameters, 16 hexadecimal digits.
        command: Shell command that repeats the whole run.
        stages: Stages in the order in which they ran.
        pictures: Sheets of the evaluation by name: "samples" or "samples.<task>", "reconstructions", "worst", ....
        notes: Facts that a reader needs to judge the numbers, one sentence each.
    """

    title: str
    run_digest: str
    command: str
    stages: tuple[StageSummary, ...]
    dataset: DatasetSummary
    trainings: tuple[TrainingSummary, ...]
    scores: tuple[Score, ...]
    pictures: dict[str, Sheet]
    notes: tuple[str, ...] = field(default=())
