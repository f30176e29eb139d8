"""The one page of a finished run has everything, in order, and stays small."""

import re
from pathlib import Path

import pytest

from flows.end_to_end import _command, _Forms
from flows.forms.parameters import DatasetForm, EvaluationForm, FinetuneForm, PretrainForm, TokenizerForm
from flows.pages.links import link, verbatim
from flows.pages.run_page import _page, lineage
from flows.records.plan import new_plan
from infra.settings import settings
from tests.fixtures.jobs.run_summaries import example_summary


def test_the_page_answers_in_order_and_a_run_cannot_break_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_PRICE_CPU_HOUR", "3600")
    monkeypatch.setenv("INFINITY_POWER_CPU_W", "3600000")  # 1 kWh in each second
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
    assert "| stage | time | CPU hours | cost | energy in kWh |" in page
    (cost, energy) = re.findall(r"^\| all \| 3\.5 s \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)[0]
    assert float(cost) == pytest.approx(float(energy), rel=0.01)
    assert len(page) < 60_000


@pytest.mark.parametrize("text", ["a", "`", "a`b", "``a`", "a `` b ` c", "<b>*x*</b>"])
def test_a_text_stands_on_a_page_as_it_is(text: str) -> None:
    """By the rules of Markdown: as many backticks end it as begin it, and one space on both sides does not count."""
    found = re.fullmatch(r"(?s)(`+)(.*?[^`])\1(?!`)", verbatim(text))
    assert found is not None
    inside = found[2]
    is_padded = inside.startswith(" ") and inside.endswith(" ") and inside.strip()
    assert (inside[1:-1] if is_padded else inside) == text
    assert link(f"s3://bucket/{text}") == verbatim(f"s3://bucket/{text}")


def test_the_command_of_an_environment_names_its_own_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = _Forms(DatasetForm(), TokenizerForm(), PretrainForm(), FinetuneForm(), EvaluationForm())
    for environment, deployment in (("", "end-to-end/local"), ("staging", "end-to-end/staging")):
        monkeypatch.setenv("INFINITY_ENVIRONMENT", environment)
        settings.cache_clear()
        assert f"prefect deployment run {deployment} --watch" in _command("demo", None, "mini", forms)
    settings.cache_clear()


def test_the_lineage_leads_from_the_scores_to_the_sources(tmp_path: Path) -> None:
    plan = new_plan("mini", None, str(tmp_path / "run"))
    lines = lineage(plan).splitlines()
    assert [line.partition(". ")[2].partition(":")[0] for line in lines] == [
        "scores", "model", "finetuned with", "pretrained with", "tokenizer", "manifest", "data set", "sources"
    ]  # fmt: skip
    assert plan.evaluation.folder in lines[0]
    assert plan.dataset.folder in lines[6]
    assert lines[7].endswith("160 drawn scenes`")
