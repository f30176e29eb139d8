"""Settings of the server: the model, the limits, the keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from infinity.config import Config
from infinity.generation.watermark.key import FEWEST_CHARACTERS, read_watermark_key
from infinity.generation.watermark.pattern import DEFAULT_STRENGTH, BitWatermark
from infinity.ranges import Count, NotNegative, Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingLimits(Config):
    """Bounds of the server.

    Attributes:
        max_images: Pictures per request; no more than ``max_waiting`` are accepted.
        max_prompt: Characters of a prompt.
        max_waiting: Pictures that wait; more are answered by 429.
        max_batch: Pictures per pass.
        batch_wait_s: Seconds that the first picture of a batch waits for others.
        body_timeout_s: Seconds in which a request's body must have come.
    """

    max_images: Count = 10
    max_prompt: Count = 4000
    max_body_bytes: Count = 16 * 2**20
    max_waiting: Count = 64
    max_batch: Count = 8
    batch_wait_s: NotNegative = 0.02
    body_timeout_s: Positive = 30.0

    @property
    def most_images(self) -> int:
        """Largest number of pictures of a request: more than the empty queue holds could never be served."""
        return min(self.max_images, self.max_waiting)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig(Config):
    """What a server serves.

    Attributes:
        device: Device; None for the fastest.
        quantize: Form of the blocks' weights, "int8", "int4" or "float8"; None for plain floating point.
        cache: Form of the cached keys and values, "int8"; None for floating point.
        adapters: Places of adapters by the name with which a request asks for them.
        key_digests: Sha256 of each API key; empty for a server without keys, on this machine alone.
        watermark_key: Place of the key of a watermark in all pictures, a file or ``env:NAME``; None for no watermark.
        watermark_strength: Logits by which bits lean to the watermark; None for the default.
        text_device: Device of the text encoder; None is that of the model.
        offload: Whether the blocks' weights lie in the memory of the CPU until a layer computes.
    """

    model: str
    device: str | None = None
    quantize: Literal["int8", "int4", "float8"] | None = None
    cache: Literal["int8"] | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    key_digests: tuple[str, ...] = ()
    limits: ServingLimits = field(default_factory=ServingLimits)
    watermark_key: str | None = None
    watermark_strength: float | None = None
    text_device: str | None = None
    offload: bool = False

    def watermark(self) -> BitWatermark | None:
        """Return the watermark of all pictures, if there is one.

        Raises:
            ValueError: There is no key, it is too short, or the strength is out of range.
        """
        if self.watermark_key is None:
            return None
        key, strength = read_watermark_key(self.watermark_key), self.watermark_strength
        return BitWatermark(key, DEFAULT_STRENGTH if strength is None else strength)

    def admits(self, key: str) -> bool:
        """Return whether a request with this key is served; takes as long for every wrong key."""
        found = key_digest(key)
        return not self.key_digests or any([hmac.compare_digest(found, known) for known in self.key_digests])


def key_digest(key: str) -> str:
    """Return the sha256 of a key, which is all that the server keeps of it."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def read_keys(text: str, *, where: str) -> Sequence[str]:
    """Return the digests of keys, one per line; empty lines and lines that begin with # are skipped.

    White space before a # makes a comment no key: whoever has read the comment could draw pictures with it.

    Raises:
        ValueError: There is no key, or one has fewer than 16 characters; the message does not quote it.
    """
    lines = enumerate(map(str.strip, text.removeprefix("\ufeff").split("\n")), start=1)
    keys = {number: line for number, line in lines if line and not line.startswith("#")}
    expected = f"{where}: expected one key of at least {FEWEST_CHARACTERS} characters per line"
    if not keys:
        raise ValueError(f"{expected}, found none")
    if short := [number for number, key in keys.items() if len(key) < FEWEST_CHARACTERS]:
        raise ValueError(f"{expected}, found {len(keys[short[0]])} in line {short[0]}")
    return [key_digest(key) for key in keys.values()]
