"""Train a model further: that of a run or an imported one, on the pictures of the run or on others."""

from prefect import flow

from flows.forms.parameters import DatasetForm, FinetuneForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.records.plan import (
    beginning_with,
    change_plan,
    changed,
    folder_of,
    is_begun,
    load_plan,
    new_plan,
    with_data,
)
from flows.stages.kinds import announced_training, dataset_stage
from flows.stages.stage import flow_body
from infinity.jobs.training.base import TrainReport
from infinity.recipes.runs import EndToEnd


@flow(name="finetune", flow_run_name="{run}: finetune", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def finetune(
    run: str = "demo",
    data: str | None = "",
    model: str | None = "",
    dataset: DatasetForm = DatasetForm(),  # noqa: B008
    transformer: FinetuneForm = FinetuneForm(),  # noqa: B008
) -> TrainReport:
    """Train the pretrained model of a run further; other pictures are made into a dataset first.

    Args:
        run: A run whose transformer is pretrained; with a model folder also a new name.
        data: Captioned pictures to finetune on. Empty: those of the run.
        model: Model folder to begin with, such as one that `infinity published import-transformer` wrote. Empty: the
            pretrained model of the run. Its shape, its tokenizer, its text encoder and its resolution are taken over.
        dataset: What is kept of these pictures.
        transformer: How the model is trained further.
    """

    def begin() -> EndToEnd:
        plan = new_plan("demo", data or None, folder_of(run))
        return plan if data else changed(plan, {"dataset": dataset.change})

    def change(before: EndToEnd) -> EndToEnd:
        plan = with_data(before, data, dataset.change)[1] if data else before
        return changed(plan, {"finetune": lambda spec: transformer.change(beginning_with(spec, model or None))})

    is_new = bool(model) and not is_begun(run)
    before = begin() if is_new else load_plan(run)
    change(before)  # what is wrong is said before a data set is built
    if data:
        dataset_stage(with_data(before, data, dataset.change)[0])
    elif is_new:
        dataset_stage(before.dataset)
    plan = change_plan(run, change, begin if is_new else None)
    return announced_training(run, "finetune", plan.finetune)
