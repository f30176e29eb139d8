"""A judge's benchmark over prompts: pictures in, answers kept per item, scores with gaps, cost and judge in sight."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.judge import published
from infinity.evaluation.judge.answers import (
    Answerer,
    JudgeAnswer,
    JudgeConfig,
    WholeQuestions,
    load_judge,
    version_of,
)
from infinity.evaluation.judge.probes import ProbeRun, ProbeSet, drift
from infinity.evaluation.judge.published import SCRIPTS, Checkout
from infinity.evaluation.judge.questions import JudgeQuestion, QuestionFile, items_of, questions_of
from infinity.evaluation.judge.suites import SUITES, Suite, SuiteName
from infinity.evaluation.judge.summary import summarize
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Picture
from infinity.evaluation.prompts.benchmark import (
    JudgedPrompts,
    MissingPicture,
    PromptItem,
    PromptSample,
    Record,
    complete,
)
from infinity.evaluation.prompts.found import Layout, in_folders_or_flat, in_folders_or_long
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.lists import describe
from infinity.perception.language.endpoint import EndpointConfig

RULES = "judge/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeBenchmark(ListedBenchmark):
    """Questions about pictures that a judge answers.

    Attributes:
        suite: Benchmark: geneval2, dsg, tifa, tiif, tiif_long, unigenbench, vqascore, or questions of your own.
        questions: Files of questions, by path or URL.
        answerer: Judge: a local model ("kind": "local") or an endpoint ("kind": "endpoint").
        probes: Pictures and questions with known answers, which show whether the judge has changed; or None.
        checkout: Checkout of the benchmark's repository, to ask in its published form, one request per picture
            (tiif, tiif_long and unigenbench); None asks every question in a request of its own.
        again: Number to raise, to ask again what an earlier evaluation could not get because of time-outs. Answers that
            were given are kept.
    """

    later: ClassVar[frozenset[str]] = frozenset({"again", "checkout"})

    suite: SuiteName
    questions: tuple[QuestionFile, ...]
    answerer: JudgeConfig
    probes: ProbeSet | None = None
    checkout: Checkout | None = None
    again: int = 0

    def __post_init__(self) -> None:
        if not self.questions:
            raise ValueError("JudgeBenchmark.questions: expected at least one file, got none")
        if self.checkout is not None and self._published not in SCRIPTS:
            raise ValueError(
                f"JudgeBenchmark.checkout: expected one with {' or '.join(SCRIPTS)}, got it with {self.suite}, which "
                "asks one question per request; leave it out"
            )

    @property
    def rules(self) -> Suite:
        """What the benchmark asks, and its formula."""
        suite = SUITES[self.suite]
        if self.checkout is None:
            return suite
        return dataclasses.replace(suite, source=published.describe(self._published, self.checkout))

    @property
    def _published(self) -> str:
        """Name of the published form: long prompts are asked about as short ones are."""
        return self.suite.removesuffix("_long")

    @property
    def metric(self) -> str:
        """First part of the names of metrics; every suite has names of its own."""
        return f"judge_{self.suite}"

    @property
    def layout(self) -> Layout:
        """Layout of folders of pictures that were drawn elsewhere; TIIF-Bench keeps those of long prompts apart."""
        return in_folders_or_long if self.suite == "tiif_long" else in_folders_or_flat

    def all_items(self) -> list[PromptItem]:
        """Return all prompts with their questions.

        Raises:
            ValueError: A file has a line that cannot be read, an id twice, or no prompt.
            StorageError: A file is missing.
        """
        found: dict[str, PromptItem] = {}
        for source in self.questions:
            items = items_of(source, SUITES[self.suite].read)
            if self.checkout is not None:
                items = published.with_requests(self._published, self.checkout, source, items)
            for name, item in items.items():
                if found.setdefault(name, item) is not item:
                    raise ValueError(f"{source.file.uri}: the id {name!r} is in another file of questions too")
        return list(found.values())

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that an answer depends on: the judge and the wording."""
        rules = SUITES[self.suite]
        # A published form is part of each item, and so of what its verdict is named by.
        wording = [rules.wording if self.checkout is None else "published", rules.soft]
        return {"rules": RULES, "wording": wording, "judge": [self.answerer.kind, self.answerer.answer_settings()]}

    def judge(self, networks: Networks) -> PictureJudge:
        """Return the judge, with its model loaded and its probes asked."""
        about = None if self.probes is None else ProbeRun(probes=self.probes, judge=self.answerer, suite=self.suite)
        return PictureJudge(
            load_judge(networks, self.answerer, whole=self.checkout is not None),
            SUITES[self.suite],
            None if about is None else drift(networks, about),
        )

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``<name>.overall``, its other means, groups, gaps, and the tokens that an endpoint counted."""
        price = self.answerer.price_per_million if isinstance(self.answerer, EndpointConfig) else None
        return summarize(self.name, self.rules, results, self._protocol(results), price)

    def _protocol(self, results: JudgedPrompts) -> str:
        versions = sorted({version for record in results.records for version in record.get("versions", ())})
        judge = (
            f"endpoint model {self.answerer.model}"
            if isinstance(self.answerer, EndpointConfig)
            else self.answerer.vqa.describe()
        )
        answered = ", ".join(filter(None, (version_of(self.answerer), *versions))) or "version not stated"
        sources = "; ".join(
            f"{source.file.uri.rsplit('/', 1)[-1]} {checksum(source)}, licence: {source.licence}"
            for source in self.questions
        )
        return (
            f"{RULES} {self.suite}: {self.rules.title}; {self.rules.describe()}; judge: {judge} ({answered}); "
            f"questions: {sources}; {describe([sample.item for sample in results.samples])}, "
            f"{self.pictures_per_prompt} pictures each, {self.drawing()}"
        )


def checksum(source: QuestionFile) -> str:
    """Return the checksum of a file of questions as it lies there, 16 digits of sha256."""
    return f"sha256 {source.file.content_digest()[:16]}"


@dataclass(frozen=True, slots=True)
class PictureJudge:
    """Judge of pictures by questions.

    Attributes:
        probes: How the judge answers the probes now, or None.
    """

    answerer: Answerer
    suite: Suite
    probes: Mapping[str, Any] | None = None

    def __call__(
        self, samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> list[Record]:
        """Return the answers about all pictures of every item; an item with a missing picture is not asked about."""
        waiting: list[tuple[Picture, JudgeQuestion]] = []
        whole: list[WholeQuestions] = []
        plan: list[tuple[int, int] | str] = []
        for sample, found in zip(samples, pictures, strict=True):
            usable = complete(found)
            if isinstance(usable, str):
                plan.append(usable)
                continue
            questions = questions_of(sample.item)
            plan.append((len(usable), len(questions)))
            request = published.request_of(sample.item)
            if request is None:
                waiting += [(picture, question) for picture in usable for question in questions]
            else:
                whole += [WholeQuestions(picture=one, request=request, questions=questions) for one in usable]
        # A benchmark asks in one of the two ways.
        replies = self.answerer.answer_whole(whole) if whole else [self.answerer.answer(self.suite, waiting)]
        answers = chain.from_iterable(replies)
        return [self._record(each, answers) for each in plan]

    def _record(self, plan: tuple[int, int] | str, answers: Iterator[JudgeAnswer]) -> Record:
        if isinstance(plan, str):
            return {"missing": plan}
        number, questions = plan
        found = [[next(answers) for _ in range(questions)] for _ in range(number)]
        flat = [answer for picture in found for answer in picture]
        versions = sorted({answer.version for answer in flat if answer.version})
        tokens = [sum(answer.read for answer in flat), sum(answer.written for answer in flat)]
        record: dict[str, Any] = {"answers": [[answer.to_record() for answer in picture] for picture in found]}
        record |= {"versions": versions} if versions else {}
        record |= {"tokens": tokens} if any(tokens) else {}
        record |= {"probes": dict(self.probes)} if self.probes is not None else {}
        return record | ({"passing": True} if any(answer.passing for answer in flat) else {})
