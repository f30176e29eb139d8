"""From the reports of a run's stages to the one value that its report is written from."""

import shlex

from flows.plan import STAGES
from infinity import storage
from infinity.jobs.build_dataset import BuildDatasetReport
from infinity.jobs.evaluate import EvaluateReport
from infinity.jobs.recipes import EndToEnd
from infinity.jobs.spec import SPEC_FILE, JobSpec
from infinity.jobs.training import TrainReport
from infinity.reporting.summary import RunSummary, StageSummary

TITLES = {
    "dataset": "Build dataset",
    "tokenizer": "Train tokenizer",
    "pretrain": "Pretrain transformer",
    "finetune": "Finetune transformer",
    "evaluation": "Evaluate",
}


def summarize(
    plan: EndToEnd,
    *,
    title: str,
    command: str,
    dataset: BuildDatasetReport,
    tokenizer: TrainReport,
    pretrain: TrainReport,
    finetune: TrainReport,
    evaluation: EvaluateReport,
) -> RunSummary:
    """Everything that the report of an end-to-end run says.

    Args:
        plan: The specs that were run.
        title: Name of the run.
        command: Shell command that repeats it.
        dataset: Report of the first stage.
        tokenizer: Report of the second.
        pretrain: Report of the third.
        finetune: Report of the fourth.
        evaluation: Report of the fifth.
    """
    seconds = {
        "dataset": dataset.seconds,
        "tokenizer": tokenizer.seconds,
        "pretrain": pretrain.seconds,
        "finetune": finetune.seconds,
        "evaluation": evaluation.seconds,
    }
    return RunSummary(
        title=title,
        run_digest=plan.digest(),
        command=command,
        stages=tuple(_stage(name, getattr(plan, name), seconds[name]) for name in STAGES),
        dataset=dataset.summary,
        trainings=(tokenizer.training, pretrain.training, finetune.training),
        scores=evaluation.scores,
        pictures=evaluation.pictures,
        notes=tuple(
            f"{TITLES[stage]}: {note}"
            for stage, report in (("tokenizer", tokenizer), ("pretrain", pretrain), ("finetune", finetune))
            for note in report.notes
        ),
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
