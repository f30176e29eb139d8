"""Train the visual tokenizer of a run."""

from prefect import flow

from flows.forms.parameters import TokenizerForm
from flows.operations.reaper import explain_crash
from flows.records.plan import changed, folder_of, load_plan, save_plan
from flows.stages.kinds import training_stage
from flows.stages.stage import flow_body
from infinity.jobs.training.base import TrainReport


@flow(name="train-tokenizer", flow_run_name="{run}: train tokenizer", on_crashed=[explain_crash])
@flow_body
def train_tokenizer(
    run: str = "demo",
    tokenizer: TokenizerForm = TokenizerForm(),  # noqa: B008
) -> TrainReport:
    """Train the tokenizer on the dataset of a run.

    Args:
        run: A run that build-dataset began.
        tokenizer: What is trained, and how.
    """
    plan = changed(load_plan(run), {"tokenizer": tokenizer.change})
    save_plan(plan, folder_of(run))
    return training_stage("tokenizer", plan.tokenizer)
