"""Requests that are not served, and what the client is told: one sentence in the shape of OpenAI's errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infinity.serving.batcher import BusyError

logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that is not served.

    Attributes:
        status: HTTP status.
        message: Sentence for the client; it quotes no prompt.
        field: Field that is wrong, or None.
    """

    def __init__(self, message: str, field: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.field, self.status = message, field, status


def error_body(error: Exception) -> dict[str, Any]:
    """Return what a client is told of an error; of an unexpected one nothing but that there was one."""
    if isinstance(error, RefusedError):
        return _body(error.message, error.status, error.field)
    if isinstance(error, BusyError):
        return _body(str(error), 429)
    logger.error("a request failed: %s", type(error).__name__)
    return _body("the server failed at this request", 500)


def answer(error: Exception) -> Response:
    """Return the response to a request that ended with an error."""
    if isinstance(error, RefusedError):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return JSONResponse(error_body(error), error.status, headers)
    if isinstance(error, BusyError):
        return JSONResponse(error_body(error), 429, {"Retry-After": str(error.retry_after_s)})
    return JSONResponse(error_body(error), 500)


def _body(message: str, status: int, field: str | None = None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    code = "invalid_api_key" if status == 401 else None
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


async def _answered(_: Request, error: Exception) -> Response:
    return answer(error)


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer a path that is not there, or one that is asked for by another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"expected {allowed}, found {request.method}"
    else:
        message = "there is nothing at this path; see /v1/images/generations, /v1/images/edits and /v1/models"
    return JSONResponse(_body(message, error.status_code), error.status_code, error.headers)


HANDLERS: Mapping[Any, Callable[[Request, Exception], Any]] = {
    RefusedError: _answered,
    BusyError: _answered,
    HTTPException: _unrouted,
    500: _answered,
}
"""Handlers of Starlette, by exception."""
