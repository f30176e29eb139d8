"""Read the body of a request within its limits, and return its fields: from JSON or from a form."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import ClientDisconnect, Request

from infinity.config import ConfigError, parse_json
from infinity.serving.forms import is_form, read_form
from infinity.serving.refusal import RefusedError
from infinity.serving.settings import ServingLimits

FILES = ("image", "mask")
"""Fields that hold pictures; only a form has them."""
TEXTS = (
    "prompt", "negative_prompt", "size", "response_format", "output_format", "model", "user", "quality", "style",
    "background", "moderation", "input_fidelity", "safety_identifier",
)  # fmt: skip
"""Fields that a form holds as texts; it holds all others as the JSON of their values."""
_REASONS = {
    "stands twice": "a key twice",
    "at most 64 bits": "a whole number of more than 64 bits",
    "below 1.8e308": "a number beyond 1.8e308",
    "which JSON does not have": "NaN or infinity, which JSON does not have",
    "brackets within each other": "too many brackets within each other",
    "half of one": "half of a character",
}
"""What is wrong with a JSON text, by a part of what its parser says."""
_OF_OBJECT = re.compile(r"(\w+)\[([^\[\]]+)\]")


async def read_fields(request: Request, limits: ServingLimits) -> dict[str, Any]:
    """Return the fields of a request; those that are null are left out.

    Raises:
        RefusedError: The body is too long, comes too slowly, or is neither JSON nor a form.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and (len(length) > 15 or int(length) > limits.max_body_bytes):
        raise _too_long(limits)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError("expected a body without a content encoding", status=415)
    kind = request.headers.get("content-type", "")
    if not is_form(kind) and kind.partition(";")[0].strip().lower() != "application/json":
        raise RefusedError("expected the content type application/json or multipart/form-data", status=415)
    try:
        body = await asyncio.wait_for(_body(request, limits), limits.body_timeout_s)
    except TimeoutError:
        raise RefusedError(f"the request did not come within {limits.body_timeout_s:g} s", status=408) from None
    except ClientDisconnect:
        raise RefusedError("the client went away", status=408) from None
    found = _form(body, kind) if is_form(kind) else _json(body)
    return {name: value for name, value in found.items() if value is not None}


async def _body(request: Request, limits: ServingLimits) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limits.max_body_bytes:
            raise _too_long(limits)
        pieces.append(piece)
    return b"".join(pieces)


def _too_long(limits: ServingLimits) -> RefusedError:
    return RefusedError(f"body: expected at most {limits.max_body_bytes:,} bytes", status=413)


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = parse_json(body.decode("utf-8"), where="body")
    except (ConfigError, UnicodeDecodeError) as error:
        raise RefusedError(f"body: expected a JSON object, found {_reason(error)}") from None
    if not isinstance(found, dict):
        raise RefusedError(f"body: expected a JSON object, found {type(found).__name__}")
    return found


def _reason(error: ValueError) -> str:
    """Return what is wrong in words of our own; those of the error may quote a prompt."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return next((words for sign, words in _REASONS.items() if sign in str(error)), "not JSON")


def _form(body: bytes, kind: str) -> dict[str, Any]:
    """Return the fields of a form: files as bytes, texts as texts, and the values of all other fields."""
    try:
        parts = read_form(body, kind)
    except ValueError as error:
        raise RefusedError(f"body: {error}") from None
    fields: dict[str, Any] = {}
    for full_name, content in parts:
        name = full_name.removesuffix("[]")
        inner = _OF_OBJECT.fullmatch(name)
        own, key = (fields.setdefault(inner[1], {}), inner[2]) if inner else (fields, name)
        if not isinstance(own, dict) or key in own:
            raise RefusedError(f"{name!r:.60}: expected once in the form, found twice", name[:60])
        own[key] = content if name in FILES else _value(name, content)
    return fields


def _value(name: str, content: bytes) -> Any:
    """Return the value of a field that is no file; a text that is not JSON stays one, and is refused by its type."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise RefusedError(f"{name!r:.60}: expected a text in UTF-8", name[:60]) from None
    if name in TEXTS:
        return text
    try:
        return parse_json(text, where=name)
    except ConfigError:
        return text
