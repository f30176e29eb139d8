"""Metrics are written where the report and TensorBoard find them."""

import importlib
import json
from pathlib import Path

from infinity import storage
from infinity.training.metrics import METRICS_FILE, TENSORBOARD_FOLDER, MetricsWriter

HISTORY = [{"step": step, "loss": 1.0 / step, "bit_accuracy.scale_0": 0.5} for step in (1, 2, 3)]


def write(folder: str) -> list[dict[str, float]]:
    with MetricsWriter(folder) as writer:
        for n in range(1, 4):
            writer.write(HISTORY[:n])
    return [json.loads(line) for line in storage.read_text(storage.join(folder, METRICS_FILE)).splitlines()]


def test_the_file_holds_one_line_a_logged_step(tmp_path: Path) -> None:
    assert write(str(tmp_path)) == HISTORY


def test_the_first_row_is_written_at_once_and_further_ones_after_the_period(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    with MetricsWriter(str(tmp_path), period_s=1e6) as writer:
        assert not path.exists()
        writer.write(HISTORY[:1])
        assert len(path.read_text().splitlines()) == 1
        writer.write(HISTORY[:2])
        assert len(path.read_text().splitlines()) == 1
        writer.flush()
        assert len(path.read_text().splitlines()) == 2
        writer.write(HISTORY)
    assert len(path.read_text().splitlines()) == 3
    assert write(str(tmp_path / "other")) == HISTORY


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    write(str(tmp_path))
    # Imported here, since it is slow and one test needs it; it is among the packages that tests require.
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    board = accumulator.EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER))
    board.Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3]
    assert board.Tags()["scalars"] == ["loss", "bit_accuracy/scale_0"]


def test_tensorboard_drops_what_an_interrupted_run_wrote_after_the_step_of_going_on(tmp_path: Path) -> None:
    write(str(tmp_path))
    (events,) = (tmp_path / TENSORBOARD_FOLDER).iterdir()
    events.rename(events.with_name("events.out.tfevents.1000000000.earlier"))  # names tell seconds only
    with MetricsWriter(str(tmp_path), first_step=2) as writer:
        writer.write([HISTORY[0], {"step": 2, "loss": 9.0}])
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    board = accumulator.EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 1.0), (2, 9.0)]


def test_a_folder_in_a_bucket_gets_both(s3_server: str) -> None:
    folder = storage.join(s3_server, "run")
    assert write(folder) == HISTORY
    assert len(storage.list_files(storage.join(folder, TENSORBOARD_FOLDER))) == 1
