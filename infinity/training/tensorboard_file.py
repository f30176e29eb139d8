"""Files for TensorBoard, written by the caller itself.

The writer of tensorboardX has a thread of its own. Where the disk is full the thread ends without a word, its queue
fills, and the next call waits for ever. Here the call that cannot write raises.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.writer import FileWriter

from infinity.storage.backends.local import explained

FLUSH_EVERY_S = 30.0


class _Events:
    """What tensorboardX asks of the writer of an event file."""

    def __init__(self, folder: str, suffix: str) -> None:
        self._folder, self._flushed_at = folder, time.monotonic()
        with explained("write", folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(Path(folder) / "events"), suffix)
            self._file.flush()

    def get_logdir(self) -> str:
        return self._folder

    def add_event(self, event: Event) -> None:
        with explained("write", self._folder):
            self._file.write_event(event)
        if time.monotonic() - self._flushed_at >= FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        with explained("write", self._folder):
            self._file.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        with explained("write", self._folder):
            try:
                self._file.flush()
            finally:
                self._file._py_recordio_writer.close()


class _EventFile(FileWriter):  # type: ignore[misc]
    def __init__(self, folder: str, suffix: str) -> None:
        self.event_writer = _Events(folder, suffix)
        self._default_metadata: dict[str, Any] = {}


class TensorBoardFile(SummaryWriter):  # type: ignore[misc]
    """Write TensorBoard's events with the methods of tensorboardX.

    Raises:
        StorageError: The file cannot be written; of every method that adds something, flushes or closes.
    """

    file_writer: Any
    all_writers: Any

    def _get_file_writer(self) -> Any:
        if self.file_writer is None:
            self.file_writer = _EventFile(str(self.logdir), self._filename_suffix)
            self.all_writers = {self.file_writer.get_logdir(): self.file_writer}
            if self.purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                self.file_writer.add_event(Event(step=self.purge_step, file_version="brain.Event:2"))
                self.file_writer.add_event(Event(step=self.purge_step, session_log=start))
        return self.file_writer

    def close(self) -> None:
        """Write what is left; the file is closed also where that fails."""
        writer, self.file_writer, self.all_writers = self.file_writer, None, None
        if writer is not None:
            writer.close()
