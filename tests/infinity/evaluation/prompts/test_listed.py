"""What benchmarks over lists of prompts have in common: names, parts, pictures from elsewhere, wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from infinity.config import Config
from infinity.evaluation.judge.benchmark import JudgeBenchmark
from infinity.evaluation.preference.benchmark import ClipScoreBenchmark, HpsBenchmark, ImageRewardBenchmark
from infinity.evaluation.preference.clip_family import DiversityBenchmark, PickScoreBenchmark
from infinity.evaluation.prompts.benchmark import MissingPicture, PictureFolder, PromptItem
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.rewriting import RewriteFile
from infinity.evaluation.text_rendering.benchmark import TextRenderingBenchmark
from infinity.storage.pinned import PinnedFile

REWRITER = RewriteFile(file=PinnedFile(uri="/rewritten.jsonl"))
IN_THE_REPOSITORY = (
    ClipScoreBenchmark, DiversityBenchmark, HpsBenchmark, ImageRewardBenchmark, JudgeBenchmark, PickScoreBenchmark,
    TextRenderingBenchmark,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted(ListedBenchmark):
    """As many prompts as a number says."""

    total: int = 10

    @property
    def metric(self) -> str:
        return "counted"

    def all_items(self) -> Sequence[PromptItem]:
        return [PromptItem(id=f"{number:03d}", prompt=f"prompt {number}") for number in range(self.total)]


@pytest.mark.parametrize("changes", [{"pictures_per_prompt": 0}, {"num_prompts": 0}, {"num_prompts": -1}])
def test_a_number_below_one_is_refused_with_the_name_of_the_benchmark(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"^Counted.{next(iter(changes))}: expected at least 1.*, got"):
        Counted(**changes)


@pytest.mark.parametrize("kind", IN_THE_REPOSITORY)
def test_all_benchmarks_over_lists_stand_on_this_one(kind: type[Config]) -> None:
    assert issubclass(kind, ListedBenchmark)


def test_scores_with_rewritten_prompts_have_names_of_their_own() -> None:
    assert Counted().name == "counted"
    assert Counted(rewriter=REWRITER).name == "counted_rewritten"


def test_a_part_takes_prompts_from_everywhere_and_a_larger_part_takes_all() -> None:
    assert [item.id for item in Counted(num_prompts=3).items()] == ["000", "003", "006"]
    assert Counted(num_prompts=99).items() == Counted().items() == tuple(Counted().all_items())


def test_the_wording_says_how_prompts_were_drawn_and_that_they_are_a_part() -> None:
    assert Counted().drawing() == "prompts as they are"
    assert Counted(num_prompts=4).drawing() == "prompts as they are; a part of the prompts: 4"
    assert Counted(num_prompts=4).drawing(" a category").endswith("; a part of the prompts: 4 a category")
    assert Counted(rewriter=REWRITER).drawing() == "prompts rewritten beforehand (rewritten.jsonl)"


def test_pictures_of_prompts_beyond_the_part_are_no_strangers(tmp_path: Path) -> None:
    """A folder with pictures of all prompts is searched for those of a part."""
    for item in Counted().all_items():
        Image.new("RGB", (4, 4)).save(tmp_path / f"{item.id}.png")
    (tmp_path / "003.png").unlink()
    part = Counted(num_prompts=3)
    found = part.find(PictureFolder(uri=str(tmp_path)), part.items())
    assert [sample.item.id for sample in found] == ["000", "003", "006"]
    assert [isinstance(sample.places[0], MissingPicture) for sample in found] == [False, True, False]


def test_fields_that_no_benchmark_changed_are_in_its_json_as_before() -> None:
    """Names of finished evaluations follow from these fields."""
    common = {"pictures_per_prompt", "num_prompts", "rewriter", "pictures"}
    assert set(Counted().to_json()) == {*common, "total"}
    assert set(ClipScoreBenchmark().to_json()) == {*common, "prompts", "clip"}
    assert ClipScoreBenchmark().digest() == ClipScoreBenchmark.from_json(ClipScoreBenchmark().to_json()).digest()
