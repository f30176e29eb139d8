"""From a job's progress to the run page: a bar that moves and lines in the run's log."""

import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from infinity.jobs.progress import Progress


class RunPageSink:
    """A job's sink that keeps the progress artifact of a task run up to date.

    Jobs may report many times a second; the server is told at most once in ``period_s``, the log only when the message
    is a new one and the last line is ``log_period_s`` old. The last report, with fraction 1, is always shown.
    """

    def __init__(self, stage: str, *, period_s: float = 1.0, log_period_s: float = 10.0) -> None:
        self._logger = get_run_logger()
        artifact = create_progress_artifact(progress=0.0, key=f"{stage}-progress", description=f"Progress of {stage}")
        assert isinstance(artifact, UUID)
        self._artifact = artifact
        self._period_s, self._log_period_s = period_s, log_period_s
        self._shown_at = self._logged_at = float("-inf")
        self._message = ""

    def __call__(self, progress: Progress) -> None:
        """Show this progress, unless one was shown just now."""
        now, is_last = time.monotonic(), progress.fraction >= 1.0
        if is_last or now - self._shown_at >= self._period_s:
            self._shown_at = now
            update_progress_artifact(self._artifact, progress=round(100.0 * progress.fraction, 1))
        if progress.message != self._message and (is_last or now - self._logged_at >= self._log_period_s):
            self._logged_at, self._message = now, progress.message
            self._logger.info("%3.0f %%  %s", 100.0 * progress.fraction, progress.message)
