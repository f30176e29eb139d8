"""Keys of watermarks: secret bytes, read from a file or from the environment, and never shown."""

from __future__ import annotations

import codecs
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from infinity import storage

FEWEST_CHARACTERS = 16
"""Shortest key; a shorter one can be guessed from one picture."""
_ENVIRONMENT = "env:"


@dataclass(frozen=True, slots=True)
class WatermarkKey:
    """A secret from which the pattern of a watermark follows.

    Attributes:
        secret: Secret bytes, at least 16; not part of the representation.

    Raises:
        ValueError: The secret is too short; the message does not quote it.

    Example:
        >>> WatermarkKey(b"sixteen letters.")
        WatermarkKey(id='3e022888be9b')
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.secret, bytes):
            raise ValueError(f"watermark key: expected bytes, got {type(self.secret).__name__}")
        if len(self.secret) < FEWEST_CHARACTERS:
            raise ValueError(
                f"watermark key: expected at least {FEWEST_CHARACTERS} characters, found {len(self.secret)}"
            )

    def __repr__(self) -> str:
        """Name the key without showing it."""
        return f"WatermarkKey(id={self.id!r})"

    @property
    def id(self) -> str:
        """Return 12 hexadecimal digits that name the key; the secret does not follow from them."""
        return self.stream("id", 6).hex()

    def stream(self, purpose: str, num_bytes: int) -> bytes:
        """Return pseudo-random bytes (SHAKE-256) that follow from the key and a purpose."""
        head = len(self.secret).to_bytes(8, "little") + self.secret
        return hashlib.shake_256(head + f"infinity-watermark-1:{purpose}".encode()).digest(num_bytes)


def read_watermark_key(place: str) -> WatermarkKey:
    """Read a key from a file, or from an environment variable that ``env:NAME`` names.

    White space around the key does not count, nor does the byte order mark that some editors put before it.

    Raises:
        ValueError: There is no key, or it is too short.
        StorageError: The file cannot be read.
    """
    if place.startswith(_ENVIRONMENT):
        name = place.removeprefix(_ENVIRONMENT)
        found = os.environ.get(name, "").strip().encode(errors="surrogateescape")
        if not found:
            raise ValueError(f"watermark key: the environment variable {name!r:.80} is not set, or is empty")
    else:
        found = storage.read_bytes(storage.absolute(place)).removeprefix(codecs.BOM_UTF8).strip()
    try:
        return WatermarkKey(found)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def write_new_key(path: Path) -> WatermarkKey:
    """Write a new random key to a file that only its owner may read.

    Raises:
        OSError: There is such a file already, or it cannot be written.
    """
    key = WatermarkKey(secrets.token_hex(32).encode())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.secret + b"\n")
    except OSError as error:
        path.unlink()  # half a key would be taken for one
        raise storage.StorageError(f"cannot write the key {path}: {error.strerror}; choose another place") from error
    return key
