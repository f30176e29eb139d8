"""Train a model further: that of a run or an imported one, on the pictures of the run or on others."""

from prefect import flow

from flows.forms.parameters import DatasetForm, FinetuneForm
from flows.operations.reaper import explain_crash
from flows.records.plan import beginning_with, changed, folder_of, is_begun, load_plan, new_plan, save_plan, with_data
from flows.stages.kinds import announced_training, dataset_stage
from flows.stages.stage import flow_body
from infinity.jobs.training.base import TrainReport


@flow(name="finetune", flow_run_name="{run}: finetune", on_crashed=[explain_crash])
@flow_body
def finetune(
    run: str = "demo",
    data: str | None = None,
    model: str | None = None,
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
    is_new = model is not None and not is_begun(run)
    plan = new_plan("demo", data, folder_of(run)) if is_new else load_plan(run)
    if is_new and data is None:
        plan = changed(plan, {"dataset": dataset.change})
        dataset_stage(plan.dataset)
    if data is not None:
        pictures, plan = with_data(plan, data, dataset.change)
        dataset_stage(pictures)
    plan = changed(plan, {"finetune": lambda spec: transformer.change(beginning_with(spec, model))})
    save_plan(plan, folder_of(run))
    return announced_training(run, "finetune", plan.finetune)
