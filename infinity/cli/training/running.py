"""``infinity run``: one stage of a pipeline from its spec file.

A cluster's job manifest calls it, and it repeats a stage of an earlier run: every stage leaves its ``spec.json`` beside
its outputs. Progress goes to standard error through logging. The exit code is 1, after one line, when the stage cannot
be done, and 130 when it is interrupted.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Cluster

if TYPE_CHECKING:
    from infinity.jobs.progress import Progress

logger = logging.getLogger(__name__)


def run(
    spec_file: Annotated[str, typer.Argument(help="Path or s3:// URI of a spec.json, as every stage leaves it.")],
    output: Annotated[
        str | None,
        typer.Option(help="Folder for the outputs instead of the spec's own: computes a finished stage again."),
    ] = None,
    ray_address: Cluster = None,
    wait: Annotated[
        bool, typer.Option(help="Where another process works on this stage: wait for its end, or end with a sentence.")
    ] = True,
) -> None:
    """Run one stage from its spec file, unless it is done already."""
    *_, name, stage, _ = ["", "", *spec_file.split("/")]  # <run>/<stage>/spec.json
    log_to_terminal(name, stage)
    with ended_clearly():
        _run(spec_file, output, ray_address, wait)


@contextmanager
def ended_clearly() -> Iterator[None]:
    """End with one line and exit code 1 where a stage cannot be done, and with 130 where it is interrupted."""
    from infinity.jobs.cluster.actors import WorkersError
    from infinity.training.learner import TrainingError

    try:
        yield
    except (ValueError, OSError, TrainingError, WorkersError) as error:
        logger.debug("the stage failed", exc_info=True)
        logger.error("error: %s", error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        logger.error("interrupted; run the same command again to go on from the last checkpoint")
        raise typer.Exit(130) from error


def _run(spec_file: str, output: str | None, ray_address: str | None, wait: bool) -> None:
    from infinity import storage
    from infinity.jobs.cluster.connection import connect
    from infinity.jobs.ownership import without_waiting
    from infinity.jobs.registry import load_spec, run_spec
    from infinity.jobs.spec import is_done, report_uri

    spec = load_spec(spec_file)
    if output is not None:
        spec = spec.replace(output=storage.absolute(output))
    spec = spec.located()
    if is_done(spec):
        logger.info("done before: %s", report_uri(spec))
        return
    with connect(ray_address), nullcontext() if wait else without_waiting():
        run_spec(spec, progress=LogSink())
    logger.info("done: %s", report_uri(spec))


def log_to_terminal(run: str = "", stage: str = "") -> None:
    """Write log records to standard error, with the time; as JSON lines where ``INFINITY_LOG_FORMAT`` says so."""
    from infinity.logs import JsonLines, wants_json
    from infinity.reporting.terminal.text import EscapingFormatter

    text = EscapingFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(run, stage) if wants_json() else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class LogSink:
    """Progress as log lines, at most one in ``period_s`` besides the last."""

    def __init__(self, period_s: float = 5.0) -> None:
        self._period_s = period_s
        self._logged_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Write a line, unless one was written just now."""
        now = time.monotonic()
        if progress.fraction >= 1.0 or now - self._logged_at >= self._period_s:
            self._logged_at = now
            logger.info("%3.0f %%  %s", 100.0 * progress.fraction, progress.message)
