"""Score a model, and make it the champion of its family if it is no worse."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.gate import GateForm, decide
from flows.parameters import EvaluationForm
from flows.plan import changed, folder_of, load_plan, save_plan
from flows.stage import flow_body
from flows.stages import evaluation_stage
from infinity import storage
from infinity.checkpoint import is_committed
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.recipes.runs import EndToEnd


@flow(name="evaluate", flow_run_name="{run}: evaluate")
@flow_body
def evaluate(
    run: str = "demo",
    model: str | None = None,
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
    gate: GateForm = GateForm(),  # noqa: B008
) -> State[Any]:
    """Measure reconstruction, likelihood and drawn scenes of a model, and compare it with its family's champion.

    The run ends as Promoted, Blocked, Undecided (too small a sample), Kept (no worse than the champion, but better in
    nothing), Unchanged (it is the champion already), RolledBack (a person took it back), Overtaken (another promotion
    came first) or Scored (no promotion was asked for).

    Args:
        run: A run whose model is trained.
        model: Folder of the model. Empty: the newest of the run.
        evaluation: What is measured, and on how much.
        gate: What becomes of the model.
    """
    folder = folder_of(run)
    plan = changed(load_plan(run), {"evaluation": evaluation.change})
    save_plan(plan, folder)
    spec = plan.evaluation.replace(model=_newest(plan) if model is None else storage.absolute(model))
    report = evaluation_stage(spec)
    return decide(spec.located(), report, folder, gate)


def _newest(plan: EndToEnd) -> str:
    """The finetuned model, or the pretrained one where no other is there yet."""
    pretrained = storage.join(plan.pretrain.folder, MODEL_FOLDER)
    if not is_committed(plan.evaluation.model) and is_committed(pretrained):
        return pretrained
    return plan.evaluation.model
