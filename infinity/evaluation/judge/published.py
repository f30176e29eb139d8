"""Published forms of TIIF-Bench and UniGenBench++: one request about a whole picture, with an answer per question.

The wording lies in the benchmarks' repositories and is not part of this project. It is read from a checkout that the
user names; the scripts there are parsed, never run.
"""

from __future__ import annotations

import ast
import hashlib
import re
import string
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from infinity import storage
from infinity.config import Config
from infinity.evaluation.judge.questions import QuestionFile, unigenbench_rows
from infinity.evaluation.prompts.benchmark import PromptItem
from infinity.perception.script_texts import assigned_literals, parsed
from infinity.ranges import NotBlank
from infinity.storage.pinned import PinnedFile

SCRIPTS: Mapping[str, str] = {"tiif": "eval/eval_with_vlm.py", "unigenbench": "eval/src/eval_common.py"}
"""Files with the wording below a checkout, by suite."""

_QUESTIONS = "##YNQuestions##"
_FIELDS = frozenset({"prompt", "testpoint", "explanation", "test_explanation"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout(Config):
    """Checkout of a benchmark's repository, from whose script the wording is read.

    Attributes:
        uri: Folder of the checkout; or path or URL of the script itself, which ends in .py.
        licence: Licence of the repository, as its publisher states it; part of the protocol.
    """

    uri: Annotated[str, NotBlank("a folder or a .py file")]
    licence: str = "not stated"

    def script(self, suite: str) -> PinnedFile:
        """Return the file that holds the wording of a suite."""
        return PinnedFile(uri=self.uri if self.uri.endswith(".py") else storage.join(self.uri, SCRIPTS[suite]))

    def read(self, suite: str) -> bytes:
        """Return the content of the script of a suite.

        Raises:
            ValueError: There is no such script, or no download.
        """
        try:
            return self.script(suite).read()
        except storage.FileMissingError as error:
            raise ValueError(
                f"{self.uri}: expected a checkout of the repository of {suite}, with {SCRIPTS[suite]}, found none; "
                "give the checkout's folder, or the script itself"
            ) from error

    def content(self) -> str:
        """Return 16 hexadecimal digits over the scripts that are there; empty where none is."""
        wanted = [self.script(suite) for suite in SCRIPTS][: 1 if self.uri.endswith(".py") else None]
        there = [file for file in wanted if "://" in file.uri or storage.exists(file.uri)]
        return hashlib.sha256(b"".join(file.read() for file in there)).hexdigest()[:16] if there else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeRequest(Config):
    """One request about a picture, whose reply answers all questions.

    Attributes:
        form: Form of the reply: lines that begin with yes or no, or scores between tags.
        system: Message of the system; empty for none.
        temperature: Sampling temperature of an endpoint; None leaves it to the endpoint. Local models are greedy.
    """

    text: str
    form: Literal["lines", "scores"]
    system: str = ""
    temperature: float | None = None


def with_requests(
    suite: str, checkout: Checkout, source: QuestionFile, items: Mapping[str, PromptItem]
) -> dict[str, PromptItem]:
    """Return the prompts of a file, each with its request in the published form.

    Raises:
        ValueError: There is no script, it has another form than the published one, or lacks a test point.
    """
    script, where = checkout.read(suite), checkout.script(suite).uri
    requests = _unigenbench(script, where, source) if suite == "unigenbench" else _tiif(script, where, items)
    return {
        name: PromptItem(id=name, prompt=item.prompt, about={**item.about, "request": requests[name].to_json()})
        for name, item in items.items()
    }


def request_of(item: PromptItem) -> WholeRequest | None:
    """Return the request about a prompt's pictures; None where every question is a request of its own."""
    about = item.about.get("request")
    return None if about is None else WholeRequest.from_json(about)


def describe(suite: str, checkout: Checkout) -> str:
    """Return the origin of the wording in words, for the protocol."""
    data = checkout.read(suite)
    which = (
        "its template"
        if suite == "unigenbench"
        else "one of its templates per prompt, by the prompt's id, at temperature 1"
    )
    return (
        f"wording, form and formula of its public script ({SCRIPTS[suite].rpartition('/')[2]} sha256 "
        f"{hashlib.sha256(data).hexdigest()[:16]}, licence: {checkout.licence}; {which}), one request per picture"
    )


def answers_of(request: WholeRequest, number: int, reply: str) -> list[str] | str:
    """Return yes or no per question, or the reason why a reply has another form.

    Example:
        >>> lines = WholeRequest(text="...", form="lines")
        >>> answers_of(lines, 2, "Yes, there is a cup.\\nno: it is blue")
        ['yes', 'no']
        >>> answers_of(WholeRequest(text="...", form="scores"), 1, "<analysis>['seen']</analysis><score>[1]</score>")
        ['yes']
    """
    return _from_lines(number, reply) if request.form == "lines" else _from_scores(number, reply)


def _from_lines(number: int, reply: str) -> list[str] | str:
    found = [re.match(r"(yes|no)\b", line.strip(), re.IGNORECASE) for line in reply.strip().split("\n")]
    answers = [match[1].lower() for match in found if match]
    if len(answers) != number:
        return f"expected {number} lines that begin with yes or no, found {len(answers)}: {reply[:80]!r}"
    return answers


def _from_scores(number: int, reply: str) -> list[str] | str:
    lists = []
    for tag in ("analysis", "score"):
        inner, closed, _ = reply.partition(f"<{tag}>")[2].partition(f"</{tag}>")
        if not closed:
            return f"expected <{tag}> with a list, found none: {reply[:80]!r}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = ast.literal_eval(inner.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return f"expected a list in <{tag}>, found {inner.strip()[:80]!r}"
        if not isinstance(value, list | tuple) or len(value) != number:
            return f"expected a list of {number} in <{tag}>, found {inner.strip()[:80]!r}"
        lists.append(value)
    return ["yes" if score == 1 else "no" for score in lists[1]]


def _tiif(script: bytes, where: str, items: Mapping[str, PromptItem]) -> dict[str, WholeRequest]:
    texts = assigned_literals(script, where).values()
    templates = [text for text in texts if isinstance(text, str) and _QUESTIONS in text]
    if not templates:
        raise ValueError(
            f"{where}: expected TIIF's templates, texts with {_QUESTIONS}, found none; give a checkout of "
            "github.com/A113N-W3I/TIIF-Bench, or leave out the checkout to ask in our own wording"
        )
    system = _system_message(parsed(script, where))
    requests = {}
    for name, item in items.items():
        # The script draws a template per request; here the prompt's id decides, so that the request can be repeated.
        place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(templates)
        lines = "\n".join(question["text"].strip() for question in item.about["questions"])
        text = templates[place].replace(_QUESTIONS, lines)
        requests[name] = WholeRequest(text=text, form="lines", system=system, temperature=1.0)
    return requests


def _system_message(tree: ast.Module) -> str:
    """Return the content of the first literal message of the role "system"; empty where there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = {
                key.value: value.value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
            }
            if pairs.get("role") == "system" and isinstance(pairs.get("content"), str):
                return str(pairs["content"])
    return ""


def _unigenbench(script: bytes, where: str, source: QuestionFile) -> dict[str, WholeRequest]:
    known = assigned_literals(script, where)
    requests = {}
    rows = list(unigenbench_rows(source, source.file.read()))
    for row in rows:
        form = _form(known, row.language, where)
        if unknown := [point for point in row.points if point not in form.explanations]:
            raise ValueError(
                f"{row.where}: expected test points that {where} explains, found {unknown[0]!r}; take the question "
                "file and the script from one commit"
            )
        explained = _listed(form.header, [(point, form.explanations[point]) for point in row.points])
        described = _listed(form.described, list(zip(row.points, row.words, strict=True)))
        text = form.template.format(
            prompt=row.prompt, testpoint=list(row.points), explanation=explained, test_explanation=described
        )
        requests[row.id] = WholeRequest(text=text, form="scores")
    return requests


@dataclass(frozen=True, slots=True)
class _Form:
    """Wording of UniGenBench++ in one language."""

    template: str
    explanations: Mapping[str, str]
    header: str
    described: str


def _form(known: Mapping[str, Any], language: str, where: str) -> _Form:
    configs = known.get("LANG_CONFIGS")
    config = configs.get(language) if isinstance(configs, Mapping) else None
    about = config if isinstance(config, Mapping) else {}
    template, explanations = about.get("system_prompt_template"), about.get("explanation_dict")
    headers = [about.get(name) for name in ("checkpoint_header", "checkpoint_desc_header")]
    if not (isinstance(template, str) and isinstance(explanations, Mapping) and all(map(_is_text, headers))):
        raise ValueError(
            f"{where}: expected UniGenBench++'s LANG_CONFIGS with template, explanations and headers for {language!r}, "
            "found another form; give a checkout of github.com/CodeGoat24/UniGenBench, or leave out the checkout to "
            "ask in our own wording"
        )
    _check_fields(template, where)
    return _Form(template, {k: v for k, v in explanations.items() if _is_text(v)}, str(headers[0]), str(headers[1]))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _check_fields(template: str, where: str) -> None:
    """Refuse a template that asks for more than the four plain fields: it is a stranger's text."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{where}: expected a template with fields in braces ({error})") from error
    fields = {name for _, name, spec, conversion in parts if name is not None and not spec and conversion is None}
    odd = [name for _, name, spec, conversion in parts if name is not None and (spec or conversion)]
    if odd or not fields <= _FIELDS or not {"prompt", "testpoint"} <= fields:
        names = ", ".join(sorted(_FIELDS))
        raise ValueError(f"{where}: expected a template with the fields {names}, found {sorted(fields) + odd}")


def _listed(header: str, lines: Sequence[tuple[str, str]]) -> str:
    """Return named lines below a header, between the corner brackets of the public script."""
    return f"{header}:\u300c" + "".join(f"\n{name}: {text}" for name, text in lines) + "\n\u300d"
