"""Scores of a judge's benchmark from the answers about all pictures: means, groups, gaps, cost, and the drift alarm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.bootstrap import mean_interval
from infinity.evaluation.judge.questions import JudgeQuestion, questions_of
from infinity.evaluation.judge.scoring import Mean, Pools, after_dependencies, picture_score
from infinity.evaluation.judge.suites import Suite, is_expected, understood
from infinity.evaluation.prompts.benchmark import JudgedPrompts, Record, note_of_missing
from infinity.evaluation.score import Score, join_notes, slug


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A prompt with an answer to every question.

    Attributes:
        questions: Questions about its pictures.
        soft: Scores of the questions per picture, before dependencies: probabilities, or 0 and 1.
        hard: The same with 0 and 1, by the likeliest answer.
    """

    id: str
    questions: tuple[JudgeQuestion, ...]
    soft: tuple[tuple[float, ...], ...]
    hard: tuple[tuple[float, ...], ...]


def summarize(
    name: str, suite: Suite, results: JudgedPrompts, protocol: str, price: tuple[float, float] | None
) -> BenchmarkResult:
    """Return all scores of a judge's benchmark, in percent.

    Args:
        name: First part of the metrics' names.
        protocol: Everything that the figures depend on.
        price: Price of a million tokens that are read and written, or None.
    """
    answered, gaps = _split(results)
    missing = [f"{item}: {reason}" for item, reason in gaps.items()]
    note = join_notes(_alarm(results.records), note_of_missing(missing, len(results.samples), "prompts"))
    counts = [_gaps(name, results, protocol), *_cost(name, results.records, protocol, price)]
    records = {f"{name}_answers.jsonl": results.lines()}
    if not answered:
        reason = note or "there was no prompt"
        overall = Score.not_measured(f"{name}.overall", "percent", protocol=protocol, reason=reason)
        return BenchmarkResult(scores=(overall, *counts), records=records)
    values = {prompt.id: _value(prompt, suite, suite.mean) for prompt in answered}
    scores = [*_overall(name, suite, answered, values, protocol, note), *_groups(name, suite, answered, protocol, note)]
    items = (
        {f"{name}.overall": {item: 100 * value for item, value in values.items()}} if suite.overall == "prompts" else {}
    )
    return BenchmarkResult(scores=(*scores, *counts), records=records, items=items)


def _split(results: JudgedPrompts) -> tuple[list[AnsweredPrompt], dict[str, str]]:
    """Return the prompts with all answers, and reasons for the others, whose means would not compare."""
    answered, gaps = [], {}
    for sample, record in results:
        reason = record.get("missing") or next((answer["gap"] for answer in _flat(record) if "gap" in answer), None)
        if reason is not None:
            gaps[sample.item.id] = reason
            continue
        questions = questions_of(sample.item)
        hard = tuple(
            tuple(_hard(question, answer) for question, answer in zip(questions, picture, strict=True))
            for picture in record["answers"]
        )
        soft = tuple(
            tuple(answer.get("p", value) for answer, value in zip(picture, row, strict=True))
            for picture, row in zip(record["answers"], hard, strict=True)
        )
        answered.append(AnsweredPrompt(sample.item.id, questions, soft, hard))
    return answered, gaps


def _flat(record: Record) -> Iterator[Mapping[str, Any]]:
    for picture in record.get("answers", ()):
        yield from picture


def _hard(question: JudgeQuestion, answer: Mapping[str, Any]) -> float:
    reply = understood(question, str(answer["reply"]))
    return float(reply is not None and is_expected(question, reply))


def _value(prompt: AnsweredPrompt, suite: Suite, mean: Mean, *, hard: bool = False, dependent: bool = True) -> float:
    """Return the mean over a prompt's pictures."""
    values = []
    for scores in prompt.hard if hard else prompt.soft:
        after = after_dependencies(prompt.questions, scores) if suite.dependent and dependent else scores
        values.append(picture_score(prompt.questions, after, mean))
    return sum(values) / len(values)


def _overall(
    name: str, suite: Suite, answered: Sequence[AnsweredPrompt], values: Mapping[str, float], protocol: str, note: str
) -> Iterator[Score]:
    if suite.overall == "prompts":
        yield _mean(f"{name}.overall", list(values.values()), protocol, note)
    else:
        pools, pictures = _pools(suite, answered), sum(len(prompt.soft) for prompt in answered)
        value, interval = pools.overall(pooled=suite.overall == "dimensions")
        yield _score(f"{name}.overall", 100 * value, _scaled(interval), pictures, protocol, note)
        yield _mean(f"{name}.mean_over_prompts", list(values.values()), protocol, note)
    others: dict[str, Callable[[AnsweredPrompt], float]] = {}
    if suite.mean == "geometric":
        others["arithmetic"] = lambda prompt: _value(prompt, suite, "arithmetic")
    if suite.soft:
        others["likeliest"] = lambda prompt: _value(prompt, suite, "arithmetic", hard=True)
    if suite.dependent:
        others["without_dependencies"] = lambda prompt: _value(prompt, suite, suite.mean, dependent=False)
    for part, figure in others.items():
        yield _mean(f"{name}.{part}", [figure(prompt) for prompt in answered], protocol, note)


def _groups(name: str, suite: Suite, answered: Sequence[AnsweredPrompt], protocol: str, note: str) -> Iterator[Score]:
    pools = _pools(suite, answered)
    for group in sorted(pools.groups):
        value, number, interval = pools.group(group)
        yield _score(f"{name}.group.{slug(group)}", 100 * value, _scaled(interval), number, protocol, note)
    if suite.by_prompt:
        by_dimension: dict[str, list[float]] = {}
        for prompt in answered:
            value = _value(prompt, suite, suite.mean)
            by_dimension.setdefault(prompt.questions[0].dimension, []).append(value)
        for dimension, found in sorted(by_dimension.items()):
            yield _mean(f"{name}.prompts.{slug(dimension)}", found, protocol, note)
        return
    for dimension in sorted({each for each in pools.groups.values() if each} - set(pools.groups)):
        value, number, interval = pools.dimension(dimension)
        yield _score(f"{name}.dimension.{slug(dimension)}", 100 * value, _scaled(interval), number, protocol, note)


def _pools(suite: Suite, answered: Sequence[AnsweredPrompt]) -> Pools:
    groups = {
        question.group: "" if suite.by_prompt else question.dimension
        for prompt in answered
        for question in prompt.questions
        if question.group
    }
    pools = Pools(groups)
    for prompt in answered:
        pools.add(
            prompt.questions,
            [after_dependencies(prompt.questions, s) if suite.dependent else s for s in prompt.soft],
        )
    return pools


def _gaps(name: str, results: JudgedPrompts, protocol: str) -> Score:
    """Return the number of questions without an answer, of all that should have been asked."""
    reasons: Counter[str] = Counter()
    total = 0
    for sample, record in results:
        expected = len(sample.item.about["questions"]) * max(1, len(sample.places))
        total += expected
        if "missing" in record:
            reasons[f"picture missing ({record['missing']})"] += expected
        reasons.update(answer["gap"] for answer in _flat(record) if "gap" in answer)
    most = "; ".join(f"{number} times: {reason}" for reason, number in reasons.most_common(3))
    return Score(
        metric=f"{name}.gaps", value=float(reasons.total()), unit="questions", n=total, protocol=protocol,
        note=join_notes("questions without an answer; their prompts are in no mean", most),
    )  # fmt: skip


def _cost(name: str, records: Sequence[Record], protocol: str, price: tuple[float, float] | None) -> Iterator[Score]:
    """Yield the tokens that an endpoint counted, with their cost where the price is known."""
    read, written = (sum(record.get("tokens", (0, 0))[side] for record in records) for side in (0, 1))
    if read + written == 0:
        return
    known = "" if price is None else f"cost {(read * price[0] + written * price[1]) / 1e6:.4f} at {price[0]:g} and "
    cost = "" if price is None else f"{known}{price[1]:g} per million"
    about = f"{read} read, {written} written; failed requests are not counted"
    yield Score(
        metric=f"{name}.tokens", value=float(read + written), unit="tokens",
        n=sum(1 for record in records for _ in _flat(record)), protocol=protocol, note=join_notes(about, cost),
    )  # fmt: skip


def _alarm(records: Sequence[Record]) -> str:
    """Return a warning where the judge answers its probes otherwise than recorded, or two versions answered."""
    versions = sorted({version for record in records for version in record.get("versions", ())})
    mixed = f"JUDGE CHANGED: {len(versions)} versions answered ({', '.join(versions)})" if len(versions) > 1 else ""
    if silent := max((record["probes"].get("silent", 0) for record in records if record.get("probes")), default=0):
        mixed = join_notes(mixed, f"{silent} probes of the judge got no answer in time")
    drifted = [probes for record in records if (probes := record.get("probes")) and probes["changed"]]
    if not drifted:
        return mixed
    worst = max(drifted, key=lambda probes: (probes["changed"], probes["largest"]))
    return join_notes(
        f"JUDGE DRIFT: {worst['changed']} of {worst['number']} probes are answered otherwise than recorded, by up to "
        f"{worst['largest']:.3g} (first: {worst['first']}); these scores do not compare with earlier ones", mixed,
    )  # fmt: skip


def _mean(metric: str, values: Sequence[float], protocol: str, note: str) -> Score:
    # In this order, so that the last digit is that of the public scripts.
    value = 100 * sum(values) / len(values)
    return _score(metric, value, _scaled(mean_interval(values)), len(values), protocol, note)


def _score(metric: str, value: float, interval: tuple[float, float] | None, n: int, protocol: str, note: str) -> Score:
    return Score.resampled(metric, value, "percent", n, interval, protocol=protocol, note=note)


def _scaled(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
