"""The kinds of stage, each run and shown on the page of the flow run that calls it."""

from flows.pages import results
from flows.records.events import announce_model
from flows.records.models import note_model
from flows.records.plan import folder_of
from flows.stages.stage import run_stage
from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec
from infinity.jobs.evaluation.savings import SavingsReport, SavingsSpec
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.evaluation.sweep import SweepReport, SweepSpec
from infinity.jobs.spec import REPORT_FILE, SPEC_FILE, JobSpec, is_done
from infinity.jobs.training.base import TrainReport
from infinity.jobs.training.encode import EncodeReport, store_for
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.jobs.upkeep.plans import finished_models
from infinity.reporting.scores.savings import SavingsPage


def dataset_stage(spec: BuildDatasetSpec, stage: str = "dataset") -> BuildDatasetReport:
    """Build the dataset and show its funnel."""
    report = run_stage(stage, spec, BuildDatasetReport).report
    files = {"manifest": report.manifest, **_files(spec)}
    results.publish_dataset(stage, files, report.summary, Manifest.load(report.manifest))
    return report


def training_stage(stage: str, spec: TrainTokenizerSpec | TrainTransformerSpec) -> TrainReport:
    """Train a tokenizer or a transformer and show its last metrics and its samples.

    A transformer that reads latents and text features from a store gets it first, as a task of its own.
    """
    if isinstance(spec, TrainTransformerSpec) and spec.encoded is not None and not is_done(spec):
        store = store_for(spec)
        if store.index != spec.encoded:
            raise ValueError(
                f"{stage}: expected the store {store.index}, which this training fills, got {spec.encoded}"
            )
        encoded = run_stage(f"{stage}-store", store, EncodeReport).report
        results.publish_store(f"{stage}-store", {"index": encoded.index, **_files(store)}, encoded)
    report = run_stage(stage, spec, TrainReport).report
    files = {"model": report.model, "metrics": report.training.metrics, **_files(spec)}
    results.publish_training(stage, files, report.training, report.notes)
    return report


def announced_training(run: str, stage: str, spec: TrainTransformerSpec) -> TrainReport:
    """Train a transformer; a model that was not there before is announced, so that it gets evaluated."""
    is_new = not is_done(spec)
    report = training_stage(stage, spec)
    announce_once(run, report.model, is_new=is_new)
    return report


def announce_once(run: str, model: str, *, is_new: bool) -> None:
    """Announce a model that was trained now, or that is not on the list of its run yet, and put it there.

    In this order: whoever dies after a training and before the end of this leaves it to the next run.
    """
    if is_new or model not in finished_models(folder_of(run)):
        announce_model(run, model)
        note_model(folder_of(run), model)


def evaluation_stage(spec: EvaluateSpec, stage: str = "evaluation") -> EvaluateReport:
    """Score a model and show its scores and pictures; what lies there now is scored, whatever was there before."""
    spec = spec.located()
    report = run_stage(stage, spec, EvaluateReport).report
    files = {"model": spec.model, **_files(spec)}
    results.publish_evaluation(stage, files, report.scores, report.pictures)
    return report


def sweep_stage(spec: SweepSpec, stage: str = "sweep") -> SweepReport:
    """Draw with one model in many ways and show what each is worth."""
    report = run_stage(stage, spec, SweepReport).report
    results.publish_sweep(stage, {"page": report.page, "table": report.table, **_files(spec)}, report.rows)
    return report


def savings_stage(spec: SavingsSpec, stage: str = "savings") -> SavingsReport:
    """Draw with less work in many ways and show what each saves and costs."""
    report = run_stage(stage, spec, SavingsReport).report
    page = SavingsPage(model=spec.base.model, metric=spec.metric, margin=spec.margin, rows=report.rows)
    results.publish_savings(stage, {"page": report.page, **_files(spec)}, page)
    return report


def _files(spec: JobSpec) -> dict[str, str]:
    return {"spec": storage.join(spec.folder, SPEC_FILE), "report": storage.join(spec.folder, REPORT_FILE)}
