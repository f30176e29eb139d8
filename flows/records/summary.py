"""From the reports of a run's stages to the one value that its report is written from."""

import shlex
from dataclasses import dataclass

from flows.records.plan import STAGES
from infinity import storage
from infinity.jobs.dataset.build import BuildDatasetReport
from infinity.jobs.evaluation.spec import EvaluateReport
from infinity.jobs.spec import SPEC_FILE, JobSpec
from infinity.jobs.training.base import TrainReport
from infinity.recipes.runs import EndToEnd
from infinity.reporting.summary import RunSummary, StageSummary

TITLES = {
    "dataset": "Build dataset",
    "tokenizer": "Train tokenizer",
    "pretrain": "Pretrain transformer",
    "finetune": "Finetune transformer",
    "evaluation": "Evaluate",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReports:
    """Reports of the stages of a run, by their names."""

    dataset: BuildDatasetReport
    tokenizer: TrainReport
    pretrain: TrainReport
    finetune: TrainReport
    evaluation: EvaluateReport

    @property
    def trainings(self) -> dict[str, TrainReport]:
        """Reports of the trainings, in their order."""
        return {"tokenizer": self.tokenizer, "pretrain": self.pretrain, "finetune": self.finetune}


def summarize(plan: EndToEnd, reports: StageReports, *, title: str, command: str) -> RunSummary:
    """Return everything that the report of an end-to-end run says.

    Args:
        plan: The specs that were run.
        reports: Reports of the stages.
        title: Name of the run.
        command: Shell command that repeats it.
    """
    return RunSummary(
        title=title,
        run_digest=plan.digest(),
        command=command,
        stages=tuple(_stage(name, getattr(plan, name), getattr(reports, name).seconds) for name in STAGES),
        dataset=reports.dataset.summary,
        trainings=tuple(report.training for report in reports.trainings.values()),
        scores=reports.evaluation.scores,
        pictures=reports.evaluation.pictures,
        notes=tuple(f"{TITLES[stage]}: {note}" for stage, report in reports.trainings.items() for note in report.notes),
    )


def _stage(name: str, spec: JobSpec, seconds: float) -> StageSummary:
    return StageSummary(
        name=name,
        title=TITLES[name],
        folder=spec.folder,
        seconds=seconds,
        command=f"infinity run {shlex.quote(storage.join(spec.folder, SPEC_FILE))} --output again",
        settings=spec.to_json(),
    )
