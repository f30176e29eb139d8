"""Files of questions in the published forms: what is read, and the sentence on what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infinity.evaluation.judge.answers import hard_answer
from infinity.evaluation.judge.questions import JudgeQuestion, QuestionFile, items_of, questions_of, tiif
from infinity.evaluation.judge.suites import SUITES, SuiteName, accepted, understood
from infinity.storage.pinned import PinnedFile, PinnedFileError
from tests.fixtures.data.question_files import PROMPTS, WRITERS

DSG = "item_id,text,proposition_id,dependency,tuple,question_natural_language"


@pytest.mark.parametrize("suite", WRITERS)
def test_every_form_gives_prompts_in_order_with_questions(tmp_path: Path, suite: SuiteName) -> None:
    items = items_of(WRITERS[suite](tmp_path), SUITES[suite].read)
    assert tuple(item.prompt for item in items.values()) == PROMPTS
    assert all(questions_of(item) for item in items.values())


def test_long_prompts_of_tiif_have_the_questions_of_the_short_ones(tmp_path: Path) -> None:
    source = WRITERS["tiif"](tmp_path)
    short, long = (items_of(source, SUITES[suite].read) for suite in ("tiif", "tiif_long"))
    assert [item.prompt for item in long.values()] == ["x", "x"]
    assert {name: item.about for name, item in short.items()} == {name: item.about for name, item in long.items()}


def test_dsgs_numbers_become_places(tmp_path: Path) -> None:
    items = items_of(WRITERS["dsg"](tmp_path), SUITES["dsg"].read)
    assert [question.parents for question in questions_of(items["x_1"])] == [(), (0,)]


def test_chinese_test_points_are_read_too(tmp_path: Path) -> None:
    points = json.dumps({"考点": ["属性-数量"], "考点对应描述": ["两只熊猫"]}, ensure_ascii=False).replace('"', '""')
    (tmp_path / "zh.csv").write_text(f'index,prompt_zh,sub_dims_zh\n0,两只熊猫,"{points}"\n', encoding="utf-8")
    source = QuestionFile(file=PinnedFile(uri=str(tmp_path / "zh.csv")))
    (item,) = items_of(source, SUITES["unigenbench"].read).values()
    (question,) = questions_of(item)
    assert (question.group, question.dimension) == ("属性-数量", "属性")


@pytest.mark.parametrize(
    ("kind", "dimension"),
    [
        ("shape+color", "basic attribute"), ("action+2d", "basic relation"), ("numeracy", "basic reasoning"),
        ("action+texture", "advanced attribute relation"), ("negation+3d", "advanced reasoning relation"),
        ("comparison+color", "advanced attribute reasoning"), ("text", "advanced text"), ("real_world", "real world"),
        ("2d_spatial_relation", "basic relation"), ("style", "advanced style"),
    ],
)  # fmt: skip
def test_tiifs_types_belong_to_its_nine_dimensions(kind: str, dimension: str) -> None:
    assert tiif(kind) == dimension


@pytest.mark.parametrize(
    ("suite", "text", "words"),
    [
        ("geneval2", '{"prompt": "x", "atom_count": 1, "vqa_list": [["a?", "Yes"]], "skills": []}', "one skill each"),
        ("geneval2", '{"prompt": "x", "atom_count": "1", "vqa_list": [], "skills": []}', "atom_count of type int"),
        ("geneval2", "", "expected prompts with questions, found none"),
        ("dsg", "item_id,text\n1,x\n", "missing proposition_id"),
        ("dsg", f"{DSG}\na,x,1,7,e (x),x?\n", "found '7'"),
        ("tifa", "{}", "expected a list of questions"),
        ("tifa", '[{"id": 1, "caption": "x", "question": "a?", "choices": ["b"], "answer": "c"}]', "the choices b"),
        ("tiif", '{"type": "text"}', "expected the file of its prompts too"),
        ("unigenbench", 'index,prompt_en,sub_dims_en\n0,x,"{""Testpoints"": [""a""]}"\n', "Testpoint Description"),
        ("vqascore", '["a"]', "expected an object of prompts by id"),
        ("questions", '{"prompt": "x", "questions": [{"text": "a?", "parents": [3]}]}', "depends on question 3"),
        ("questions", '{"prompt": "x", "questions": [{"text": "a?", "parents": [0]}]}', "depends on question 0"),
        ("questions", '{"prompt": "x", "questions": [{"text": "a?", "weight": 0}]}', "weight above 0"),
        ("questions", '{"prompt": "x", "questions": [{"text": "a?", "weight": NaN}]}', "line 1"),
        ("questions", '{"prompt": "x", "questions": []}', "with 0"),
        ("questions", '{"id": 1, "prompt": "x", "questions": ["a?"]}\n{"id": 1, "prompt": "y", "questions": ["a?"]}',
         "there twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence_with_its_place(
    tmp_path: Path, suite: SuiteName, text: str, words: str
) -> None:
    file = tmp_path / f"file.{'jsonl' if suite in ('geneval2', 'tiif', 'questions') else 'json'}"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"file\.json") as error:
        items_of(QuestionFile(file=PinnedFile(uri=str(file))), SUITES[suite].read)
    assert words in str(error.value)


def test_a_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    source = WRITERS["geneval2"](tmp_path)
    with pytest.raises(PinnedFileError, match="expected sha256 00000000"):
        items_of(source.replace(file=source.file.replace(sha256="0" * 8)), SUITES["geneval2"].read)


@pytest.mark.parametrize(
    ("answer", "reply", "read"),
    [
        ("yes", " Yes", "yes"), ("yes", "NO.", "no"), ("yes", "'yes'", "yes"), ("yes", "No, it is blue.", "no"),
        ("yes", "Maybe", None), ("yes", "", None), ("yes", "I think yes", None), ("yes", "yesterday", None),
        ("three", "3", "3"), ("three", "Four.", "four"), ("three", "a lot", None), ("three", "three cups", "three"),
    ],
)  # fmt: skip
def test_replies_are_answers_or_none(answer: str, reply: str, read: str | None) -> None:
    assert understood(JudgeQuestion(text="x?", answer=answer), reply) == read


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("<think>No cup at all?\nYes, there.</think>\n\nYes", "yes"),
        ("No cup at all? Yes, there.</think>no", "no"),
        ("<think>\n</think>Yes.", "yes"),
        ("<think>No, I have to look", None),
        ("<think>No cup.</think>", None),
    ],
)
def test_thoughts_are_no_answers(reply: str, read: str | None) -> None:
    found = hard_answer(JudgeQuestion(text="x?"), reply)
    assert (found.reply, found.gap is None) == (read, read is not None)


def test_choices_must_be_met_whole() -> None:
    question = JudgeQuestion(text="x?", answer="light red", choices=("light red", "red"))
    assert [understood(question, reply) for reply in ("Light red.", "red", "the red one")] == ["light red", "red", None]


def test_numbers_are_accepted_as_digits_and_others_are_not() -> None:
    assert "7" in accepted(JudgeQuestion(text="How many?", answer="seven"))
    assert accepted(JudgeQuestion(text="x?")) == ("yes", "Yes", " yes", " Yes")
