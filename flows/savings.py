"""Draw with one model in ways that need less work, and say what each costs in quality."""

from prefect import flow
from pydantic import Field

from flows.forms.form import Form, Positive
from flows.forms.parameters import EvaluationForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.records.plan import load_plan
from flows.stages.kinds import savings_stage
from flows.stages.stage import flow_body
from infinity import storage
from infinity.jobs.evaluation.savings import WAYS, Saving, SavingsReport, SavingsSpec


class SavingForm(Form):
    """One way to save; what is left as it is saves nothing."""

    name: str = Field(min_length=1, description="Name in words.")
    unguided: int = Field(default=0, ge=0, description="Last scales without guidance.")
    pruned: tuple[float, ...] = Field(default=(), description="Share of the tokens that the last scales leave out.")
    cache_share: float = Field(default=1.0, gt=0, le=1, description="Mean share of earlier tokens that blocks keep.")
    by_role: bool = Field(default=False, description="Blocks that look back further keep more of them.")
    quantize: str | None = Field(default=None, description="Form of the weights: int8, int4 or float8.")
    cache: str | None = Field(default=None, description="Form of the cached keys and values: int8.")


@flow(name="savings", flow_run_name="{run}: savings", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def savings(
    run: str = "demo",
    model: str | None = "",
    metric: str = "scene_geneval.overall",
    margin: Positive = 0.01,
    ways: tuple[SavingForm, ...] = (),
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
) -> SavingsReport:
    """Draw in ways that need less work: operations, bytes and the change in quality, on one page.

    Args:
        run: Run whose model is trained.
        model: Folder of the model. Empty: the newest of the run.
        metric: Metric that decides; it needs a value per prompt.
        margin: Loss that matters, in the metric's unit.
        ways: Ways to save. Empty: the usual twelve.
        evaluation: Benchmarks and their sizes, for each way.
    """
    base = evaluation.change(load_plan(run).evaluation)
    if model:
        base = base.replace(model=storage.absolute(model))
    chosen = tuple(Saving.from_json(each.model_dump(), where=f"ways[{n}]") for n, each in enumerate(ways)) or WAYS
    return savings_stage(SavingsSpec(output=base.output, base=base, ways=chosen, metric=metric, margin=margin))
