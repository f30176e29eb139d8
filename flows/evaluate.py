"""Score the model of a run."""

from prefect import flow

from flows.parameters import EvaluationForm
from flows.plan import changed, folder_of, load_plan, save_plan
from flows.stage import flow_body
from flows.stages import evaluation_stage
from infinity.jobs.evaluate import EvaluateReport


@flow(name="evaluate", flow_run_name="{run}: evaluate")
@flow_body
def evaluate(
    run: str = "demo",
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
) -> EvaluateReport:
    """Measure reconstruction, likelihood and drawn scenes of a run's newest model.

    Args:
        run: A run whose model is trained.
        evaluation: What is measured, and on how much.
    """
    plan = changed(load_plan(run), {"evaluation": evaluation.change})
    save_plan(plan, folder_of(run))
    return evaluation_stage(plan.evaluation)
