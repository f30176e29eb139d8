"""Answers of a language model: greedy, whatever the batch, the question not repeated."""

from pathlib import Path

import pytest

from infinity.perception.language.instruct import InstructConfig, InstructModel
from tests.fixtures.models.tiny_networks import write_instruct


def test_answers_depend_on_no_neighbour_and_leave_the_question_out(tmp_path: Path) -> None:
    config = InstructConfig(model=write_instruct(tmp_path), max_new_tokens=6, batch_size=3)
    questions = ["a photo of a red cup", "two dog", "rewrite the prompt : three cat left of a bench and a blue cup"]
    together = InstructModel(config).answer(questions)
    assert InstructModel(config.replace(batch_size=1)).answer(questions) == together
    assert len(set(together)) == 3
    assert all(len(answer.split()) <= 6 and not answer.startswith("user") for answer in together)


def test_a_model_without_chat_template_is_refused(tmp_path: Path) -> None:
    folder = write_instruct(tmp_path)
    for path in tmp_path.glob("chat_template*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"chat template .*, found none; take an instruction-tuned model"):
        InstructModel(InstructConfig(model=folder))


def test_missing_weights_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no language model could be loaded"):
        InstructModel(InstructConfig(model=str(tmp_path / "nowhere")))
