"""What each benchmark asks, how answers are read, and how scores follow from them.

Formulas are those of the public scripts; the wording is theirs where it is one sentence. Where theirs asks about a
whole picture at once (TIIF, UniGenBench++), it is ours, or that of a checkout (``published.py``). The protocol of a
score says which.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from infinity.evaluation.judge import questions as files
from infinity.evaluation.judge.questions import Entries, JudgeQuestion, QuestionFile

SuiteName = Literal["geneval2", "dsg", "tifa", "tiif", "tiif_long", "unigenbench", "vqascore", "questions"]

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_OWN = "wording of this project, one question per request"


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A benchmark by a judge.

    Attributes:
        title: Name in words, with the paper.
        wording: Text that is sent, with ``{question}`` and perhaps ``{choices}``.
        source: Origin of the wording.
        soft: Whether a question's score is the probability of the expected answer, rather than 0 or 1.
        mean: Mean over the questions of a picture.
        dependent: Whether a question scores 0 where one that it depends on scores below 0.5.
        overall: Whether the overall score is the mean over prompts, over dimensions (each pools its questions), or over
            dimensions that are means of their groups.
        by_prompt: Whether a dimension is a property of the whole prompt, such as the number of its atoms.
    """

    title: str
    read: Callable[[QuestionFile, bytes], Entries]
    wording: str
    source: str
    soft: bool = False
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    dependent: bool = False
    overall: Literal["prompts", "dimensions", "groups"] = "prompts"
    by_prompt: bool = False

    def describe(self) -> str:
        """Return the rules in words, for the protocol."""
        value = "probability of the expected answer" if self.soft else "1 for the expected answer, else 0"
        over = {
            "prompts": "mean over prompts",
            "dimensions": "mean over dimensions, each over its pooled questions",
            "groups": "mean over dimensions of the mean over their groups, each over its pooled questions",
        }[self.overall]
        zero = ", 0 where a question that it depends on scores 0" if self.dependent else ""
        return f"{value}{zero}; {self.mean} mean over a picture's questions, {over}; {self.source}"


SUITES: dict[SuiteName, Suite] = {
    "geneval2": Suite(
        title="GenEval 2, Soft-TIFA (arXiv:2512.16853)", read=files.read_geneval2, soft=True, mean="geometric",
        by_prompt=True,
        wording="{question} Answer in one word.", source="wording and formula of its public script",
    ),
    "dsg": Suite(
        title="Davidsonian Scene Graph (arXiv:2310.18235)", read=files.read_dsg, dependent=True,
        wording="Answer only with 'yes' or 'no'. Do not give other outputs or punctuation marks. Question: {question}",
        source="wording and formula of its public script",
    ),
    "tifa": Suite(
        title="TIFA (arXiv:2303.11897)", read=files.read_tifa,
        wording="{question} Answer with exactly one of: {choices}.",
        source=f"formula of its public script, {_OWN}, answers must be one of the choices",
    ),
    "tiif": Suite(
        title="TIIF-Bench, short prompts (arXiv:2506.02161)", read=files.read_tiif, overall="groups",
        wording="{question} Answer with one word: yes or no.", source=f"formula of its public script, {_OWN}",
    ),
    "tiif_long": Suite(
        title="TIIF-Bench, long prompts (arXiv:2506.02161)", read=files.read_tiif_long, overall="groups",
        wording="{question} Answer with one word: yes or no.", source=f"formula of its public script, {_OWN}",
    ),
    "unigenbench": Suite(
        title="UniGenBench++ (arXiv:2510.18701)", read=files.read_unigenbench, overall="dimensions",
        wording="{question} Answer with one word: yes or no.", source=f"formula of its public script, {_OWN}",
    ),
    "vqascore": Suite(
        title="VQAScore (arXiv:2404.01291)", read=files.read_genai, soft=True,
        wording='Does this figure show "{question}"? Please answer yes or no.',
        source="wording and formula of its public code",
    ),
    "questions": Suite(
        title="own questions", read=files.read_questions, soft=True, dependent=True,
        wording="{question} Answer with one word.", source=_OWN,
    ),
}  # fmt: skip
"""All benchmarks by name."""


def asked(suite: Suite, question: JudgeQuestion) -> str:
    """Return the text that is sent for a question."""
    return suite.wording.replace("{choices}", ", ".join(question.choices)).replace("{question}", question.text)


def accepted(question: JudgeQuestion) -> tuple[str, ...]:
    """Return the texts with which an expected answer may begin: with a capital, with a blank before, as a digit.

    Example:
        >>> accepted(JudgeQuestion(text="How many cups are in the image?", answer="two"))
        ('two', 'Two', ' two', ' Two', '2', ' 2')
    """
    word = question.answer
    texts = [word, word.capitalize(), f" {word}", f" {word.capitalize()}"]
    if word in NUMBERS:
        digit = str(NUMBERS.index(word) + 1)
        texts += [digit, f" {digit}"]
    return tuple(dict.fromkeys(texts))


def answer_words(question: JudgeQuestion) -> frozenset[str]:
    """Return all words that are an answer to a question, right or wrong, in lower case."""
    if question.choices:
        return frozenset(choice.strip().lower() for choice in question.choices)
    if question.answer in ("yes", "no"):
        return frozenset({"yes", "no"})
    if question.answer in NUMBERS:
        return frozenset({*NUMBERS, *map(str, range(1, 11)), "zero", "0", "no", "none", "many", "several"})
    return frozenset()


def understood(question: JudgeQuestion, reply: str) -> str | None:
    """Return a reply as one of the answers in lower case; None where it is none.

    Example:
        >>> question = JudgeQuestion(text="Is there a cup?")
        >>> understood(question, "Yes, there is."), understood(question, "I cannot see pictures.")
        ('yes', None)
    """
    plain = reply.strip().lower()
    words = answer_words(question)
    bare = plain.strip(" .,!?:;\"'*()")
    if not words or bare in words:
        return bare or None
    if question.choices:
        return None
    first = re.match(r"[\s\"'*(]*(\w+)", plain)
    return first[1] if first and first[1] in words and not _NO_ANSWER.match(plain) else None


_NO_ANSWER = re.compile(r"\W*(yes\W*(/|or|and)\W*no|no\W*(/|or|and)\W*yes|no (idea|clue|answer))\b")
"""Replies that begin with yes or no and say neither."""


def is_expected(question: JudgeQuestion, answer: str) -> bool:
    """Return whether an understood answer is the expected one."""
    return answer in {text.strip().lower() for text in accepted(question)}
