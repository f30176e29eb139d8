"""Check what a client wants: every field of a request, and nothing that is not a field."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinity.generation.drawing.arguments import aspect_ratio_of
from infinity.generation.sampling import MOST_EXTREME, SamplingConfig
from infinity.scales import ScaleSchedule
from infinity.serving.bodies import FILES
from infinity.serving.refusal import RefusedError
from infinity.serving.settings import ServingConfig, ServingLimits

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
_MOST_SCALES = 100
_OF_EDITS = (*FILES, "keep_scales")
_FIELDS = (
    "prompt", "negative_prompt", "n", "seed", "size", "aspect_ratio", "guidance", "temperature", "top_p", "loras",
    "response_format", "output_format", "output_compression", "stream", "partial_images", "model", "user",
    "safety_identifier",
)  # fmt: skip
_WITHOUT_EFFECT = {
    "quality": ("auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"),
    "style": ("vivid", "natural"),
    "background": ("auto", "opaque"),
    "moderation": ("auto", "low"),
    "input_fidelity": ("high", "low"),
}
"""Fields of OpenAI's API that this model has no use for, with the values that mean nothing else here."""


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """What a client wants.

    Attributes:
        sampling: Guidance, temperature and top-p.
        aspect_ratio: Height / width; None for 1, or for that of the picture that is edited.
        adapters: Adapter names with their scales, in the order of loading.
        as_url: Whether pictures come as data: URLs instead of base64.
        stream: Whether the answer is a stream of events.
        partial_images: Previews of a stream; None for one per scale.
        image: Bytes of the picture to edit, or None.
        mask: Bytes of the mask; None for the transparent pixels of the picture, or for a variation.
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


def picture_request(fields: Mapping[str, Any], config: ServingConfig, *, edits: bool) -> PictureRequest:
    """Return a checked request.

    Raises:
        RefusedError: A field is unknown, missing, of another type, or out of range; the message names it.
    """
    limits = config.limits
    _check_names(fields, edits=edits)
    prompt = _text(fields, "prompt", limits)
    if prompt is None:
        raise RefusedError("prompt: expected a text, found none", "prompt")
    count = _integer(fields, "n", 1, limits.most_images)
    first = _integer(fields, "seed", -(2**63), 2**63 - 1 - limits.max_images)
    first = secrets.randbelow(2**31) if first is None else first
    kind = _choice(fields, "response_format", ("b64_json", "url"))
    _check_openai(fields, limits)
    image, mask, keep = _edited(fields) if edits else (None, None, None)
    return PictureRequest(
        prompt=prompt,
        seeds=tuple(first + i for i in range(count or 1)),
        sampling=_sampling(fields, limits),
        aspect_ratio=_ratio(fields),
        adapters=_adapters(fields, config),
        as_url=kind == "url",
        stream=_flag(fields, "stream"),
        partial_images=_integer(fields, "partial_images", 0, 100),
        image=image,
        mask=mask,
        keep_scales=keep,
    )


def _check_names(fields: Mapping[str, Any], *, edits: bool) -> None:
    known = (*_FIELDS, *_WITHOUT_EFFECT, *(_OF_EDITS if edits else ()))
    for name in fields:
        if name in _OF_EDITS and not edits:
            raise RefusedError(f"{name}: expected at /v1/images/edits alone", name)
        if name not in known:
            raise RefusedError(f"unknown field {name!r:.60}; expected some of {', '.join(known)}", name[:60])


def _check_openai(fields: Mapping[str, Any], limits: ServingLimits) -> None:
    """Refuse what a field of OpenAI's API asks for that is not done."""
    _choice(fields, "output_format", ("png",))
    for name, choices in _WITHOUT_EFFECT.items():
        _choice(fields, name, choices)
    for name in ("model", "user", "safety_identifier"):
        _text(fields, name, limits)
    _integer(fields, "output_compression", 100, 100)


def _edited(fields: Mapping[str, Any]) -> tuple[bytes, bytes | None, int | None]:
    """Return the picture to edit, its mask, and the scales that are kept."""
    image, mask = (_file(fields, name) for name in FILES)
    keep = _integer(fields, "keep_scales", 1, 100)
    if image is None:
        raise RefusedError("image: expected a picture in a form (multipart/form-data)", "image")
    if mask is not None and keep is not None:
        raise RefusedError("keep_scales: expected either a mask or keep_scales, found both", "keep_scales")
    return image, mask, keep


def _sampling(fields: Mapping[str, Any], limits: ServingLimits) -> SamplingConfig:
    top_p = _number(fields, "top_p", 0.97)
    if not 0.0 < top_p <= 1.0:
        raise RefusedError("top_p: expected a number above 0 up to 1", "top_p")
    return SamplingConfig(
        guidance=_numbers(fields, "guidance", 3.0, -MOST_EXTREME, MOST_EXTREME),
        temperature=_numbers(fields, "temperature", 1.0, 1 / MOST_EXTREME, MOST_EXTREME),
        nucleus=top_p,
        negative_prompt=_text(fields, "negative_prompt", limits),
    )


def _text(fields: Mapping[str, Any], name: str, limits: ServingLimits) -> str | None:
    found = fields.get(name)
    if found is None:
        return None
    if not isinstance(found, str):
        raise RefusedError(f"{name}: expected a text, found {_kind(found)}", name)
    if len(found) > limits.max_prompt:
        raise RefusedError(f"{name}: expected at most {limits.max_prompt:,} characters, found {len(found):,}", name)
    if "\0" in found:
        raise RefusedError(f"{name}: expected no NUL character", name)
    return found


def _kind(value: Any) -> str:
    """Return JSON's name of a value's type."""
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _integer(fields: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    found = fields.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        expected = f"{least}" if least == most else f"a whole number from {least} to {most}"
        raise RefusedError(f"{name}: expected {expected}", name)
    return found


def _number(
    fields: Mapping[str, Any], name: str, default: float, least: float = -math.inf, most: float = math.inf
) -> float:
    value = _as_number(fields.get(name, default))
    if math.isnan(value):
        raise RefusedError(f"{name}: expected a number", name)
    if not least <= value <= most:
        raise RefusedError(f"{name}: expected a number from {least:.10g} to {most:.10g}", name)
    return value


def _numbers(
    fields: Mapping[str, Any], name: str, default: float, least: float, most: float
) -> float | tuple[float, ...]:
    """Return a number, or one per scale; ``check_scales`` compares their count with the model's."""
    found = fields.get(name)
    if not isinstance(found, list):
        return _number(fields, name, default, least, most)
    if not 1 <= len(found) <= _MOST_SCALES:
        raise RefusedError(f"{name}: expected a number, or a list of one per scale", name)
    return tuple(_number({name: each}, name, default, least, most) for each in found)


def check_scales(request: PictureRequest, schedule: ScaleSchedule) -> None:
    """Refuse lists of numbers that are shorter than the scales of the model's pictures.

    Raises:
        RefusedError: A list is too short; the message says how many numbers there must be.
    """
    for name, of_scales in (
        ("guidance", request.sampling.guidance_at),
        ("temperature", request.sampling.temperature_at),
    ):
        try:
            of_scales(schedule)
        except ValueError as error:
            raise RefusedError(str(error).removeprefix("SamplingConfig."), name) from None


def _as_number(value: Any) -> float:
    """Return a number of JSON; NaN for anything else."""
    return math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    found = fields.get(name, False)
    if not isinstance(found, bool):
        raise RefusedError(f"{name}: expected true or false", name)
    return found


def _choice(fields: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    found = fields.get(name, known[0])
    if not isinstance(found, str) or found not in known:
        raise RefusedError(f"{name}: expected one of {', '.join(known)}", name)
    return found


def _file(fields: Mapping[str, Any], name: str) -> bytes | None:
    found = fields.get(name)
    if found is not None and not isinstance(found, bytes):
        raise RefusedError(f"{name}: expected a file in a form (multipart/form-data)", name)
    return found


def _ratio(fields: Mapping[str, Any]) -> float | None:
    """Return the aspect ratio of ``size`` (width x height) or ``aspect_ratio`` (height / width)."""
    size, ratio = fields.get("size", "auto"), fields.get("aspect_ratio")
    if size == "auto":
        return None if ratio is None else _nearest("aspect_ratio", None, None, _number(fields, "aspect_ratio", 1.0))
    if ratio is not None:
        raise RefusedError("aspect_ratio: expected either a size or an aspect ratio, found both", "aspect_ratio")
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None or not int(match[1]) or not int(match[2]):
        raise RefusedError("size: expected width x height, such as 1024x1024, or auto", "size")
    return _nearest("size", int(match[2]), int(match[1]), None)


def _nearest(name: str, height: int | None, width: int | None, ratio: float | None) -> float:
    try:
        return aspect_ratio_of(height, width, ratio)
    except ValueError as error:
        raise RefusedError(f"{name}: {str(error).removeprefix('aspect ratio: ')}", name) from None


def _adapters(fields: Mapping[str, Any], config: ServingConfig) -> tuple[tuple[str, float], ...]:
    """Return the field ``loras``: an object of scales by name."""
    found = fields.get("loras", {})
    if not isinstance(found, dict):
        raise RefusedError("loras: expected an object of scales by name", "loras")
    for name, scale in found.items():
        if name not in config.adapters:
            raise RefusedError(f"loras: this server has {', '.join(config.adapters) or 'none'}", "loras")
        if not -10 <= _as_number(scale) <= 10:
            raise RefusedError("loras: expected scales from -10 to 10", "loras")
    return tuple((name, float(scale)) for name, scale in sorted(found.items()))
