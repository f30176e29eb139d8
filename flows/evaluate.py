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
    """Score a model on benchmarks, and compare it with its family's champion.

    The run ends as Promoted, Blocked, Undecided (the sample is too small), Kept (no worse than the champion, but better
    in no metric), Unchanged (it is the champion already), RolledBack (a person rolled it back), Overtaken (another
    promotion came first) or Scored (promotion is off).

    Args:
        run: Run whose model is trained.
        model: Folder of the model. Empty: the newest of the run.
        evaluation: Benchmarks and their sizes.
        gate: What happens to the model.
    """
    folder = folder_of(run)
    plan = changed(load_plan(run), {"evaluation": evaluation.change})
    save_plan(plan, folder)
    spec = plan.evaluation.replace(model=_newest(plan) if model is None else storage.absolute(model))
    report = evaluation_stage(spec)
    return decide(spec.located(), report, folder, gate)


def _newest(plan: EndToEnd) -> str:
    """Return the finetuned model, or the pretrained one if there is no other yet."""
    pretrained = storage.join(plan.pretrain.folder, MODEL_FOLDER)
    if not is_committed(plan.evaluation.model) and is_committed(pretrained):
        return pretrained
    return plan.evaluation.model
