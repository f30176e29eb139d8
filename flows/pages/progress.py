"""From a job's progress to the run page: a bar that moves and lines in the run's log."""

import contextvars
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from infinity.jobs.progress import Progress, silent, unfailing

LAST_WORD_S = 60.0
"""How long the end of a stage waits for its bar: Prefect's client asks a server that was away at longer and longer
intervals."""


class RunPageSink:
    """A job's sink that keeps the progress artifact of a task run up to date, inside a ``with`` block.

    Jobs may report many times a second; the server is told at most once in ``period_s``, the log only when the message
    is a new one and the last line is ``log_period_s`` old. The last report, with fraction 1, is always shown. A thread
    talks to the server, so that one that is slow or away holds up no work; it is asked again until it answers.

    Args:
        stage: Name of the stage.
        period_s: Seconds between two changes of the bar.
        log_period_s: Seconds between two lines of the log.
        live: Callback that writes a page about the stage anew.
        live_period_s: Seconds between two such pages; a stage that is over sooner has none.
    """

    def __init__(
        self,
        stage: str,
        *,
        period_s: float = 1.0,
        log_period_s: float = 10.0,
        live: Callable[[Progress], None] = silent,
        live_period_s: float = 60.0,
    ) -> None:
        self._live, self._live_period_s = live, live_period_s
        self._logger = get_run_logger()
        self._stage, self._period_s, self._log_period_s = stage, period_s, log_period_s
        self._artifact: UUID | None = None
        self._logged_at, self._message = float("-inf"), ""
        self._newest = Progress(0.0, "")
        self._has_new, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._pump,), name="run page", daemon=True
        )

    def __enter__(self) -> Self:
        self._has_new.set()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._has_new.set()
        self._thread.join(LAST_WORD_S)

    def __call__(self, progress: Progress) -> None:
        """Keep this progress for the page; it is the log's turn at once."""
        self._newest = progress
        self._has_new.set()
        now, is_last = time.monotonic(), progress.fraction >= 1.0
        if progress.message != self._message and (is_last or now - self._logged_at >= self._log_period_s):
            self._logged_at, self._message = now, progress.message
            self._logger.info("%3.0f %%  %s", 100.0 * progress.fraction, progress.message)

    def _pump(self) -> None:
        show, live, shown_at, is_live = unfailing(self._show), unfailing(self._live), time.monotonic(), False
        while not self._over.is_set():
            if time.monotonic() - shown_at >= self._live_period_s:
                shown_at, is_live = time.monotonic(), True
                live(self._newest)
            if self._has_new.wait(self._period_s):
                self._has_new.clear()
                show(self._newest)
            else:
                show.again()
            self._over.wait(self._period_s)
        show(self._newest)
        show.again(now=True)
        if is_live:
            live(self._newest)

    def _show(self, progress: Progress) -> None:
        percent = round(100.0 * progress.fraction, 1)
        if self._artifact is not None:
            update_progress_artifact(self._artifact, progress=percent)
            return
        made = create_progress_artifact(
            progress=percent, key=f"{self._stage}-progress", description=f"Progress of {self._stage}"
        )
        assert isinstance(made, UUID)
        self._artifact = made
