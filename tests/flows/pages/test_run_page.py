"""The one page of a finished run has everything, in order, and stays small."""

from pathlib import Path

import pytest

from flows.pages.run_page import _page, lineage
from flows.records.plan import new_plan
from infra.settings import settings
from tests.fixtures.jobs.run_summaries import example_summary


def test_the_page_answers_in_order_and_a_run_cannot_break_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_PRICE_CPU_HOUR", "3600")
    settings.cache_clear()
    plan = new_plan("mini", None, str(tmp_path / "run"))
    page = "\n\n".join(_page({"report": "s3://b/report.html"}, example_summary(tmp_path / "files"), plan))
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "Scores", "Warnings", "Time and cost", "Pictures", "Pretraining of the transformer", "Lineage",
        "One stage again",
    ]  # fmt: skip
    assert page.startswith(r"# A \<run\> & more")
    for words in (
        "The same again: `make demo`",
        "| scene\\_geneval.overall | ",
        "A sentence.",
        "| all | 3.5 s | ",
        "| kept | 7 |",
        "| loss | █▄▁ | 1 | 0.1111 |",
        "not measured",
        "### step 9",
        "### Drawings",
    ):
        assert words in page
    assert len(page) < 60_000


def test_the_lineage_leads_from_the_scores_to_the_sources(tmp_path: Path) -> None:
    plan = new_plan("mini", None, str(tmp_path / "run"))
    lines = lineage(plan).splitlines()
    assert [line.partition(". ")[2].partition(":")[0] for line in lines] == [
        "scores", "model", "finetuned with", "pretrained with", "tokenizer", "manifest", "data set", "sources"
    ]  # fmt: skip
    assert plan.evaluation.folder in lines[0]
    assert plan.dataset.folder in lines[6]
    assert lines[7].endswith("160 drawn scenes`")
