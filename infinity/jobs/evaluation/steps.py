"""Several models and several benchmarks in one go: rewrite prompts, draw pictures, judge and measure, once each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infinity.config import digest_of
from infinity.evaluation.benchmark import Benchmark, BenchmarkResult, EvalTarget, WorkItem
from infinity.evaluation.pictures.store import Drawing, PictureStore
from infinity.evaluation.prompts.benchmark import (
    JudgedPrompts,
    PicturePlace,
    PromptBenchmark,
    PromptItem,
    PromptSample,
    described,
    drawings,
    in_store,
)
from infinity.evaluation.prompts.parts import draw_parts, judge_parts, rewrite_parts
from infinity.evaluation.prompts.rewriting import InstructRewriter
from infinity.jobs.evaluation.parts import Work, WorkerPool
from infinity.jobs.progress import ProgressSink, section

Rewritings = Mapping[tuple[str, str], str]
"""What a rewriter (its digest) made of a prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One model, and everything that is measured of it, with words for people.

    Attributes:
        subject: What the workers load; it names a store.
        measures: What is measured on the data set, and its work.
        benchmarks: What is measured over prompts.
        items: The prompts of every benchmark.
        inputs: Digests of what lies at the places that the spec names, before anything is judged.
    """

    subject: EvalTarget
    measures: Sequence[tuple[str, Benchmark[Any], Sequence[WorkItem[Any]]]]
    benchmarks: Sequence[tuple[str, PromptBenchmark]]
    items: Sequence[tuple[PromptItem, ...]]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> str:
        """URI of the folder of pictures and verdicts, which evaluations share."""
        assert self.subject.store is not None
        return self.subject.store

    @property
    def pictures(self) -> PictureStore:
        """Where this model's drawings lie."""
        assert self.subject.pictures is not None
        return self.subject.pictures


@dataclass(frozen=True, slots=True)
class ModelResults:
    """What was found of one model: outcomes of its measures, then of its benchmarks, and what was asked for these."""

    outcomes: Sequence[BenchmarkResult]
    asked: Sequence[Sequence[PromptSample]]

    def drawings(self, evaluation: Evaluation) -> Iterator[Mapping[str, object]]:
        """A line for every prompt of every benchmark: where its pictures lie."""
        seed = evaluation.subject.seed
        for (_, benchmark), answers in zip(evaluation.benchmarks, self.asked, strict=True):
            for asked in answers:
                pictures = [place.uri for place in asked.places if isinstance(place, PicturePlace)]
                seeds = [] if benchmark.pictures is not None else [seed + j for j in range(len(pictures))]
                yield {"benchmark": benchmark.name, **described(asked), "seeds": seeds, "pictures": pictures}


def compute(evaluations: Sequence[Evaluation], team: WorkerPool, progress: ProgressSink) -> list[ModelResults]:
    """What is found of every evaluation.

    What lies in the store already is not done again: rewritings, drawings, verdicts.

    Raises:
        WorkersError: Workers die.
        Exception: What a part raised.
    """
    rewritings = _rewrite(evaluations, team, section(progress, 0.0, 0.05))
    asked = [list(_ask(evaluation, rewritings)) for evaluation in evaluations]
    _draw(evaluations, asked, team, section(progress, 0.05, 0.6))
    work = [each for pair in zip(evaluations, asked, strict=True) for each in _measure(*pair)]
    states = iter(team.compute(work, section(progress, 0.6, 1.0)))
    findings = []
    for evaluation, answers in zip(evaluations, asked, strict=True):
        found = [measure.outcome(next(states)) for _, measure, _ in evaluation.measures]
        for (_, benchmark), each in zip(evaluation.benchmarks, answers, strict=True):
            found.append(benchmark.outcome(JudgedPrompts(asked=tuple(each), records=next(states))))
        findings.append(ModelResults(found, answers))
    return findings


def _rewrite(evaluations: Sequence[Evaluation], team: WorkerPool, progress: ProgressSink) -> Rewritings:
    """All rewritings by language models, each once however many models draw it."""
    work: dict[str, tuple[InstructRewriter, list[str], Work]] = {}
    for evaluation in evaluations:
        for (name, benchmark), items in zip(evaluation.benchmarks, evaluation.items, strict=True):
            rewriter, prompts = benchmark.rewriter, [item.prompt for item in items]
            if isinstance(rewriter, InstructRewriter) and benchmark.pictures is None:
                parts = rewrite_parts(rewriter, prompts, evaluation.store)
                key = digest_of([rewriter.digest(), evaluation.store, prompts])
                work[key] = rewriter, list(dict.fromkeys(prompts)), Work(f"rewriting {name}", evaluation.subject, parts)
    answers = team.compute([each for _, _, each in work.values()], progress)
    return {
        (rewriter.digest(), prompt): text
        for (rewriter, prompts, _), texts in zip(work.values(), answers, strict=True)
        for prompt, text in zip(prompts, texts, strict=True)
    }


def _ask(evaluation: Evaluation, rewritings: Rewritings) -> Iterator[list[PromptSample]]:
    """For every benchmark its items with their pictures: drawn elsewhere, or to be drawn."""
    for (_, benchmark), items in zip(evaluation.benchmarks, evaluation.items, strict=True):
        if benchmark.pictures is not None:
            yield benchmark.find(benchmark.pictures, items)
            continue
        yield [
            in_store(evaluation.pictures, item, text, _wanted(evaluation, benchmark, text))
            for item, text in zip(items, _texts(benchmark, items, rewritings), strict=True)
        ]


def _texts(benchmark: PromptBenchmark, items: Sequence[PromptItem], rewritings: Rewritings) -> list[str]:
    rewriter, prompts = benchmark.rewriter, [item.prompt for item in items]
    if rewriter is None:
        return prompts
    if isinstance(rewriter, InstructRewriter):
        return [rewritings[rewriter.digest(), prompt] for prompt in prompts]
    return rewriter.rewrite(prompts)


def _wanted(evaluation: Evaluation, benchmark: PromptBenchmark, text: str) -> tuple[Drawing, ...]:
    return drawings(text, benchmark.pictures_per_prompt, evaluation.subject.seed)


def _draw(
    evaluations: Sequence[Evaluation],
    asked: Sequence[Sequence[Sequence[PromptSample]]],
    team: WorkerPool,
    progress: ProgressSink,
) -> None:
    """Draw what any benchmark wants and the store does not have; a model draws each picture once."""
    wanted: dict[PictureStore, tuple[EvalTarget, dict[Drawing, None]]] = {}
    for evaluation, answers in zip(evaluations, asked, strict=True):
        _, drawn = wanted.setdefault(evaluation.pictures, (evaluation.subject, {}))
        for (_, benchmark), each in zip(evaluation.benchmarks, answers, strict=True):
            if benchmark.pictures is None:
                drawn.update(dict.fromkeys(d for one in each for d in _wanted(evaluation, benchmark, one.drawn)))
    work = [
        Work("drawing", subject, draw_parts(store, drawn, subject.batch_size))
        for store, (subject, drawn) in wanted.items()
        if drawn
    ]
    team.compute(work, progress)


def _measure(evaluation: Evaluation, asked: Sequence[Sequence[PromptSample]]) -> Iterator[Work]:
    """The work of the last step: measures on the data set, then verdicts on pictures."""
    subject = evaluation.subject
    for name, _, parts in evaluation.measures:
        yield Work(name, subject, parts)
    for (name, benchmark), each in zip(evaluation.benchmarks, asked, strict=True):
        yield Work(f"judging {name}", subject, judge_parts(benchmark, each, evaluation.store, subject.batch_size))
