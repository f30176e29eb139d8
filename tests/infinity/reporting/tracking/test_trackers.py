"""Curves, pictures and scores of a run at four trackers, read back from their local files."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.score import Score
from infinity.reporting.tracking import trackers
from infinity.reporting.tracking.tracked import SentNow, jobs_of, send

SCORE = Score(metric="geneval.overall", value=0.5, unit="share", n=80, protocol="geneval/1", low=0.4, high=0.6)
GAP = Score.not_measured("rfid", "", protocol="rfid/1", reason="no weights")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a training and an evaluation, as jobs leave them."""
    training, evaluation = tmp_path / "run/transformer-1", tmp_path / "run/evaluation-2"
    write_rows(training, 6)
    (training / "samples").mkdir()
    Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(training / "samples/step-00000003.png")
    (evaluation / "sheets").mkdir(parents=True)
    Image.fromarray(np.full((4, 4, 3), 30, np.uint8)).save(evaluation / "sheets/samples.png")
    (evaluation / "scores.json").write_text(json.dumps([SCORE.to_json(), GAP.to_json()]))
    return tmp_path / "run"


def write_rows(training: Path, number: int) -> None:
    training.mkdir(parents=True, exist_ok=True)
    rows = [{"step": step, "loss.total": 1 / step, "rate": 0.001} for step in range(1, number + 1)]
    (training / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def sent(run: Path, tracker: str, folder: Path) -> list[SentNow]:
    return [send(job, tracker, folder=folder, project="demo") for job in jobs_of(str(run))]


def test_tensorboard_gets_curves_pictures_and_scores_once(run: Path, tmp_path: Path) -> None:
    assert sent(run, "tensorboard", tmp_path / "out") == [SentNow(0, 1, 2), SentNow(6, 1, 0)]
    assert sent(run, "tensorboard", tmp_path / "out") == [SentNow(0, 0, 0), SentNow(0, 0, 0)]
    write_rows(run / "transformer-1", 9)
    assert sent(run, "tensorboard", tmp_path / "out") == [SentNow(0, 0, 0), SentNow(3, 0, 0)]
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(tmp_path / "out/tensorboard/transformer-1"))
    found.Reload()
    assert [(each.step, round(each.value, 4)) for each in found.Scalars("loss/total")] == [
        (step, round(1 / step, 4)) for step in range(1, 10)
    ]
    assert found.Tags()["images"] == ["samples"]
    found = accumulator.EventAccumulator(str(tmp_path / "out/tensorboard/evaluation-2"))
    found.Reload()
    assert {name: found.Scalars(name)[0].value for name in ("geneval/overall", "geneval/overall.low")} == pytest.approx(
        {"geneval/overall": 0.5, "geneval/overall.low": 0.4}
    )


def test_mlflow_gets_curves_pictures_and_scores(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sent(run, "mlflow", tmp_path / "out") == [SentNow(0, 1, 2), SentNow(6, 1, 0)]
    write_rows(run / "transformer-1", 8)
    assert sent(run, "mlflow", tmp_path / "out")[1] == SentNow(2, 0, 0)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'out/mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    runs = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"transformer-1", "evaluation-2"}, "a second call continues the same run"
    history = client.get_metric_history(runs["transformer-1"].info.run_id, "loss.total")
    assert sorted((each.step, each.value) for each in history) == [(step, 1 / step) for step in range(1, 9)]
    assert runs["evaluation-2"].data.metrics["geneval.overall.high"] == 0.6
    names = {each.path for each in client.list_artifacts(runs["transformer-1"].info.run_id, "samples")}
    assert names == {"samples/step-00000003.png"}


def test_wandb_offline_gets_curves_pictures_and_scores(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    # A process of its own: the package starts a service that would outlive the test.
    command = [sys.executable, "-m", "infinity.cli", "track", str(run), "--to", "wandb", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wandb  transformer-1  6 steps, 1 pictures, 0 scores" in done.stdout
    records = [record for file in (tmp_path / "out").rglob("*.wandb") for record in read_wandb(file)]
    losses = [float(value) for name, value in records if name == "history loss.total"]
    assert losses == [1 / step for step in range(1, 7)]
    assert ("summary geneval.overall", "0.5") in records
    assert len(list((tmp_path / "out").rglob("media/images/*.png"))) == 2


def read_wandb(file: Path) -> list[tuple[str, str]]:
    """Return names and JSON values of history and summary in an offline file, a log in LevelDB's format."""
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = proto.Record.FromString(whole)
            whole = b""
            for kind_of, items in (("history", record.history.item), ("summary", record.summary.update)):
                names = [item.key or ".".join(item.nested_key) for item in items]
                found += [(f"{kind_of} {name}", item.value_json) for name, item in zip(names, items, strict=True)]
    return found


def test_trackio_gets_curves_pictures_and_scores(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    # A process of its own: the package reads its folder when it is imported.
    folder = tmp_path / "out/trackio"
    environment = {**os.environ, "TRACKIO_DIR": str(folder)}
    command = [sys.executable, "-m", "infinity.cli", "track", str(run), "--to", "trackio", "--project", "demo"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "trackio  evaluation-2  0 steps, 1 pictures, 2 scores", "trackio  transformer-1  6 steps, 1 pictures, 0 scores",
    ]  # fmt: skip
    sqlite3 = importlib.import_module("sqlite3")
    with sqlite3.connect(folder / "demo.db") as database:
        found = database.execute("select run_name, step, metrics from metrics order by step").fetchall()
    rows = [(name, step, json.loads(text)) for name, step, text in found]
    losses = [(step, values["loss.total"]) for _, step, values in rows if "loss.total" in values]
    assert losses == [(step, 1 / step) for step in range(1, 7)]
    assert any(name == "evaluation-2" and values.get("geneval.overall") == 0.5 for name, _, values in rows)
    assert len(list(folder.rglob("*.png"))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--to", "comet"), "expected one of tensorboard, wandb, mlflow, trackio, got 'comet'"),
        (("empty", "--to", "tensorboard"), "expected the folder of a training or evaluation"),
    ],
)
def test_what_cannot_be_sent_is_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(app, ["track", *arguments])
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())


@pytest.mark.parametrize("where", ["open", "curve", "close"])
def test_what_a_package_refuses_in_its_own_way_is_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    class RefusalError(Exception):
        pass

    def tracker(*_: object) -> mock.Mock:
        if where == "open":
            raise RefusalError("no room for #1")
        return mock.Mock(**{f"{where}.side_effect": RefusalError("no room for #1")})

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", tracker)
    words = r"tensorboard: .*transformer-1 was not sent \(RefusalError: no room for #1\); mend what it names"
    with pytest.raises(ValueError, match=words):
        send(str(run / "transformer-1"), "tensorboard", folder=tmp_path / "out", project="demo")


def test_a_package_that_is_missing_is_named_with_the_remedy(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"mlflow: its package is not installed .*infinity-t2i\[trackers\]"):
        sent(run, "mlflow", tmp_path / "out")
    assert not (tmp_path / "out/sent-mlflow").exists()
