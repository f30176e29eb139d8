"""From captioned pictures to a scored model, and a report about it."""

import json
import shlex
from typing import NamedTuple

from prefect import flow
from prefect.logging import get_run_logger

from flows.forms.parameters import DatasetForm, EvaluationForm, FinetuneForm, PretrainForm, TokenizerForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.pages.lineage_page import publish_lineage
from flows.pages.run_page import publish_run
from flows.records.plan import Change, changed, folder_of, new_plan, replace_plan
from flows.records.summary import StageReports, summarize
from flows.stages.announcing import announce_plan
from flows.stages.kinds import announce_once, dataset_stage, evaluation_stage, training_stage
from flows.stages.stage import flow_body
from infinity.jobs.spec import is_done
from infinity.recipes.runs import RecipeName
from infinity.reporting.write import ReportFiles, write_report
from infra.settings import settings


@flow(
    name="end-to-end",
    flow_run_name="{run}: end to end",
    log_prints=False,
    on_crashed=[explain_crash],
    on_cancellation=[explain_cancel],
)
@flow_body
def end_to_end(
    run: str = "demo",
    data: str | None = "",
    recipe: RecipeName = "demo",
    dataset: DatasetForm = DatasetForm(),  # noqa: B008 - a frozen value, and the form shows its defaults
    tokenizer: TokenizerForm = TokenizerForm(),  # noqa: B008
    pretrain: PretrainForm = PretrainForm(),  # noqa: B008
    finetune: FinetuneForm = FinetuneForm(),  # noqa: B008
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
) -> ReportFiles:
    """Build a dataset, train a tokenizer and a transformer, finetune, evaluate, and write the report.

    A stage that an earlier run finished with the same settings is not computed again.

    Args:
        run: Name of the run: a folder in the root of runs. A path or an s3:// URI stands for itself.
        data: Captioned pictures: a folder with metadata.jsonl or .csv, a .jsonl or .parquet file, webdataset shards, or
            a list of addresses (.parquet, .csv, .tsv with url and text). Empty: scenes are drawn.
        recipe: Sizes and lengths of everything that is left empty below.
        dataset: What is kept of the pictures.
        tokenizer: How the tokenizer is trained.
        pretrain: How the transformer is trained from nothing.
        finetune: How it is trained further.
        evaluation: What is measured, and on how much.
    """
    folder = folder_of(run)
    forms = _Forms(dataset, tokenizer, pretrain, finetune, evaluation)
    changes: dict[str, Change] = {name: form.change for name, form in forms._asdict().items()}
    plan = changed(new_plan(recipe, data or None, folder), changes)
    announce_plan(plan)
    replace_plan(plan, folder)
    is_new = not is_done(plan.finetune)
    reports = StageReports(
        dataset=dataset_stage(plan.dataset),
        tokenizer=training_stage("tokenizer", plan.tokenizer),
        pretrain=training_stage("pretrain", plan.pretrain),
        finetune=training_stage("finetune", plan.finetune),
        evaluation=evaluation_stage(plan.evaluation),
    )
    summary = summarize(plan, reports, title=run, command=_command(run, data or None, recipe, forms))
    files = write_report(summary, folder)
    publish_lineage(plan.evaluation.located(), reports.evaluation)
    publish_run({"report": files.html, "figures": files.json}, summary, plan)
    announce_once(run, plan.evaluation.model, is_new=is_new)
    get_run_logger().info("The report is at %s", files.html)
    return files


class _Forms(NamedTuple):
    """The forms of all stages, by the names of the stages."""

    dataset: DatasetForm
    tokenizer: TokenizerForm
    pretrain: PretrainForm
    finetune: FinetuneForm
    evaluation: EvaluationForm


def _command(run: str, data: str | None, recipe: str, forms: _Forms) -> str:
    """Return the shell command that repeats a run: ``make demo`` where no form was filled in, else a deployment."""
    filled = {name: form.model_dump(exclude_none=True) for name, form in forms._asdict().items()}
    filled = {name: values for name, values in filled.items() if values}
    given = {"data": data, "run": run}
    if not filled and recipe == "demo":
        return "make demo" + "".join(f" {k.upper()}={shlex.quote(v)}" for k, v in given.items() if v is not None)
    values = {"run": run, "recipe": recipe} | ({} if data is None else {"data": data})
    parameters = [f"{name}={json.dumps(value)}" for name, value in (values | filled).items()]
    deployment = f"end-to-end/{settings().environment or 'local'}"
    return f"prefect deployment run {deployment} --watch " + " ".join(
        f"--param {shlex.quote(parameter)}" for parameter in parameters
    )
