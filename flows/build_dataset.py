"""Captioned pictures to filtered, bucketed shards with a manifest."""

from prefect import flow

from flows.forms.parameters import DatasetForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.records.plan import changed, folder_of, new_plan, replace_plan
from flows.stages.kinds import dataset_stage
from flows.stages.stage import flow_body
from infinity.jobs.dataset.build import BuildDatasetReport
from infinity.recipes.runs import RecipeName


@flow(
    name="build-dataset",
    flow_run_name="{run}: build dataset",
    on_crashed=[explain_crash],
    on_cancellation=[explain_cancel],
)
@flow_body
def build_dataset(
    run: str = "demo",
    data: str | None = "",
    recipe: RecipeName = "demo",
    dataset: DatasetForm = DatasetForm(),  # noqa: B008
) -> BuildDatasetReport:
    """Begin a run: read the pictures, drop what is unfit with a counted reason, and write shards by aspect ratio.

    Args:
        run: Name of the run: a folder in the root of runs. A path or an s3:// URI stands for itself.
        data: Captioned pictures: a folder with metadata.jsonl or .csv, a .jsonl or .parquet file, webdataset shards, or
            a list of addresses (.parquet, .csv, .tsv with url and text). Empty: scenes are drawn.
        recipe: Sizes and lengths of everything that is left empty, in this stage and in later ones.
        dataset: What is kept of the pictures.
    """
    folder = folder_of(run)
    plan = changed(new_plan(recipe, data or None, folder), {"dataset": dataset.change})
    replace_plan(plan, folder)
    return dataset_stage(plan.dataset)
