"""Who may talk to a Ray: the address it listens at, and the token it asks for.

Ray reads its environment when it is imported and keeps what it read, so a change for the time of a block has to be told
to a Ray that is imported already.
"""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray keeps the address 127.0.0.1 on every system; otherwise Linux replaces it by one that others reach."""


def is_loopback(address: str) -> bool:
    """Return whether ``host:port`` or ``ray://host:port`` names this machine's loopback interface."""
    return address.removeprefix("ray://").rpartition(":")[0].strip("[]") in _LOOPBACK_HOSTS


@contextmanager
def loopback() -> Iterator[None]:
    """Let 127.0.0.1 be 127.0.0.1 for Ray inside the block, so that what starts there listens on loopback alone."""
    with _environment({_ONE_MACHINE: "0"}):
        constants: Any = sys.modules.get("ray._private.ray_constants")
        before = None if constants is None else constants.ENABLE_RAY_CLUSTER
        if constants is not None:
            constants.ENABLE_RAY_CLUSTER = False
        try:
            yield
        finally:
            # Imported inside the block, it has read the block's environment; afterwards clusters are possible again.
            constants = sys.modules.get("ray._private.ray_constants")
            if constants is not None:
                constants.ENABLE_RAY_CLUSTER = not constants.IS_WINDOWS_OR_OSX if before is None else before


@contextmanager
def required(path: Path) -> Iterator[None]:
    """Inside the block a Ray that starts asks for the token in ``path``, and this process shows it.

    Args:
        path: New file of the token, readable by its owner only.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    # RAY_AUTH_TOKEN would be taken before the file.
    changes = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path), "RAY_AUTH_TOKEN": None}
    with _environment(changes):
        _read_again()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    _read_again()


def is_refusal(error: BaseException) -> bool:
    """Return whether Ray's error says that the token is missing or wrong."""
    reason: BaseException | None = error
    while reason is not None:
        said = f"{type(reason).__name__}: {reason}".lower()
        if "authentication" in said or "unauthenticated" in said:
            return True
        reason = reason.__cause__ or reason.__context__
    return False


def refusal(address: str) -> str:
    """Return one sentence for a user whom a cluster refused."""
    return (
        f"the Ray cluster at {address} asks for a token, and this process showed none or a wrong one: "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=<file of the cluster's token>"
    )


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or with None unset them, for the time of the block."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_again() -> None:
    """Let a Ray that is imported already read mode and token from the environment of now."""
    if (raylet := sys.modules.get("ray._raylet")) is not None:
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
