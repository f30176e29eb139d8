"""Evaluate several models on several benchmarks together: rewrite prompts, draw pictures, judge; each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infinity.config import digest_of
from infinity.evaluation.benchmark import Benchmark, BenchmarkResult, EvalTarget, WorkItem
from infinity.evaluation.model import picture_store
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
"""Rewritten prompts by rewriter (its digest) and prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One model with all of its benchmarks, each with a name in words.

    Attributes:
        target: What the workers load; it names a store.
        prompt_benchmarks: Benchmarks over prompts.
        items: Prompts of every benchmark over prompts.
        inputs: Digests of the inputs that the spec names by location, before anything is judged.
    """

    target: EvalTarget
    data_benchmarks: Sequence[tuple[str, Benchmark[Any], Sequence[WorkItem[Any]]]]
    prompt_benchmarks: Sequence[tuple[str, PromptBenchmark]]
    items: Sequence[tuple[PromptItem, ...]]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> str:
        """URI of the folder of pictures and verdicts, which evaluations share."""
        assert self.target.store is not None
        return self.target.store

    @property
    def pictures(self) -> PictureStore:
        """Store of this model's pictures."""
        store = picture_store(self.target)
        assert store is not None
        return store


@dataclass(frozen=True, slots=True)
class ModelResults:
    """Results of one model: first on the data set, then over prompts; and the samples of the latter."""

    results: Sequence[BenchmarkResult]
    samples: Sequence[Sequence[PromptSample]]

    def drawings(self, evaluation: Evaluation) -> Iterator[Mapping[str, object]]:
        """Yield a line for every prompt of every benchmark: where its pictures lie."""
        seed = evaluation.target.seed
        for (_, benchmark), answers in zip(evaluation.prompt_benchmarks, self.samples, strict=True):
            for sample in answers:
                pictures = [place.uri for place in sample.places if isinstance(place, PicturePlace)]
                seeds = [] if benchmark.pictures is not None else [seed + j for j in range(len(pictures))]
                yield {"benchmark": benchmark.name, **described(sample), "seeds": seeds, "pictures": pictures}


def compute(evaluations: Sequence[Evaluation], pool: WorkerPool, progress: ProgressSink) -> list[ModelResults]:
    """Return the results of every evaluation.

    Rewritings, pictures and verdicts that the store has already are not computed again (decision 21).

    Raises:
        WorkersError: Workers died.
        Exception: An error of a work item.
    """
    rewritings = _rewrite(evaluations, pool, section(progress, 0.0, 0.05))
    samples = [list(_ask(evaluation, rewritings)) for evaluation in evaluations]
    _draw(evaluations, samples, pool, section(progress, 0.05, 0.6))
    work = [each for pair in zip(evaluations, samples, strict=True) for each in _measure(*pair)]
    states = iter(pool.compute(work, section(progress, 0.6, 1.0)))
    models = []
    for evaluation, answers in zip(evaluations, samples, strict=True):
        found = [benchmark.summarize(next(states)) for _, benchmark, _ in evaluation.data_benchmarks]
        for (_, benchmark), each in zip(evaluation.prompt_benchmarks, answers, strict=True):
            found.append(benchmark.summarize(JudgedPrompts(samples=tuple(each), records=next(states))))
        models.append(ModelResults(found, answers))
    return models


def _rewrite(evaluations: Sequence[Evaluation], pool: WorkerPool, progress: ProgressSink) -> Rewritings:
    """Return all rewritings by language models; each is computed once, however many models draw it."""
    work: dict[str, tuple[InstructRewriter, list[str], Work]] = {}
    for evaluation in evaluations:
        for (name, benchmark), items in zip(evaluation.prompt_benchmarks, evaluation.items, strict=True):
            rewriter, prompts = benchmark.rewriter, [item.prompt for item in items]
            if isinstance(rewriter, InstructRewriter) and benchmark.pictures is None:
                parts = rewrite_parts(rewriter, prompts, evaluation.store)
                key = digest_of([rewriter.digest(), evaluation.store, prompts])
                work[key] = rewriter, list(dict.fromkeys(prompts)), Work(f"rewriting {name}", evaluation.target, parts)
    answers = pool.compute([each for _, _, each in work.values()], progress)
    return {
        (rewriter.digest(), prompt): text
        for (rewriter, prompts, _), texts in zip(work.values(), answers, strict=True)
        for prompt, text in zip(prompts, texts, strict=True)
    }


def _ask(evaluation: Evaluation, rewritings: Rewritings) -> Iterator[list[PromptSample]]:
    """Yield the samples of every benchmark: items with their pictures, drawn elsewhere or to be drawn."""
    for (_, benchmark), items in zip(evaluation.prompt_benchmarks, evaluation.items, strict=True):
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
    return drawings(text, benchmark.pictures_per_prompt, evaluation.target.seed)


def _draw(
    evaluations: Sequence[Evaluation],
    samples: Sequence[Sequence[Sequence[PromptSample]]],
    pool: WorkerPool,
    progress: ProgressSink,
) -> None:
    """Draw the pictures that any benchmark needs and the store lacks; a model draws each picture once."""
    wanted: dict[PictureStore, tuple[EvalTarget, dict[Drawing, None]]] = {}
    for evaluation, answers in zip(evaluations, samples, strict=True):
        _, drawn = wanted.setdefault(evaluation.pictures, (evaluation.target, {}))
        for (_, benchmark), each in zip(evaluation.prompt_benchmarks, answers, strict=True):
            if benchmark.pictures is None:
                drawn.update(dict.fromkeys(d for one in each for d in _wanted(evaluation, benchmark, one.drawn)))
    work = [
        Work("drawing", target, draw_parts(store, drawn, target.batch_size))
        for store, (target, drawn) in wanted.items()
        if drawn
    ]
    pool.compute(work, progress)


def _measure(evaluation: Evaluation, samples: Sequence[Sequence[PromptSample]]) -> Iterator[Work]:
    """Yield the work of the last step: benchmarks on the data set, then verdicts on pictures."""
    target = evaluation.target
    for name, _, parts in evaluation.data_benchmarks:
        yield Work(name, target, parts)
    for (name, benchmark), each in zip(evaluation.prompt_benchmarks, samples, strict=True):
        yield Work(f"judging {name}", target, judge_parts(benchmark, each, evaluation.store, target.batch_size))
