"""Read and limit what a client sends: JSON or a form, and every field of it."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from typing import Any

from starlette.requests import ClientDisconnect, Request

from infinity.config import ConfigError, parse_json
from infinity.generation.arguments import aspect_ratio_of
from infinity.generation.sampling import SamplingConfig
from infinity.serving.settings import ServingConfig, ServingLimits

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_FILES = ("image", "mask")


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


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """What a client wants.

    Attributes:
        prompt: Text.
        seeds: Seed of each picture.
        sampling: Guidance, temperature and top-p.
        aspect_ratio: Height / width; None for that of the picture that is edited.
        adapters: Adapter names with their scales, in the order of loading.
        as_url: Whether pictures come as data: URLs instead of base64.
        stream: Whether the answer is a stream of events.
        partial_images: Previews of a stream; None for one per scale.
        image: Bytes of the picture to edit, or None.
        mask: Bytes of the mask, or None.
        keep_scales: First scales that a variation keeps, or None.
    """

    prompt: str
    seeds: tuple[int, ...]
    sampling: SamplingConfig
    aspect_ratio: float | None
    adapters: tuple[tuple[str, float], ...]
    as_url: bool
    stream: bool
    partial_images: int | None
    image: bytes | None = None
    mask: bytes | None = None
    keep_scales: int | None = None


async def read_fields(request: Request, limits: ServingLimits) -> dict[str, Any]:
    """Return the fields of a request.

    Raises:
        RefusedError: The body is too long, comes too slowly, or is neither JSON nor a form.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and len(length) < 15 and int(length) > limits.max_body_bytes:
        raise _too_long(limits)
    try:
        body = await asyncio.wait_for(_body(request, limits), limits.body_timeout_s)
    except TimeoutError:
        raise RefusedError(f"the request did not come within {limits.body_timeout_s:g} s", status=408) from None
    except ClientDisconnect:
        raise RefusedError("the client went away", status=408) from None
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        return _form(body, kind)
    if not kind.lower().startswith("application/json"):
        raise RefusedError("expected the content type application/json or multipart/form-data", status=415)
    try:
        found = parse_json(body.decode("utf-8"), where="body")
    except (ConfigError, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
        raise RefusedError(f"body: expected a JSON object, found {reason}") from None
    if not isinstance(found, dict):
        raise RefusedError(f"body: expected a JSON object, found {type(found).__name__}")
    return found


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


def _form(body: bytes, kind: str) -> dict[str, Any]:
    """Return the fields of a form; files as bytes, texts as texts."""
    head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise RefusedError("body: expected a multipart form, found none")
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            raise RefusedError("body: expected every part of the form to have a name and content")
        name = name.removesuffix("[]")
        try:
            fields[name] = content if name in _FILES else content.decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedError(f"{name}: expected a text in UTF-8", name) from None
    return fields


def picture_request(fields: Mapping[str, Any], config: ServingConfig, *, edits: bool) -> PictureRequest:
    """Return a checked request.

    Raises:
        RefusedError: A field is missing, of another type, or out of range; the message names it.
    """
    limits = config.limits
    count = _integer(fields, "n", 1, 1, limits.max_images)
    first = _integer(fields, "seed", None, -(2**63), 2**63 - 1 - limits.max_images)
    first = secrets.randbelow(2**31) if first is None else first
    kind = _choice(fields, "response_format", ("b64_json", "url"))
    _choice(fields, "output_format", ("png",))
    try:
        sampling = SamplingConfig(
            guidance=_number(fields, "guidance", 3.0),
            temperature=_number(fields, "temperature", 1.0),
            nucleus=_number(fields, "top_p", 0.97),
            negative_prompt=_text(fields, "negative_prompt", limits, required=False),
        )
    except ValueError as error:
        raise RefusedError(str(error)) from None
    image, mask = (_file(fields, name) for name in _FILES) if edits else (None, None)
    keep = _integer(fields, "keep_scales", None, 1, 100) if edits else None
    if edits and (image is None or (mask is None) == (keep is None)):
        raise RefusedError("expected an image, and either a mask or keep_scales", "image" if image is None else "mask")
    prompt = _text(fields, "prompt", limits, required=True)
    assert prompt is not None
    return PictureRequest(
        prompt=prompt,
        seeds=tuple(first + i for i in range(count or 1)),
        sampling=sampling,
        aspect_ratio=_ratio(fields),
        adapters=_adapters(fields, config),
        as_url=kind == "url",
        stream=_flag(fields, "stream"),
        partial_images=_integer(fields, "partial_images", None, 0, 100),
        image=image,
        mask=mask,
        keep_scales=keep,
    )


def _text(fields: Mapping[str, Any], name: str, limits: ServingLimits, *, required: bool) -> str | None:
    found = fields.get(name)
    if found is None and not required:
        return None
    if not isinstance(found, str):
        raise RefusedError(f"{name}: expected a text, found {type(found).__name__}", name)
    if len(found) > limits.max_prompt:
        raise RefusedError(f"{name}: expected at most {limits.max_prompt:,} characters, found {len(found):,}", name)
    if "\0" in found:
        raise RefusedError(f"{name}: expected no NUL character", name)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{name}: expected a text in UTF-8, found half a character", name) from None
    return found


def _integer(fields: Mapping[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    found = fields.get(name)
    if found is None:
        return default
    if isinstance(found, str) and re.fullmatch(r"[+-]?\d{1,19}", found):  # forms hold texts
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        raise RefusedError(f"{name}: expected a whole number from {least} to {most}", name)
    return found


def _number(fields: Mapping[str, Any], name: str, default: float) -> float:
    found = fields.get(name, default)
    try:
        value = math.nan if isinstance(found, bool) or not isinstance(found, str | int | float) else float(found)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise RefusedError(f"{name}: expected a number", name)
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    found = fields.get(name, False)
    if found in (True, False, None):
        return bool(found)
    if found in ("true", "false"):
        return bool(found == "true")
    raise RefusedError(f"{name}: expected true or false", name)


def _choice(fields: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    found = fields.get(name)
    if found is None:
        return known[0]
    if not isinstance(found, str) or found not in known:
        raise RefusedError(f"{name}: expected one of {', '.join(known)}", name)
    return found


def _file(fields: Mapping[str, Any], name: str) -> bytes | None:
    found = fields.get(name)
    if found is not None and not isinstance(found, bytes):
        raise RefusedError(f"{name}: expected a file in a form", name)
    return found


def _ratio(fields: Mapping[str, Any]) -> float | None:
    """Return the aspect ratio of ``size`` (width x height) or ``aspect_ratio`` (height / width)."""
    size = fields.get("size")
    try:
        if size is not None and size != "auto":
            match = _SIZE.fullmatch(size) if isinstance(size, str) else None
            if match is None or not int(match[1]) or not int(match[2]):
                raise RefusedError("size: expected width x height, such as 1024x1024, or auto", "size")
            return aspect_ratio_of(int(match[2]), int(match[1]), None)
        if fields.get("aspect_ratio") is not None:
            return aspect_ratio_of(None, None, _number(fields, "aspect_ratio", 1.0))
    except ValueError as error:
        raise RefusedError(str(error), "size") from None
    return None


def _adapters(fields: Mapping[str, Any], config: ServingConfig) -> tuple[tuple[str, float], ...]:
    """Return the field ``loras``: an object of scales by name."""
    found = fields.get("loras")
    if found is None:
        return ()
    if not isinstance(found, dict):
        raise RefusedError("loras: expected an object of scales by name", "loras")
    for name, scale in found.items():
        if name not in config.adapters:
            raise RefusedError(f"loras: this server has {', '.join(config.adapters) or 'none'}", "loras")
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not -10 <= scale <= 10:
            raise RefusedError("loras: expected scales from -10 to 10", "loras")
    return tuple((name, float(scale)) for name, scale in sorted(found.items()))
