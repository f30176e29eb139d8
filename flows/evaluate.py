"""Score a model, and make it the champion of its family if it is no worse."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from flows.gate import GateForm, decide
from flows.models import newest_model
from flows.parameters import EvaluationForm
from flows.plan import changed, folder_of, has_plan, load_plan, save_plan
from flows.reaper import explain_crash
from flows.stage import flow_body
from flows.stages import evaluation_stage
from infinity import storage

NOTHING = "Nothing"
"""Name of the state of a run that found nothing to evaluate."""


@flow(name="evaluate", flow_run_name="{run}: evaluate", on_crashed=[explain_crash])
@flow_body
def evaluate(
    run: str = "demo",
    model: str | None = None,
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
    gate: GateForm = GateForm(),  # noqa: B008
) -> State[Any]:
    """Measure reconstruction, likelihood and drawn scenes of a model, and compare it with its family's champion.

    The run ends as Promoted, Blocked, Undecided (too small a sample), Unchanged (it is the champion already), Overtaken
    (another promotion came first), Scored (no promotion was asked for) or Nothing (no model is finished yet).

    Args:
        run: A run whose model is trained.
        model: Folder of the model. Empty: the newest of the run that is finished.
        evaluation: What is measured, and on how much.
        gate: What becomes of the model.
    """
    folder = folder_of(run)
    if _is_night_shift() and not has_plan(run):
        return Completed(name=NOTHING, message=f"there is no run {run!r} to evaluate; begin it, or pause this schedule")
    before = load_plan(run)
    plan = changed(before, {"evaluation": evaluation.change})
    if plan != before:  # another flow of the run may be changing its own stage meanwhile
        save_plan(plan, folder)
    wanted = newest_model(plan, folder) if model is None else storage.absolute(model)
    if wanted is None:
        return Completed(name=NOTHING, message=f"no model of run {run!r} is finished yet; train one to evaluate it")
    spec = plan.evaluation.replace(model=wanted)
    report = evaluation_stage(spec)
    return decide(spec, report, folder, gate)


def _is_night_shift() -> bool:
    """Whether a schedule has begun this run: then nobody typed the name of a run, and nobody waits for an answer."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and bool(context.flow_run.auto_scheduled)
