"""Question files as benchmarks publish them, read into one form; none is part of this repository."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infinity.config import Config, parse_json
from infinity.evaluation.pictures.table import form_of
from infinity.evaluation.prompts.benchmark import PromptItem
from infinity.storage.lines import json_objects
from infinity.storage.pinned import PinnedFile


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeQuestion(Config):
    """One question about a picture.

    Attributes:
        answer: Expected answer: "yes", "no", a number word, or one of the choices.
        choices: Answers to choose from; empty for a question without choices.
        parents: Places, from 0, of questions of the same prompt that must be answered as expected.
        weight: Weight within the prompt, above 0.
        group: Skill or category, over which a score is reported; empty for none.
        dimension: Coarser category that holds the group; empty for none.
    """

    text: str
    answer: str = "yes"
    choices: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    weight: float = 1.0
    group: str = ""
    dimension: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip() or not self.answer.strip():
            raise ValueError(f"expected a question and an answer, got {self.text!r} and {self.answer!r}")
        if self.weight <= 0:
            raise ValueError(f"expected a weight above 0, got {self.weight}")
        if self.choices and self.answer not in self.choices:
            raise ValueError(f"expected an answer among the choices {', '.join(self.choices)}, got {self.answer!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionFile(Config):
    """A file of questions.

    Attributes:
        file: Path or URL, and its checksum.
        prompts: File of the prompts in the same order, for benchmarks that publish them apart (TIIF).
        licence: Licence of the file, as its publisher states it; part of the protocol.
    """

    file: PinnedFile
    prompts: PinnedFile | None = None
    licence: str = "not stated"


Entries = Iterator[tuple[str, str, str, list[JudgeQuestion]]]
"""Place in the file, id, prompt and questions of every prompt."""


def items_of(source: QuestionFile, read: Callable[[QuestionFile, bytes], Entries]) -> dict[str, PromptItem]:
    """Return the prompts of a file by id, each with its questions.

    Raises:
        ValueError: A line cannot be read, an id or parent does not fit, or there is no prompt.
        StorageError: The file is missing.
    """
    found: dict[str, PromptItem] = {}
    for where, name, prompt, questions in read(source, source.file.read()):
        if not prompt.strip() or not questions:
            raise ValueError(f"{where}: expected a prompt with questions, found {prompt!r:.80} with {len(questions)}")
        if name in found:
            raise ValueError(f"{where}: the id {name!r} is there twice")
        _check_parents(where, questions)
        about = {"questions": [question.to_json() for question in questions]}
        found[name] = PromptItem(id=name, prompt=prompt.strip(), about=about)
    if not found:
        raise ValueError(f"{source.file.uri}: expected prompts with questions, found none")
    return found


def questions_of(item: PromptItem) -> tuple[JudgeQuestion, ...]:
    """Return the questions of a prompt."""
    return tuple(JudgeQuestion.from_json(each) for each in item.about["questions"])


def read_geneval2(source: QuestionFile, data: bytes) -> Entries:
    """Read ``geneval2_data.jsonl``: prompt, questions with answers, skills, number of atoms."""
    for number, (where, line) in enumerate(json_objects(data, source.file.uri)):
        pairs, skills = _field(where, line, "vqa_list", list), _field(where, line, "skills", list)
        if len(pairs) != len(skills) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise ValueError(f"{where}: expected pairs of question and answer, and one skill each")
        atoms = _field(where, line, "atom_count", int)
        questions = [
            _question(where, text=text, answer=str(answer).lower(), group=skill, dimension=f"atoms {atoms}")
            for (text, answer), skill in zip(pairs, skills, strict=True)
        ]
        yield where, f"{number:05d}", _field(where, line, "prompt", str), questions


def read_dsg(source: QuestionFile, data: bytes) -> Entries:
    """Read ``dsg-1k-anns.csv``: one row per question, with the numbers of the questions that it depends on."""
    rows: dict[str, list[tuple[str, Mapping[str, str]]]] = {}
    columns = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")
    for where, row in _csv(source, data, columns):
        rows.setdefault(row["item_id"], []).append((where, row))
    for name, group in rows.items():
        where, first = group[0]
        places = {row["proposition_id"].strip(): place for place, (_, row) in enumerate(group)}
        questions = []
        for at, row in group:
            numbers = [part.strip() for part in row["dependency"].split(",")]
            if unknown := [part for part in numbers if part != "0" and part not in places]:
                raise ValueError(f"{at}: expected numbers of questions of {name} as dependency, found {unknown[0]!r}")
            category = row["tuple"].split("(")[0].strip()
            questions.append(
                _question(
                    at, text=row["question_natural_language"], group=category,
                    parents=tuple(places[part] for part in numbers if part != "0"),
                    dimension=category.split("-")[0].strip(),
                )
            )  # fmt: skip
        yield where, name, first["text"], questions


def read_tifa(source: QuestionFile, data: bytes) -> Entries:
    """Read TIFA's list of questions: id, caption, question, choices, answer, element type."""
    uri = source.file.uri
    listed = parse_json(data, where=uri)
    if not isinstance(listed, list):
        raise ValueError(f"{uri}: expected a list of questions, found {type(listed).__name__}")
    grouped: dict[str, tuple[str, str, list[JudgeQuestion]]] = {}
    for number, entry in enumerate(listed, start=1):
        where = f"{uri}, entry {number}"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}: expected an object, found {str(entry)[:80]!r}")
        name, caption = str(_field(where, entry, "id", str | int)), _field(where, entry, "caption", str)
        choices = tuple(map(str, _field(where, entry, "choices", list)))
        question = _question(
            where, text=_field(where, entry, "question", str), choices=choices,
            answer=_field(where, entry, "answer", str), group=str(entry.get("element_type", "")),
        )  # fmt: skip
        grouped.setdefault(name, (where, caption, []))[2].append(question)
    yield from ((where, name, caption, questions) for name, (where, caption, questions) in grouped.items())


def read_tiif_long(source: QuestionFile, data: bytes) -> Entries:
    """Read the files of TIIF; the long descriptions are drawn, with the same questions."""
    return read_tiif(source, data, "long_description")


def read_tiif(source: QuestionFile, data: bytes, drawn: str = "short_description") -> Entries:
    """Read a file of TIIF's evaluation prompts, beside the file of its prompts; the short descriptions are drawn."""
    uri = source.file.uri
    if source.prompts is None:
        raise ValueError(f'{uri}: expected the file of its prompts too, got none; name it as "prompts"')
    prompts = [line for _, line in json_objects(source.prompts.read(), source.prompts.uri)]
    lines = list(json_objects(data, uri))
    if len(prompts) != len(lines):
        raise ValueError(f"{uri}: expected as many lines as {source.prompts.uri}, got {len(lines)} and {len(prompts)}")
    for number, ((where, line), about) in enumerate(zip(lines, prompts, strict=True)):
        kind = _field(where, line, "type", str)
        asked, answers = _field(where, line, "yn_question_list", list), _field(where, line, "yn_answer_list", list)
        if len(asked) != len(answers) or about.get("type") != kind:
            raise ValueError(
                f"{where}: expected one answer per question and the type of its prompt, {about.get('type')!r}"
            )
        questions = [
            _question(
                where, text=str(text).strip(), answer=str(answer).strip().lower(), group=kind, dimension=tiif(kind)
            )
            for text, answer in zip(asked, answers, strict=True)
        ]
        yield where, f"{kind}/{number}", _field(where, about, drawn, str), questions


def tiif(kind: str) -> str:
    """Return the dimension of a TIIF type, by the families of its parts: "texture+2d" is attribute and relation."""
    whole = {"text": "advanced text", "style": "advanced style", "real_world": "real world"}
    if kind in whole:
        return whole[kind]
    families = {
        **dict.fromkeys(("color", "texture", "shape"), "attribute"),
        **dict.fromkeys(("2d", "3d", "2d_spatial_relation", "3d_spatial_relation"), "relation"),
        **dict.fromkeys(("numeracy", "negation", "differentiation", "comparison"), "reasoning"),
    }
    parts = kind.split("+")
    # An action is a relation beside a relation, and an attribute's partner beside an attribute.
    found = {families.get(part, "relation" if part == "action" else part) for part in parts}
    return f"{'basic' if len(found) == 1 else 'advanced'} {' '.join(sorted(found))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class UniGenBenchRow:
    """One row of UniGenBench++.

    Attributes:
        where: Place in the file.
        language: "en" or "zh".
        points: Names of the test points.
        words: Description of every test point for this prompt.
    """

    where: str
    id: str
    prompt: str
    language: str
    points: tuple[str, ...]
    words: tuple[str, ...]


def unigenbench_rows(source: QuestionFile, data: bytes) -> Iterator[UniGenBenchRow]:
    """Yield the rows of ``test_prompts_en.csv`` (or ``_zh``) of UniGenBench++.

    Raises:
        ValueError: A row cannot be read.
    """
    text = data.decode("utf-8-sig", "replace")
    language = "zh" if "prompt_zh" in text.partition("\n")[0] else "en"
    prompt_column, points_column = f"prompt_{language}", f"sub_dims_{language}"
    names = ("考点", "考点对应描述") if language == "zh" else ("Testpoints", "Testpoint Description")
    for where, row in _csv(source, data, ("index", prompt_column, points_column)):
        about = parse_json(row[points_column], where=where)
        if not isinstance(about, Mapping):
            raise ValueError(f"{where}: expected an object in {points_column}, found {str(about)[:80]!r}")
        points, words = (_field(where, about, name, list) for name in names)
        if len(points) != len(words):
            raise ValueError(f"{where}: expected a description per test point, found {len(words)} and {len(points)}")
        yield UniGenBenchRow(
            where=where, id=row["index"].strip(), prompt=row[prompt_column], language=language,
            points=tuple(map(str, points)), words=tuple(map(str, words)),
        )  # fmt: skip


def read_unigenbench(source: QuestionFile, data: bytes) -> Entries:
    """Read ``test_prompts_en.csv`` (or ``_zh``) of UniGenBench++: test points with a description each."""
    for row in unigenbench_rows(source, data):
        about_picture = f"The picture was asked for by: {row.prompt}\n"
        questions = [
            _question(
                row.where, text=f'{about_picture}Check "{point}": {word}. Is it fulfilled?',
                group=point, dimension=point.split("-", 1)[0].strip(),
            )
            for point, word in zip(row.points, row.words, strict=True)
        ]  # fmt: skip
        yield row.where, row.id, row.prompt, questions


def read_genai(source: QuestionFile, data: bytes) -> Entries:
    """Read prompts of GenAI-Bench (an object by id, each with its prompt), or JSON lines with prompt, id and skills."""
    uri = source.file.uri
    if form_of(uri) == ".jsonl":
        lines = list(json_objects(data, uri))
        named = [(where, str(line.get("id", f"{n:05d}")), line) for n, (where, line) in enumerate(lines)]
    else:
        found = parse_json(data, where=uri)
        if not isinstance(found, Mapping) or not all(isinstance(value, Mapping) for value in found.values()):
            raise ValueError(f"{uri}: expected an object of prompts by id")
        named = [(f"{uri}, {name}", str(name), value) for name, value in found.items()]
    for where, name, line in named:
        prompt = _field(where, line, "prompt", str)
        yield where, name, prompt, [_question(where, text=prompt, group=str(line.get("category", "")))]


def read_questions(source: QuestionFile, data: bytes) -> Entries:
    """Read our own form: JSON lines with prompt, perhaps id, and questions with the fields of `JudgeQuestion`."""
    for number, (where, line) in enumerate(json_objects(data, source.file.uri)):
        listed = _field(where, line, "questions", list)
        questions = [
            JudgeQuestion.from_json({"text": each} if isinstance(each, str) else each, where=where) for each in listed
        ]
        yield where, str(line.get("id", f"{number:05d}")), _field(where, line, "prompt", str), questions


def _check_parents(where: str, questions: list[JudgeQuestion]) -> None:
    for place, question in enumerate(questions):
        if wrong := [parent for parent in question.parents if not 0 <= parent < len(questions) or parent == place]:
            raise ValueError(
                f"{where}: question {place} depends on question {wrong[0]}; expected another one of 0 to "
                f"{len(questions) - 1}"
            )


def _question(where: str, **fields: Any) -> JudgeQuestion:
    return JudgeQuestion.from_json(json.loads(json.dumps(fields)), where=where)


def _field(where: str, data: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = data.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        words = getattr(kind, "__name__", str(kind))
        raise ValueError(f"{where}: expected {name} of type {words}, found {str(value)[:80]!r}")
    return value


def _csv(source: QuestionFile, data: bytes, columns: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, str]]]:
    uri = source.file.uri
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{uri}: expected the columns {', '.join(columns)}, missing {', '.join(missing)}")
        for row in reader:
            where = f"{uri}, line {reader.line_num}"
            if empty := [name for name in columns if not (row[name] or "").strip()]:
                raise ValueError(f"{where}: expected a value in {empty[0]}, found none")
            yield where, {name: str(row[name]) for name in columns}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{uri}: expected a table in UTF-8 ({error})") from error
