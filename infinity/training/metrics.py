"""Write metrics: a JSON lines file for the report page, and TensorBoard files."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from infinity import storage
from infinity.training.state import MetricRow

METRICS_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "tensorboard"


class MetricsWriter:
    """Keeps ``metrics.jsonl`` and ``tensorboard/`` of a folder up to date.

    The whole JSON lines file is rewritten each time, since S3 cannot append. After a resume it holds no step twice.
    """

    def __init__(self, folder: str, *, first_step: int = 0, period_s: float = 5.0) -> None:
        """Begin to write.

        Args:
            folder: URI of the folder.
            first_step: Step from which the run resumes; TensorBoard drops what an interrupted run wrote after it.
            period_s: Shortest time in seconds between two writes of the JSON lines file.
        """
        self.uri = storage.join(folder, METRICS_FILE)
        self._target = storage.join(folder, TENSORBOARD_FOLDER)
        self._period_s, self._written_at = period_s, -period_s
        self._history: Sequence[MetricRow] = ()
        local = storage.local_path(self._target)
        from infinity.training.tensorboard_file import TensorBoardFile  # slow to import, and most processes write none

        # TensorBoard's writer appends to a local file; for S3 it is uploaded at the end.
        self._temporary = tempfile.TemporaryDirectory(prefix="tensorboard-") if local is None else None
        self._folder = local or Path(self._temporary.name if self._temporary else "")
        self._board = TensorBoardFile(str(self._folder), purge_step=first_step or None)

    def write(self, history: Sequence[MetricRow]) -> None:
        """Log the last row of ``history``; the JSON lines file follows within ``period_s``."""
        self._history = history
        row = history[-1]
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name.replace(".", "/", 1), value, int(row["step"]))
        if time.monotonic() - self._written_at >= self._period_s:
            self.flush()

    def flush(self) -> None:
        """Write the JSON lines file."""
        text = "".join(json.dumps(row) + "\n" for row in self._history)
        storage.write_text(self.uri, text)
        self._written_at = time.monotonic()

    def close(self) -> None:
        """Write what is left, and upload the TensorBoard files."""
        try:
            self._board.close()
            if self._history:
                self.flush()
            if self._temporary is not None:
                storage.upload_folder(self._folder, self._target)
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
