"""The Prefect server as a flow sees it: it may be away while work is done, and is waited for when that is over."""

import functools
import logging
import time
from collections.abc import Callable
from typing import ParamSpec

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL

from infinity.jobs.submission.client import without_password
from infra.settings import settings

P = ParamSpec("P")

ANSWER_S = 10.0
LONGEST_PAUSE_S = 15.0
REFUSALS = 3
"""How often a server may refuse a page before it is left out."""


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the logger of the run, whose page gets the line when the server is back."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def server_address() -> str:
    """Return the address of the server of this process, without a password; empty for one that ends with it."""
    return without_password(PREFECT_API_URL.value() or "").rstrip("/")


def await_server() -> bool:
    """Wait until the server answers, for at most ``INFINITY_SERVER_PATIENCE_S``; return whether it does.

    What a stage has made lies in its folder already. Only the page of the run has to wait.
    """
    until, pause_s, is_told = time.monotonic() + settings().server_patience_s, 1.0, False
    while (trouble := _trouble()) is not None:
        if not is_told:
            _logger().warning(
                "the work is done, but the Prefect server does not answer (%s); waiting for it for up to %.1f h",
                trouble,
                settings().server_patience_s / 3600.0,
            )
            is_told = True
        left_s = until - time.monotonic()
        if left_s <= 0.0:
            _logger().error(
                "the Prefect server did not come back; what was made is kept: start the same again to see it"
            )
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(LONGEST_PAUSE_S, 2.0 * pause_s)
    return True


def until_shown(show: Callable[P, None]) -> Callable[P, None]:
    """Make a function that writes on a run page wait for a server that is away; the page alone ends no run.

    A server that answers and refuses the page, since its database is busy or the page too large, is asked a few times.
    """

    @functools.wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        refused = 0
        why: Exception | None
        while True:
            try:
                return show(*args, **kwargs)
            except httpx.TransportError as error:
                why = error if not await_server() else None
            except httpx.HTTPStatusError as error:
                refused += 1
                why = error if refused == REFUSALS else None
                time.sleep(min(LONGEST_PAUSE_S, float(refused)))
            if why is not None:
                return _logger().error("%s was not shown: %s", show.__name__, why)

    return shown


def _trouble() -> Exception | None:
    """Return why the server does not answer; a flow without a server of its own has one that ends with it."""
    if not PREFECT_API_URL.value():
        return None
    # A client of its own, which does not retry what cannot be reached.
    with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
        return client.api_healthcheck()
