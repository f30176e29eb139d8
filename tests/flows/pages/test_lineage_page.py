"""The lineage follows the files: from the scores over every training to the pictures."""

import json
from pathlib import Path

from flows.pages.lineage_page import lineage_markdown, trainings
from flows.records.plan import new_plan
from infinity import storage
from infinity.evaluation.score import Score
from infinity.jobs.evaluation.spec import EvaluateReport
from infinity.jobs.spec import begin
from infinity.recipes.runs import EndToEnd


def trained(tmp_path: Path) -> EndToEnd:
    """A plan whose stages have begun, with checkpoints that are finished."""
    plan = new_plan("mini", None, str(tmp_path / "run"))
    for spec in (plan.dataset, plan.tokenizer, plan.pretrain, plan.finetune):
        begin(spec)
    for number, spec in enumerate((plan.tokenizer, plan.pretrain, plan.finetune)):
        storage.write_text(storage.join(spec.folder, "model", "COMMITTED"), f"digest-{number}\n")
    return plan


def report() -> EvaluateReport:
    score = Score(metric="scene_geneval.overall", value=0.5, unit="", n=7, protocol="scenes")
    return EvaluateReport(model_digest="digest-2", scores=(score,), pictures={}, records={}, seconds=1.0)


def test_the_page_leads_from_the_scores_over_checkpoints_and_recipes_to_the_sources(tmp_path: Path) -> None:
    plan = trained(tmp_path)
    page = "\n\n".join(lineage_markdown(plan.evaluation, report()))
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == ["Scores", "Checkpoint: finetune", "Checkpoint: pretrain", "Tokenizer", "Pictures"]
    for words in ("scene\\_geneval.overall: 0.5, n = 7", "digest-0", "digest-1", "digest-2", "160 drawn scenes"):
        assert words in page
    for spec in (plan.dataset, plan.tokenizer, plan.pretrain, plan.finetune, plan.evaluation):
        assert spec.digest() in page
    assert plan.tokenizer.manifest in page
    assert len(page) < 10_000


def test_the_lineage_is_that_of_the_files_where_the_plan_names_others_by_now(tmp_path: Path) -> None:
    plan = trained(tmp_path)
    changed = plan.replace(finetune=plan.finetune.replace(seed=77))
    spec = changed.evaluation.replace(model=plan.evaluation.model)
    page = "\n\n".join(lineage_markdown(spec, report()))
    assert plan.finetune.digest() in page
    assert changed.finetune.digest() not in page


def test_a_model_that_came_from_elsewhere_or_that_names_itself_ends_the_chain(tmp_path: Path) -> None:
    plan = trained(tmp_path)
    found = list(trainings(str(tmp_path / "imported" / "model")))
    assert [(title, spec) for title, _, spec in found] == [("Checkpoint: imported", None)]
    model = storage.join(plan.finetune.folder, "model")
    again = {**plan.finetune.to_file()}
    again["spec"]["start_from"] = model

    storage.write_text(storage.join(plan.finetune.folder, "spec.json"), json.dumps(again))
    assert len(list(trainings(model))) <= 21
