"""Train a model further, on the pictures of its run or on others."""

from prefect import flow

from flows.parameters import DatasetForm, FinetuneForm
from flows.plan import changed, folder_of, load_plan, save_plan, with_data
from flows.reaper import explain_crash
from flows.stage import flow_body
from flows.stages import announced_training, dataset_stage
from infinity.jobs.training.base import TrainReport


@flow(name="finetune", flow_run_name="{run}: finetune", on_crashed=[explain_crash])
@flow_body
def finetune(
    run: str = "demo",
    data: str | None = None,
    dataset: DatasetForm = DatasetForm(),  # noqa: B008
    transformer: FinetuneForm = FinetuneForm(),  # noqa: B008
) -> TrainReport:
    """Train the pretrained model of a run further; other pictures are made into a dataset first.

    Args:
        run: A run whose transformer is pretrained.
        data: Captioned pictures to finetune on. Empty: those of the run.
        dataset: What is kept of these pictures.
        transformer: How the model is trained further.
    """
    plan = load_plan(run)
    if data is not None:
        pictures, plan = with_data(plan, data, dataset.change)
        dataset_stage(pictures)
    plan = changed(plan, {"finetune": transformer.change})
    save_plan(plan, folder_of(run))
    return announced_training(run, "finetune", plan.finetune)
