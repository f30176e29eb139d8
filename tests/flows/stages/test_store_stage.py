"""A training that reads from a store gets the store first, once, and only where it is going to train."""

from pathlib import Path
from typing import Any

import pytest

from flows.forms.parameters import FinetuneForm
from flows.pages import results
from flows.records.plan import new_plan
from flows.stages import kinds
from flows.stages.stage import StageResult
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.base import TrainReport
from infinity.jobs.training.encode import EncodeReport, store_for
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.summary import TrainingSummary

SUMMARY = TrainingSummary(
    stage="finetune", title="Finetune", metrics="m.jsonl", final={}, samples=(), num_parameters=1, num_steps=1
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, JobSpec]]:
    """The stages that were run, without running them."""
    calls: list[tuple[str, JobSpec]] = []

    def run_stage(stage: str, spec: JobSpec, report_type: type[Any]) -> StageResult[Any]:
        calls.append((stage, spec))
        if report_type is EncodeReport:
            return StageResult(EncodeReport(index="index.json", num_pictures=3, num_bytes=5, seconds=1.0), False)
        return StageResult(TrainReport(model="model", training=SUMMARY, seconds=1.0), False)

    monkeypatch.setattr(kinds, "run_stage", run_stage)
    monkeypatch.setattr(results, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(results, "create_markdown_artifact", lambda **_: None)
    return calls


@pytest.fixture
def stored(tmp_path: Path) -> TrainTransformerSpec:
    return FinetuneForm(stored=True).change(new_plan("mini", None, str(tmp_path)).finetune)


def test_the_store_is_filled_before_the_training(
    asked: list[tuple[str, JobSpec]], stored: TrainTransformerSpec
) -> None:
    kinds.training_stage("finetune", stored)
    assert asked == [("finetune-store", store_for(stored)), ("finetune", stored)]


def test_without_a_store_or_when_all_is_done_nothing_is_stored(
    asked: list[tuple[str, JobSpec]], stored: TrainTransformerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds.training_stage("finetune", stored.replace(encoded=None))
    monkeypatch.setattr(kinds, "is_done", lambda _: True)
    kinds.training_stage("finetune", stored)
    assert [stage for stage, _ in asked] == ["finetune", "finetune"]


def test_a_store_of_another_training_is_refused(asked: list[tuple[str, JobSpec]], stored: TrainTransformerSpec) -> None:
    with pytest.raises(ValueError, match=r"finetune: expected the store .*, which this training fills, got"):
        kinds.training_stage("finetune", stored.replace(self_correction=0.0))
    assert asked == []
