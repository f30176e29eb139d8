"""Train the visual tokenizer of a run."""

from prefect import flow

from flows.forms.parameters import TokenizerForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.records.plan import change_plan, changed
from flows.stages.kinds import training_stage
from flows.stages.stage import flow_body
from infinity.jobs.training.base import TrainReport


@flow(
    name="train-tokenizer",
    flow_run_name="{run}: train tokenizer",
    on_crashed=[explain_crash],
    on_cancellation=[explain_cancel],
)
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
    plan = change_plan(run, lambda before: changed(before, {"tokenizer": tokenizer.change}))
    return training_stage("tokenizer", plan.tokenizer)
