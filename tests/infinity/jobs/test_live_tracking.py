"""Trackers that are fed while a job runs: what it writes arrives before it ends, and no tracker stops a job."""

from __future__ import annotations

import importlib
import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.evaluation.score import Score
from infinity.jobs import live_tracking
from infinity.jobs.live_tracking import tracked
from infinity.reporting.tracking import trackers

SCORE = Score(metric="geneval.overall", value=0.5, unit="share", n=80, protocol="geneval/1", low=0.4, high=0.6)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFINITY_TRACKING", str(tmp_path / "tracking"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(live_tracking, "PERIOD_S", 0.01)
    (tmp_path / "transformer-1/samples").mkdir(parents=True)
    return tmp_path / "transformer-1"


def write_rows(job: Path, number: int) -> None:
    rows = ({"step": step, "loss": 1 / step} for step in range(1, number + 1))
    # In one piece, as the writer of metrics does.
    (job / "new").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (job / "new").rename(job / "metrics.jsonl")


def sent_step(job: Path, tracker: str) -> int:
    state = job.parent / f"tracking/sent-{tracker}/infinity-transformer-1.json"
    return int(json.loads(state.read_text())["step"]) if state.exists() else -1


def wait_for_step(job: Path, tracker: str, step: int) -> None:
    end = time.monotonic() + 300
    while sent_step(job, tracker) != step:
        assert time.monotonic() < end, "nothing arrived"
        time.sleep(0.02)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_curves_arrive_while_the_job_runs_and_the_rest_at_its_end(
    job: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    if tracker == "mlflow":
        pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("INFINITY_TRACKERS", tracker)
    with tracked(str(job)):
        for number in (3, 5):
            write_rows(job, number)
            wait_for_step(job, tracker, number)
        monkeypatch.setattr(live_tracking, "PERIOD_S", 1000.0)
        write_rows(job, 6)
        Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(job / "samples/step-00000006.png")
        (job / "new").write_text(json.dumps([SCORE.to_json()]))
        (job / "new").rename(job / "scores.json")  # in one piece, as evaluations do
    assert read_back(job.parent / "tracking", tracker) == ([(step, 1 / step) for step in range(1, 7)], 0.5)


def read_back(folder: Path, tracker: str) -> tuple[list[tuple[int, float]], float]:
    if tracker == "tensorboard":
        accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        found = accumulator.EventAccumulator(str(folder / "tensorboard/transformer-1"))
        found.Reload()
        assert "samples" in found.Tags()["images"]
        curve = [(each.step, pytest.approx(each.value)) for each in found.Scalars("loss")]
        return curve, found.Scalars("geneval/overall")[0].value
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("infinity").experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    return sorted((each.step, each.value) for each in history), run.data.metrics["geneval.overall"]


class Broken(trackers.Tracker):
    """A tracker whose service has gone."""

    def __init__(self, folder: Path, project: str, run: str) -> None:
        self.closed = False

    def curve(self, values: dict[str, float], step: int) -> None:
        raise ConnectionError("the service has gone")

    def picture(self, name: str, picture: Image.Image, step: int, caption: str = "") -> None:
        raise ConnectionError

    def score(self, score: Score) -> None:
        raise ConnectionError

    def close(self) -> None:
        return


def test_a_tracker_that_fails_stops_no_job_and_says_what_sends_the_rest(
    job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", Broken)
    monkeypatch.setenv("INFINITY_TRACKERS", "tensorboard")
    with caplog.at_level(logging.WARNING), tracked(str(job)):
        write_rows(job, 3)
    (record,) = [each for each in caplog.records if "gets nothing more" in each.message]
    assert "ConnectionError: the service has gone" in record.message
    assert f"`infinity track {job} --to tensorboard` sends the rest" in record.message
    assert sent_step(job, "tensorboard") == -1


@pytest.mark.parametrize("names", ["tensorbord", "tensorboard,comet"])
def test_a_wrong_name_is_refused_before_the_job_starts(job: Path, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setenv("INFINITY_TRACKERS", names)
    with (
        pytest.raises(ValueError, match="INFINITY_TRACKERS: expected one of tensorboard, wandb, mlflow, trackio"),
        tracked(str(job)),
    ):
        raise AssertionError


def test_without_the_setting_nothing_is_written(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_TRACKERS", " , ")
    with tracked(str(job)):
        write_rows(job, 3)
    assert not (job.parent / "tracking").exists()


def work_and_fail(job: Path) -> None:
    with tracked(str(job)):
        write_rows(job, 2)
        raise RuntimeError("of the job")


def test_the_error_of_a_job_is_its_own(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_TRACKERS", "tensorboard")
    with pytest.raises(RuntimeError, match="of the job"):
        work_and_fail(job)
    assert sent_step(job, "tensorboard") == 2
