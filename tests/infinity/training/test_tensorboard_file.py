"""Events reach TensorBoard, and a disk that is full is an error of the call, never a wait."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinity import storage
from infinity.reporting.tracking.trackers import TensorBoardTracker
from infinity.storage import StorageError
from infinity.training import tensorboard_file
from infinity.training.metrics import MetricsWriter
from infinity.training.tensorboard_file import TensorBoardFile


def fill_the_disk_of(board: Any) -> None:
    """Let the file of a board be one on a disk that is full."""
    records = board.file_writer.event_writer._file._py_recordio_writer
    records._writer.close()
    records._writer = open("/dev/full", "wb")  # noqa: SIM115 - the board closes it


def test_scalars_pictures_and_texts_are_read_back(tmp_path: Path) -> None:
    board = TensorBoardFile(str(tmp_path / "new" / "folder"))
    for step in range(1, 4):
        board.add_scalar("loss", 1.0 / step, step)
    board.add_image("drawn", np.zeros((4, 4, 3), np.uint8), 3, dataformats="HWC")
    board.add_text("said", "words", 3)
    board.close()
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(tmp_path / "new" / "folder"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in read.Scalars("loss")] == pytest.approx([1, 1 / 2, 1 / 3])
    assert read.Tags()["images"] == ["drawn"]


def test_what_was_added_lies_on_the_disk_after_a_flush_and_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = TensorBoardFile(str(tmp_path))
    (path,) = tmp_path.iterdir()
    first = path.stat().st_size
    board.add_scalar("loss", 1.0, 1)
    assert path.stat().st_size == first, "not at every event"
    board.flush()
    second = path.stat().st_size
    monkeypatch.setattr(tensorboard_file, "FLUSH_EVERY_S", 0.0)
    board.add_scalar("loss", 1.0, 2)
    assert board.file_writer.get_logdir() == str(tmp_path)
    assert list(board.all_writers) == [str(tmp_path)]
    assert 0 < first < second < path.stat().st_size
    board.close()


def test_a_board_that_goes_on_says_from_which_step_earlier_events_do_not_count(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import SessionLog

    for first, started in ((None, []), (7, [7])):
        folder = tmp_path / str(first)
        board = TensorBoardFile(str(folder), purge_step=first)
        board.add_scalar("loss", 1.0, 8)
        board.close()
        (path,) = folder.iterdir()
        loader = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
        events = list(loader.LegacyEventFileLoader(str(path)).Load())
        found = [event.step for event in events if event.session_log.status == SessionLog.START]
        assert found == started
        assert [event.step for event in events[1:] if event.file_version] == started, "readers of its form"


def add_many(add: Callable[[int], object]) -> None:
    """Add more than any buffer holds."""
    for step in range(2, 2_000):
        add(step)


def test_a_full_disk_is_an_error_of_metrics_and_not_a_wait(tmp_path: Path) -> None:
    writer = MetricsWriter(str(tmp_path), period_s=1e9)
    history = [{"step": step, "loss": 1.0} for step in range(1, 2_000)]
    writer.write(history[:1])
    fill_the_disk_of(writer._board)
    with pytest.raises(StorageError, match="tensorboard: no space left on the disk; free some"):
        add_many(lambda step: writer.write(history[:step]))
    with pytest.raises(StorageError, match="no space left"):
        writer.close()
    assert storage.read_text(writer.uri)  # what was written stays


def test_a_full_disk_is_an_error_of_a_tracker_and_not_a_wait(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path, "project", "run")
    fill_the_disk_of(tracker._board)
    with pytest.raises(StorageError, match="no space left on the disk"):
        add_many(lambda step: tracker.curve({"loss": 1.0, "rate": 2.0}, step))
    with pytest.raises(StorageError, match="no space left"):
        tracker.close()
