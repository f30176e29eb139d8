"""The end of an evaluation, in real flow runs on a real server: promoted, kept, blocked, undecided, rolled back ..."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State

from flows.stages import gate
from flows.stages.gate import GateForm, decide
from flows.stages.stage import flow_body
from infinity.evaluation.promotion.champions import Champion, Champions, family_of
from infinity.jobs.evaluation.results import Evaluated
from tests.fixtures.jobs.evaluations import prompts, write_evaluation

pytestmark = pytest.mark.prefect


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str) -> Path:
    monkeypatch.delenv("INFINITY_REGISTRY", raising=False)
    # Both are evaluated already; the stage would only find that out.
    monkeypatch.setattr(gate, "evaluation_stage", lambda spec, stage: None)
    return tmp_path / "run"


def end_of(candidate: Evaluated, **form: Any) -> State[Any]:
    """The final state of a flow run that decides about this evaluation."""

    @flow(name="decide")
    @flow_body
    def decide_flow() -> State[Any]:
        return decide(candidate.spec, candidate.report, candidate.spec.output, GateForm(**{"family": "demo", **form}))

    state: State[Any] = decide_flow(return_state=True)
    return state


def artifacts_of(state: State[Any]) -> Mapping[str, str]:
    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        )
    return {artifact.key: str(artifact.data) for artifact in found if artifact.key}


def champions(run: Path) -> Champions:
    return Champions(str(run.parent / "registry"))


def test_promoted_unchanged_blocked_and_undecided_with_the_cause_in_the_state(run: Path) -> None:
    first = write_evaluation(run, "first", prompts(40, 0.5))
    state = end_of(first)
    assert (state.type.value, state.name) == ("COMPLETED", "Promoted")
    assert "the first model of its family" in str(state.message)
    state = end_of(first)
    assert (state.type.value, state.name) == ("COMPLETED", "Unchanged")

    better = write_evaluation(run, "better", prompts(40, 0.75))
    state = end_of(better)
    assert (state.type.value, state.name) == ("COMPLETED", "Promoted")
    assert "better: scene_geneval.overall" in str(state.message)
    artifacts = artifacts_of(state)
    assert "scene_geneval.overall" in artifacts["gate-numbers"]
    assert "+0.25 to +0.25" in artifacts["gate-numbers"]
    assert "No prompt became worse." in artifacts["gate-pictures"]

    worse = write_evaluation(run, "worse", prompts(40, 0.75) | {f"a photo of {n} stars": 0.0 for n in range(20)})
    state = end_of(worse)
    assert (state.type.value, state.name) == ("FAILED", "Blocked")
    assert str(state.message).startswith("Blocked: scene_geneval.overall worse by 0.375 (δ 0.08, 95 % interval -0.")
    assert "](data:image/" in artifacts_of(state)["gate-pictures"]
    assert "comparison.html" in artifacts_of(state)["gate-pictures"]

    noisy = prompts(40, 0.75) | {f"a photo of {n} stars": 1.0 if n % 2 else 0.4 for n in range(40)}
    state = end_of(write_evaluation(run, "noisy", noisy))
    assert (state.type.value, state.name) == ("COMPLETED", "Undecided")
    assert "items; about" in str(state.message)
    history = champions(run).history("demo")
    assert [record.model for record in history] == [first.spec.model, better.spec.model]
    assert history[1].evaluation == better.folder


def test_a_promotion_that_comes_second_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"first": 0.5, "second": 0.6, "third": 0.7}
    first, second, third = (write_evaluation(run, name, prompts(40, value)) for name, value in values.items())
    end_of(first)
    stale: Champion | None = champions(run).champion("demo")
    end_of(second)
    assert stale is not None
    monkeypatch.setattr(Champions, "history", lambda self, family: (stale,))
    state = end_of(third)
    assert (state.type.value, state.name) == ("COMPLETED", "Overtaken")
    assert second.spec.model in str(state.message)


def test_what_cannot_be_compared_fails_with_its_sentence_and_scores_only_when_asked(run: Path) -> None:
    first = write_evaluation(run, "first", prompts(40, 0.5))
    other = write_evaluation(run, "other", prompts(41, 0.5))
    end_of(first)
    state = end_of(other)
    assert state.is_failed()
    assert "1 only on the candidate" in str(state.message)
    state = end_of(other, deltas={"beauty": 1.0})
    assert "no metric 'beauty' is gated" in str(state.message)
    state = end_of(other, promote=False)
    assert (state.type.value, state.name) == ("COMPLETED", "Scored")
    Path(first.spec.model, "COMMITTED").write_text("trained again\n")
    state = end_of(other)
    assert "it was trained again or deleted" in str(state.message)


def test_a_model_that_is_better_in_nothing_replaces_nobody_night_after_night(run: Path) -> None:
    twins = [write_evaluation(run, name, prompts(60, 0.5)) for name in ("one", "other")]
    end_of(twins[0])
    for _ in range(2):
        state = end_of(twins[1])
        assert (state.type.value, state.name) == ("COMPLETED", "Kept")
        assert "is better in nothing than champion 1" in str(state.message)
        assert end_of(twins[0]).name == "Unchanged"
    assert len(champions(run).history("demo")) == 1
    assert [note.model for note in champions(run).kept("demo")] == [twins[1].spec.model]


def test_a_model_that_was_rolled_back_stays_out_until_it_is_asked_for_by_its_digest(run: Path) -> None:
    good, better, best = (
        write_evaluation(run, name, prompts(60, value))
        for name, value in (("good", 0.4), ("better", 0.6), ("best", 0.8))
    )
    for each in (good, better, best):
        assert end_of(each).name == "Promoted"
    champions(run).rollback("demo", to=1, why="both paint watermarks")
    for each in (best, better):  # also the one that was skipped
        state = end_of(each)
        assert (state.type.value, state.name) == ("COMPLETED", "RolledBack")
        assert "back to record 1: both paint watermarks" in str(state.message)
        assert "@" in str(state.message)
    copied = write_evaluation(run.parent / "elsewhere", "best", prompts(60, 0.8))  # the same checkpoint, another folder
    assert end_of(copied).name == "RolledBack"
    assert end_of(best, readmit=better.report.model_digest).name == "RolledBack"
    assert end_of(best, readmit=best.report.model_digest).name == "Promoted"
    assert end_of(better).name == "RolledBack"


def test_what_gains_here_and_slides_there_is_held_against_the_best_so_far(run: Path) -> None:
    names = ["m" + "x" * k for k in range(3)]
    for number, name in enumerate(names):  # each better than the last in one task, 0.9 margins worse in another
        items = {f"c{i}": 0.9 - 0.225 * number for i in range(100)}
        other = {f"p{i}": 0.2 + 0.3 * number for i in range(100)}
        state = end_of(
            write_evaluation(run, name, items, metric="scene_geneval.counting", more={"scene_geneval.position": other})
        )
        assert state.name == ("Blocked" if number == 2 else "Promoted"), state.message
    assert "against record 1, the best so far: scene_geneval.counting worse by 0.45" in str(state.message)


def test_the_best_so_far_whose_folder_is_gone_still_counts_by_its_figures(run: Path) -> None:
    for number, name in enumerate(("m", "mx", "mxx")):
        items = {f"c{i}": 0.9 - 0.225 * number for i in range(100)}
        other = {f"p{i}": 0.2 + 0.3 * number for i in range(100)}
        found = write_evaluation(
            run, name, items, metric="scene_geneval.counting", more={"scene_geneval.position": other}
        )
        state = end_of(found)
        if number == 0:
            gone = Path(found.spec.model, "COMMITTED")
        if number == 1:
            gone.unlink()
    assert state.name == "Undecided"
    assert "does not hold it any more" in str(state.message)


def test_a_floor_holds_for_the_first_champion_too(run: Path) -> None:
    first = write_evaluation(run, "first", prompts(60, 0.3))
    state = end_of(first, floors={"scene_geneval.overall": 0.5})
    assert (state.type.value, state.name) == ("FAILED", "Blocked")
    assert "scene_geneval.overall is 0.3 share, below its floor of 0.5" in str(state.message)
    assert "rfid has a floor of 9 but no value" in str(end_of(first, floors={"rfid": 9.0}).message)
    assert "beauty has a floor of 1 but was not measured" in str(end_of(first, floors={"beauty": 1.0}).message)
    assert end_of(first, floors={"scene_geneval.*": 0.3}).name == "Promoted"


def test_a_run_of_any_name_has_a_family(run: Path) -> None:
    first = write_evaluation(run.parent / "Meine Bilder \u732b", "first", prompts(40, 0.5))
    assert [end_of(first, family=None).name for _ in range(2)] == ["Promoted", "Unchanged"]
    assert champions(run).families() == (family_of("Meine Bilder \u732b"),)
