"""How replies are read as answers: the first word counts, what is no answer is none, numbers may be digits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.judge.questions import JudgeQuestion
from infinity.evaluation.judge.suites import (
    NUMBERS,
    SUITES,
    Suite,
    SuiteName,
    accepted,
    answer_words,
    asked,
    is_expected,
    understood,
)

YES = JudgeQuestion(text="Is there a cup?")
TWO = JudgeQuestion(text="How many cups are there?", answer="two")
COLOUR = JudgeQuestion(text="Which colour has the cup?", answer="Red", choices=("Red", "Dark blue", "green"))
OPEN = JudgeQuestion(text="Which animal is it?", answer="dog")


@pytest.mark.parametrize(
    ("question", "reply", "answer"),
    [
        (YES, "yes", "yes"), (YES, " **Yes**, there is one.", "yes"), (YES, "NO.", "no"), (YES, "Nothing there", None),
        (YES, "I think yes", None), (YES, "", None), (YES, "yesterday", None),
        (YES, "Yes/No", None), (YES, "no or yes?", None), (YES, "**yes** and no", None), (YES, "No idea.", None),
        (YES, "no answer is possible", None), (YES, "No, no other cup", "no"), (YES, "Yes, no doubt", "yes"),
        (TWO, "2", "2"), (TWO, "Two cups", "two"), (TWO, "several", "several"), (TWO, "12", None),
        (TWO, "twofold", None),
        (COLOUR, "dark blue.", "dark blue"), (COLOUR, "'Red'", "red"), (COLOUR, "red and green", None),
        (COLOUR, "crimson", None), (OPEN, "A dog.", "a dog"), (OPEN, "...", None),
    ],
)  # fmt: skip
def test_a_reply_is_read_as_one_of_the_answers_or_as_none(
    question: JudgeQuestion, reply: str, answer: str | None
) -> None:
    assert understood(question, reply) == answer


def test_the_expected_answer_is_one_in_any_spelling() -> None:
    assert all(is_expected(TWO, answer) for answer in ("two", "2"))
    assert not any(is_expected(TWO, answer) for answer in ("three", "3", "twelve", "20"))
    assert is_expected(COLOUR, "red")
    assert not is_expected(COLOUR, "dark blue")


@given(st.sampled_from(NUMBERS))
def test_a_number_is_accepted_as_word_and_digit_and_no_other_number_is(word: str) -> None:
    question = JudgeQuestion(text="How many?", answer=word)
    digit = str(NUMBERS.index(word) + 1)
    assert {word, word.capitalize(), digit} <= set(accepted(question))
    others = {other for other in NUMBERS if other != word}
    assert not any(is_expected(question, other) for other in others)
    assert {word, digit} <= answer_words(question)


@given(st.text(max_size=40))
def test_any_reply_is_an_answer_in_lower_case_or_none(reply: str) -> None:
    for question in (YES, TWO, COLOUR):
        found = understood(question, reply)
        assert found is None or found in answer_words(question)


@pytest.mark.parametrize("name", SUITES)
def test_what_is_sent_holds_the_question_and_no_open_place(name: SuiteName) -> None:
    for question in (YES, COLOUR):
        text = asked(SUITES[name], question)
        assert question.text in text
        assert "{" not in text
    if name == "tifa":
        assert "Red, Dark blue, green" in asked(SUITES[name], COLOUR)


def test_a_question_that_looks_like_a_place_is_sent_as_it_is() -> None:
    odd = JudgeQuestion(text="Does the sign say {choices}?", choices=("yes", "no"))
    assert asked(SUITES["tifa"], odd) == "Does the sign say {choices}? Answer with exactly one of: yes, no."


def test_protocols_of_suites_differ_and_name_their_formula() -> None:
    told = {name: suite.describe() for name, suite in SUITES.items()}
    assert "geometric mean over a picture's questions" in told["geneval2"]
    assert "0 where a question that it depends on scores 0" in told["dsg"]
    assert "mean over dimensions of the mean over their groups" in told["tiif"]
    titles = [suite.title for suite in SUITES.values()]
    assert len(set(titles)) == len(titles)
    assert all(isinstance(suite, Suite) and suite.source in told[name] for name, suite in SUITES.items())
