"""Score a model, and make it the champion of its family if it is no worse."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from flows.forms.parameters import EvaluationForm
from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.pages.lineage_page import publish_lineage
from flows.records.models import newest_model
from flows.records.plan import change_plan, changed, folder_of, is_begun
from flows.stages.gate import GateForm, decide
from flows.stages.kinds import evaluation_stage
from flows.stages.stage import flow_body
from infinity import storage

NOTHING = "Skipped"
"""Name of the state of a run that found nothing to evaluate."""

DEFAULT_RUN = "demo"


@flow(name="evaluate", flow_run_name="{run}: evaluate", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def evaluate(
    run: str = DEFAULT_RUN,
    model: str | None = "",
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
    gate: GateForm = GateForm(),  # noqa: B008
) -> State[Any]:
    """Score a model on benchmarks, and compare it with its family's champion.

    The run ends as Promoted, Blocked, Undecided (the sample is too small), Kept (no worse than the champion, but better
    in no metric), Unchanged (it is the champion already), RolledBack (a person rolled it back), Overtaken (another
    promotion came first) or Scored (promotion is off). Where nobody named a run and there is no model yet, it
    ends as Skipped.

    Args:
        run: Run whose model is trained.
        model: Folder of the model. Empty: the newest of the run that is finished.
        evaluation: Benchmarks and their sizes.
        gate: What happens to the model.
    """
    folder = folder_of(run)
    if not model and _nobody_named(run) and not is_begun(run):
        return Completed(name=NOTHING, message=f"nothing to evaluate: there is no run {run!r} yet ({folder})")
    plan = change_plan(run, lambda before: changed(before, {"evaluation": evaluation.change}))
    wanted = storage.absolute(model) if model else newest_model(plan, folder)
    if wanted is None:
        reason = f"nothing to evaluate: no model of run {run!r} is finished yet; train one to evaluate it"
        return Completed(name=NOTHING, message=reason)
    spec = plan.evaluation.replace(model=wanted)
    report = evaluation_stage(spec)
    publish_lineage(spec.located(), report)
    return decide(spec.located(), report, folder, gate)


def _nobody_named(run: str) -> bool:
    """Return whether a schedule started this, or the run is the one that stands in the form before anybody types.

    A name that a person typed and that is wrong is an error; a night on which there is nothing to do is none.
    """
    context = FlowRunContext.get()
    by_schedule = context is not None and context.flow_run is not None and bool(context.flow_run.auto_scheduled)
    return by_schedule or run == DEFAULT_RUN
