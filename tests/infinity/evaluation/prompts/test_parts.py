"""Work over prompts: cut by what is wanted alone, kept once computed, and computed again only where a part is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.config import Config
from infinity.evaluation.benchmark import BenchmarkResult, EvalContext
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PicturePlace, PromptItem, PromptSample
from infinity.evaluation.prompts.parts import JudgePart, RewritePart, judge_parts, rewrite_parts
from infinity.evaluation.prompts.rewriting import InstructRewriter
from infinity.perception.language.instruct import InstructConfig
from tests.fixtures.data.small_world import eval_target

CONTEXT = EvalContext(eval_target("/model", "/manifest"))


class Counting:
    """A judge that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, samples: Sequence[PromptSample], pictures: Sequence[Any]) -> list[Mapping[str, Any]]:
        self.asked += [sample.item.id for sample in samples]
        return [{"id": sample.item.id, "words": "größer"} for sample in samples]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths(Config):
    """A benchmark whose judge is given; ``threshold`` is a setting that verdicts depend on."""

    name: str = "lengths"
    pictures_per_prompt: int = 2
    threshold: float = 0.5

    rewriter = None
    pictures = None

    def judge_settings(self) -> Mapping[str, Any]:
        return {"threshold": self.threshold}

    def judge(self, networks: Networks) -> Counting:
        return JUDGE

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        return BenchmarkResult()


JUDGE = Counting()


def samples(number: int, version: str = "1") -> list[PromptSample]:
    return [
        PromptSample(
            item=PromptItem(id=str(i), prompt=f"p{i}"), drawn=f"p{i}", places=(PicturePlace("/gone", "n", version),)
        )
        for i in range(number)
    ]


def parts(folder: Path, benchmark: Lengths | None = None, *, number: int = 5, version: str = "1") -> list[JudgePart]:
    return judge_parts(benchmark or Lengths(), samples(number, version), str(folder), 4)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _asked() -> None:
    JUDGE.asked.clear()


def judged(work: list[JudgePart]) -> list[Mapping[str, Any]]:
    return [record for part in work for record in part.compute(CONTEXT)]


def test_a_verdict_is_asked_once_and_read_back_equal(tmp_path: Path) -> None:
    first = judged(parts(tmp_path))
    assert JUDGE.asked == ["0", "1", "2", "3", "4"]
    assert judged(parts(tmp_path)) == first
    assert len(JUDGE.asked) == 5
    assert first[0] == {"id": "0", "words": "größer"}


def test_other_settings_or_other_pictures_are_judged_again_beside_the_old_verdicts(tmp_path: Path) -> None:
    judged(parts(tmp_path))
    judged(parts(tmp_path, Lengths(threshold=0.75)))
    judged(parts(tmp_path, version="2"))
    assert len(JUDGE.asked) == 15
    judged(parts(tmp_path))
    assert len(JUDGE.asked) == 15


def test_a_part_with_a_lost_verdict_is_judged_as_a_whole_and_the_others_stay(tmp_path: Path) -> None:
    judged(parts(tmp_path))
    lost = samples(5)[3].digest()
    next(tmp_path.rglob(f"{lost}.json")).unlink()
    JUDGE.asked.clear()
    judged(parts(tmp_path))
    assert JUDGE.asked == ["2", "3"]


def test_a_verdict_that_was_written_meanwhile_counts(tmp_path: Path) -> None:
    judged(parts(tmp_path))
    kept, lost = (next(tmp_path.rglob(f"{samples(5)[place].digest()}.json")) for place in (2, 3))
    kept.write_text('{"id": "another worker"}')
    lost.unlink()
    assert [record["id"] for record in judged(parts(tmp_path))] == ["0", "1", "another worker", "3", "4"]


@given(st.integers(0, 30), st.integers(1, 12), st.integers(1, 6))
def test_items_are_cut_in_order_into_parts_of_about_the_batch_size(number: int, batch: int, each: int) -> None:
    work = judge_parts(Lengths(pictures_per_prompt=each), samples(number), "/store", batch)  # type: ignore[arg-type]
    assert [sample for part in work for sample in part.samples] == samples(number)
    assert all(len(part.samples) == max(1, batch // each) for part in work[:-1])


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12), st.integers(1, 4))
def test_every_prompt_is_rewritten_once_in_batches_of_the_model(prompts: list[str], size: int) -> None:
    rewriter = InstructRewriter(model=InstructConfig(model="m", batch_size=size))
    work = rewrite_parts(rewriter, prompts, "/store")
    assert [prompt for part in work for prompt in part.prompts] == list(dict.fromkeys(prompts))
    assert all(part.num_pictures == len(part.prompts) <= size for part in work)


def test_an_empty_answer_of_the_rewriter_is_an_error_and_nothing_is_kept(tmp_path: Path) -> None:
    config = InstructConfig(model="m")
    context = EvalContext(eval_target("/model", "/manifest"))

    class Silent:
        def answer(self, questions: Sequence[str]) -> list[str]:
            return ["fine", *[""] * (len(questions) - 1)]

    context.networks.get(config, lambda *_: Silent())
    part = RewritePart(InstructRewriter(model=config), ("a", "b", "c"), str(tmp_path))
    with pytest.raises(ValueError, match=r"empty answer for 'b' \(and 1 others of 3\)"):
        part.compute(context)
    assert list(tmp_path.rglob("*.json")) == []
