"""Judges that answer: a local vision-language model or an OpenAI-compatible endpoint; no answer is a gap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from infinity.config import Config
from infinity.evaluation.judge.published import WholeRequest, answers_of
from infinity.evaluation.judge.questions import JudgeQuestion
from infinity.evaluation.judge.suites import Suite, accepted, answer_words, asked, understood
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Picture
from infinity.perception.language.endpoint import Endpoint, EndpointConfig, EndpointReply, Instruction
from infinity.perception.language.vqa import Vqa, VqaConfig
from infinity.perception.loading import folder_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalJudge(Config):
    """A vision-language model of transformers on this machine.

    Attributes:
        vqa: Model; its instruction is replaced by the benchmark's wording.
        kind: Tag that tells this judge from others in JSON.
    """

    vqa: VqaConfig
    kind: Literal["local"] = "local"

    def answer_settings(self) -> dict[str, Any]:
        """Return all that an answer depends on."""
        return self.vqa.replace(instruction="{question}").to_json()


JudgeConfig = LocalJudge | EndpointConfig

_THOUGHTS = re.compile(r"\s*<think>.*?</think>\s*|^(?:(?!<think>).)*?</think>\s*", re.DOTALL)
"""Thoughts before an answer; the first tag may stand in the template of the question already."""

WHOLE_TOKENS = 4096
"""Tokens of a reply to all questions about a picture, as in the script of UniGenBench++."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeAnswer:
    """Answer to one question about one picture.

    Attributes:
        reply: Text of the answer; None for a gap.
        probability: Probability of the expected answer, 0 to 1; None where only the text was asked for.
        gap: Reason why there is no answer; None for an answer.
        passing: Whether the same question may get an answer later.
        read: Tokens that an endpoint read.
        written: Tokens that an endpoint wrote.
        version: Version of the model that answered, as an endpoint states it.
    """

    reply: str | None = None
    probability: float | None = None
    gap: str | None = None
    passing: bool = False
    read: int = 0
    written: int = 0
    version: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the parts that matter for a score, as JSON values."""
        if self.gap is not None:
            return {"gap": self.gap}
        return {"reply": self.reply} | ({} if self.probability is None else {"p": self.probability})


class Answerer(Protocol):
    """A judge with its model loaded."""

    def answer(self, suite: Suite, asked: Sequence[tuple[Picture, JudgeQuestion]]) -> list[JudgeAnswer]:
        """Return an answer or a gap for every picture and question, in order."""
        ...

    def answer_whole(self, asked: Sequence[WholeQuestions]) -> list[list[JudgeAnswer]]:
        """Return an answer or a gap for every question of every picture, in order, from one request per picture."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeQuestions:
    """A picture, its questions, and the one request that asks them all."""

    picture: Picture
    request: WholeRequest
    questions: tuple[JudgeQuestion, ...]


def load_judge(networks: Networks, config: JudgeConfig, *, whole: bool = False) -> Answerer:
    """Return the judge of a configuration, loaded once per worker.

    Args:
        whole: Whether it answers all questions about a picture in one reply, which needs more tokens.

    Raises:
        ValueError: There is no such model, or the endpoint's key is not set.
    """
    if isinstance(config, EndpointConfig):
        return EndpointAnswerer(networks.get(config, Endpoint))
    vqa = config.vqa.replace(instruction="{question}")
    return LocalAnswerer(networks.get(vqa.replace(max_new_tokens=longest_reply(config)) if whole else vqa, Vqa))


def longest_reply(config: JudgeConfig) -> int:
    """Return the largest number of tokens of a reply to all questions: the judge's own limit where that is set."""
    if isinstance(config, EndpointConfig):
        own, usual = config.max_tokens, _field_default(EndpointConfig, "max_tokens")
    else:
        own, usual = config.vqa.max_new_tokens, _field_default(VqaConfig, "max_new_tokens")
    return WHOLE_TOKENS if own == usual else own


def _field_default(cls: type[Config], name: str) -> Any:
    return next(field.default for field in fields(cls) if field.name == name)


def version_of(config: JudgeConfig) -> str:
    """Return the judge's version as far as it is known before it answers: the digest of a local model's folder."""
    if isinstance(config, EndpointConfig):
        return ""
    folder = Path(config.vqa.model)
    return f"digest {folder_digest(folder)}" if folder.is_dir() else f"sha256 {config.vqa.sha256 or 'unchecked'}"


@dataclass(frozen=True, slots=True)
class LocalAnswerer:
    """Answers of a local model: greedy text, or the probabilities of the first token."""

    vqa: Vqa

    def answer(self, suite: Suite, asked_of: Sequence[tuple[Picture, JudgeQuestion]]) -> list[JudgeAnswer]:
        """Return an answer or a gap for every picture and question, in order."""
        texts = [(picture, asked(suite, question)) for picture, question in asked_of]
        questions = [question for _, question in asked_of]
        if suite.soft:
            tokens = self.vqa.first_tokens(texts, [accepted(question) for question in questions])
            return [JudgeAnswer(reply=token.text, probability=min(token.probability, 1.0)) for token in tokens]
        replies = self.vqa.answer(texts)
        return [hard_answer(question, reply) for question, reply in zip(questions, replies, strict=True)]

    def answer_whole(self, asked: Sequence[WholeQuestions]) -> list[list[JudgeAnswer]]:
        """Return an answer or a gap for every question of every picture, in order, from one request per picture."""
        found: list[list[JudgeAnswer]] = [[] for _ in asked]
        for system in dict.fromkeys(each.request.system for each in asked):
            places = [place for place, each in enumerate(asked) if each.request.system == system]
            replies = self.vqa.follow([(asked[place].picture, asked[place].request.text) for place in places], system)
            for place, reply in zip(places, replies, strict=True):
                found[place] = whole_answers(asked[place], reply)
        return found


@dataclass(frozen=True, slots=True)
class EndpointAnswerer:
    """Answers of an endpoint; probabilities come from the likeliest first tokens that it lists."""

    endpoint: Endpoint

    def answer(self, suite: Suite, asked_of: Sequence[tuple[Picture, JudgeQuestion]]) -> list[JudgeAnswer]:
        """Return an answer or a gap for every picture and question, in order."""
        replies = self.endpoint.ask([(picture, asked(suite, question)) for picture, question in asked_of])
        return [self._answer(suite, question, reply) for (_, question), reply in zip(asked_of, replies, strict=True)]

    def answer_whole(self, asked: Sequence[WholeQuestions]) -> list[list[JudgeAnswer]]:
        """Return an answer or a gap for every question of every picture, in order, from one request per picture.

        A reply of another form is asked for again, as the public scripts do, at most as often as the endpoint allows.
        """
        found: list[list[JudgeAnswer]] = [[] for _ in asked]
        waiting = list(range(len(asked)))
        for _ in range(self.endpoint.config.attempts):
            replies = self.endpoint.ask([self._instruction(asked[place]) for place in waiting])
            for place, reply in zip(waiting, replies, strict=True):
                found[place] = self._whole(asked[place], reply, found[place])
            odd = [place for place, reply in zip(waiting, replies, strict=True) if reply.text is not None]
            waiting = [place for place in odd if found[place][0].gap is not None]
            if not waiting:
                break
        return found

    def _instruction(self, asked: WholeQuestions) -> tuple[Picture, Instruction]:
        request, most = asked.request, longest_reply(self.endpoint.config)
        return asked.picture, Instruction(
            text=request.text, system=request.system, temperature=request.temperature, max_tokens=most
        )

    def _whole(self, asked: WholeQuestions, reply: EndpointReply, before: Sequence[JudgeAnswer]) -> list[JudgeAnswer]:
        """Return the answers of one reply; the first carries the tokens of this and of earlier replies."""
        if reply.gap is not None or reply.text is None:
            gap = JudgeAnswer(gap=reply.gap or "an empty answer", passing=reply.passing, version=reply.version)
            found = [gap] * len(asked.questions)
        else:
            found = whole_answers(asked, reply.text, version=reply.version)
        read, written = (sum(getattr(answer, name) for answer in before) for name in ("read", "written"))
        return [replace(found[0], read=read + reply.read, written=written + reply.written), *found[1:]]

    def _answer(self, suite: Suite, question: JudgeQuestion, reply: EndpointReply) -> JudgeAnswer:
        about: dict[str, Any] = {"read": reply.read, "written": reply.written, "version": reply.version}
        if reply.gap is not None or reply.text is None:
            return JudgeAnswer(gap=reply.gap or "an empty answer", passing=reply.passing, **about)
        return soft_answer(question, reply, about) if suite.soft else hard_answer(question, reply.text, **about)


def hard_answer(question: JudgeQuestion, reply: str, **about: Any) -> JudgeAnswer:
    """Return a text as an answer; a text that is no answer to the question is a gap."""
    answer = understood(question, without_thoughts(reply))
    if answer is None:
        return JudgeAnswer(gap=f"no answer to the question: {reply[:80]!r}", **about)
    return JudgeAnswer(reply=answer, **about)


def whole_answers(asked: WholeQuestions, reply: str, **about: Any) -> list[JudgeAnswer]:
    """Return a reply as answers to all questions about a picture; one of another form is a gap for each of them."""
    answers = answers_of(asked.request, len(asked.questions), without_thoughts(reply))
    if isinstance(answers, str):
        return [JudgeAnswer(gap=answers, **about)] * len(asked.questions)
    return [JudgeAnswer(reply=answer, **about) for answer in answers]


def without_thoughts(reply: str) -> str:
    """Return a reply without what a reasoning model thought before it, between the tags of open models.

    Example:
        >>> without_thoughts("<think>No cup? Yes, there.</think>\\n\\nYes"), without_thoughts("Yes")
        ('Yes', 'Yes')
    """
    return _THOUGHTS.sub("", reply)


def soft_answer(question: JudgeQuestion, reply: EndpointReply, about: dict[str, Any]) -> JudgeAnswer:
    """Return the probability of the expected answer.

    A reply without probabilities, or in whose likeliest tokens no answer to the question occurs, is a gap.
    """
    tokens = reply.tokens or {}
    if not tokens:
        return JudgeAnswer(gap="the endpoint gives no probabilities; take one that lists logprobs", **about)
    words = answer_words(question)
    if words and not any(token.strip().lower() in words for token in tokens):
        return JudgeAnswer(gap=f"no answer to the question: {str(reply.text)[:80]!r}", **about)
    total = sum(tokens.get(text, 0.0) for text in accepted(question))
    return JudgeAnswer(reply=max(tokens, key=lambda text: tokens[text]), probability=min(total, 1.0), **about)
