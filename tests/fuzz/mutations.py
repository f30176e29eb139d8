"""Changes that make odd input of good input."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

TEXTS = (
    "", " ", "\x00", "a/../../b", "../x", "/", "nan", "-1", "None", "é漢字🎈", "x" * 3000, "\u202e", "[bold]", "{}",
    "\x1b[31m", "s3://", "s3://nowhere/x", "ftp://x/y", "file:///etc/hostname", "cuda", "\n", "C:\\x", "~", "%s", "'",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 255, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400,
    0.0, -0.0, 0.5, 1.5, 1e-9, 1e-320, 1e9, 1e308, -1e308,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def odd_value(rng: random.Random) -> Any:
    """A value of some type, often at an edge."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(TEXTS)
    if kind == 5:
        return rng.choice([None, True, False, [], {}])
    if kind == 6:
        return [odd_value(rng) for _ in range(rng.randrange(1, 4))]
    return {rng.choice(TEXTS) or "k": odd_value(rng) for _ in range(rng.randrange(1, 3))}


def odd_json(rng: random.Random, good: Any) -> str:
    """The text of a JSON value with one to three places changed, sometimes broken as a text."""
    value = copy.deepcopy(good)
    for _ in range(rng.randrange(1, 4)):
        value = _changed(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    kind = rng.randrange(20)
    if kind == 0:
        at = rng.randrange(len(text) + 1)
        return (
            text[:at] + rng.choice(["[" * 5000, '{"a":' * 5000, ",", "\\ud800", "\x00", "1" * 5000, "NaN"]) + text[at:]
        )
    if kind == 1:
        return text[: rng.randrange(len(text) + 1)]
    if kind == 2:
        return "[" * 100_000 + text + "]" * 100_000
    return text


def odd_bytes(rng: random.Random, good: bytes) -> bytes:
    """The same bytes with some overwritten, cut or doubled."""
    data = bytearray(good)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randrange(1, 50)]
            case _:
                data[at:at] = data[at : at + rng.randrange(1, 50)]
    return bytes(data)


def odd_text(rng: random.Random) -> str:
    """Some characters from anywhere, or an odd text."""
    if rng.random() < 0.3:
        return rng.choice(TEXTS)
    return "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x10FFFF)])) for _ in range(rng.randrange(30)))


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with one place changed; deep places as often as shallow ones."""
    places = list(_places(value))
    parent, key = rng.choice(places)
    if parent is None:
        return odd_value(rng) if rng.random() < 0.2 else value
    match rng.randrange(6):
        case 0 if isinstance(parent, dict):
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(TEXTS) or "new"] = odd_value(rng)
        case 2:
            parent[key] = copy.deepcopy(rng.choice([v[k] for v, k in places if v is not None]))
        case 3 if type(parent[key]) is int or (isinstance(parent[key], float) and abs(parent[key]) < 1e100):
            parent[key] *= rng.choice([-1, 0, 2, 1000, 10**9, 10**18])
        case _:
            parent[key] = odd_value(rng)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = [(None, None)]
    level = [value]
    while level:
        inner = level.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        for key in keys:
            found.append((inner, key))
            level.append(inner[key])
    return found
