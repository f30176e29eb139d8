"""Draw with one model at many settings and score each."""

from prefect import flow
from pydantic import Field

from flows.forms.form import Form, Positive
from flows.forms.parameters import EvaluationForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.records.plan import load_plan
from flows.stages.kinds import sweep_stage
from flows.stages.stage import flow_body
from infinity import storage
from infinity.jobs.evaluation.sweep import SweepGrid, SweepReport, SweepSpec


class GridForm(Form):
    """Every kind of classifier-free guidance (CFG) at every strength, times temperatures, times seeds."""

    on_logits: tuple[Positive, ...] = Field(
        default=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), description="Strengths of guidance on the logits; 1 is none."
    )
    pyramid: tuple[Positive, ...] = Field(default=(), description="Last strengths of guidance that grows from 1.")
    on_features: tuple[Positive, ...] = Field(default=(), description="Strengths of guidance on features.")
    feature_blocks: tuple[int, ...] = Field(default=(-1,), description="Blocks whose output is guided; -1 is the last.")
    greedy: bool = Field(default=False, description="Draw also greedily, without sampling.")
    temperatures: tuple[Positive, ...] = Field(default=(0.5, 1.0), description="Temperatures of the sampling.")
    seeds: tuple[int, ...] = Field(default=(0,), description="Numbers from which the seeds of drawings follow.")


@flow(name="sweep", flow_run_name="{run}: sweep", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def sweep(
    run: str = "demo",
    model: str | None = "",
    metric: str = "scene_geneval",
    grid: GridForm = GridForm(),  # noqa: B008
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
) -> SweepReport:
    """Score a model at many settings of guidance, temperature and seed, with one table and one figure.

    Args:
        run: Run whose model is trained.
        model: Folder of the model. Empty: the newest of the run.
        metric: First part of the names of the metrics in table and figure, such as scene_geneval, geneval or dpg.
        grid: Settings of the sampling.
        evaluation: Benchmarks and their sizes, for each setting.
    """
    base = evaluation.change(load_plan(run).evaluation)
    if model:
        base = base.replace(model=storage.absolute(model))
    return sweep_stage(SweepSpec(output=base.output, base=base, grid=SweepGrid(**grid.model_dump()), metric=metric))
