"""Train the transformer of a run from nothing."""

from prefect import flow

from flows.forms.parameters import PretrainForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.records.plan import change_plan, changed
from flows.stages.kinds import announced_training
from flows.stages.stage import flow_body
from infinity.jobs.training.base import TrainReport


@flow(name="pretrain", flow_run_name="{run}: pretrain", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def pretrain(
    run: str = "demo",
    transformer: PretrainForm = PretrainForm(),  # noqa: B008
) -> TrainReport:
    """Train a transformer from nothing, on the dataset and with the tokenizer of a run.

    Args:
        run: A run whose tokenizer is trained.
        transformer: What is trained, and how.
    """
    plan = change_plan(run, lambda before: changed(before, {"pretrain": transformer.change}))
    return announced_training(run, "pretrain", plan.pretrain)
