"""Two evaluations side by side: the page shows the same prompts and seeds, the worst first."""

import json
from pathlib import Path

import pytest

from infinity.evaluation.promotion.margins import GateConfig
from infinity.jobs.evaluation.comparing import shown_prompts, write_comparison
from tests.fixtures.jobs.evaluations import prompts, write_evaluation

FAST = GateConfig(num_resamples=1000)


def test_the_page_holds_figures_pictures_and_the_prompt_with_the_heaviest_loss_first(tmp_path: Path) -> None:
    before = write_evaluation(tmp_path, "before", prompts(20, 0.75))
    after = write_evaluation(tmp_path, "after", prompts(20, 0.75) | {"a photo of 7 stars": 0.0})
    files, report, refusal = write_comparison(before, after, str(tmp_path / "out"), titles=("A", "B"), config=FAST)
    assert report is not None
    assert refusal == ""
    page = Path(files.html).read_text()
    assert page.index("<h3>a photo of 7 stars</h3>") < page.index("<h3>a photo of 0 stars</h3>")
    assert page.count("data:image/png;base64,") == 20 * 4
    assert "http" not in page.split("<main>")[1]
    assert json.loads(Path(files.json).read_text())["decision"] == report.decision
    assert files.worst is not None
    assert files.worst.captions[0].startswith("a photo of 7 stars (")


def test_evaluations_with_other_settings_are_shown_without_paired_figures(tmp_path: Path) -> None:
    before = write_evaluation(tmp_path, "before", prompts(20, 0.75))
    after = write_evaluation(tmp_path, "after", prompts(20, 0.75), guidance=3.0)
    files, report, refusal = write_comparison(before, after, str(tmp_path / "out"), titles=("A", "B"), config=FAST)
    assert report is None
    assert "different settings" in refusal
    assert "No paired scores" in Path(files.html).read_text()


def test_only_prompts_that_both_drew_alike_stand_side_by_side(tmp_path: Path) -> None:
    before = write_evaluation(tmp_path, "before", prompts(5, 0.75))
    after = write_evaluation(tmp_path, "after", prompts(7, 0.75))
    assert len(shown_prompts(before, after, FAST)) == 5


@pytest.mark.parametrize("most", [1, 5, 12, 40])
def test_of_too_many_prompts_the_worst_and_the_best_stay(tmp_path: Path, most: int) -> None:
    before = write_evaluation(tmp_path, "before", prompts(30, 0.5))
    changed = {f"a photo of {index} stars": 0.5 + (index - 15) / 100 for index in range(30)}
    after = write_evaluation(tmp_path, "after", changed)
    files, _, _ = write_comparison(
        before, after, str(tmp_path / "out"), titles=("A", "B"), config=FAST, max_prompts=most
    )
    page = Path(files.html).read_text()
    assert page.count("<article") == min(most, 30)
    if most >= 5:
        assert "<h3>a photo of 0 stars</h3>" in page
        assert "<h3>a photo of 29 stars</h3>" in page
    assert ("of 30 prompts" in page) == (most < 30)
