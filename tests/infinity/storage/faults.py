"""Storage that fails at its n-th operation, below everything that the product does about failures."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError

from infinity.storage import lease_file, local, s3
from tests.limits import AGES_S

Kind = Literal["error", "time-out", "short", "no space", "lost answer", "kill", "exit"]
LOCAL_KINDS: tuple[Kind, ...] = ("error", "time-out", "short", "no space", "kill")
S3_KINDS: tuple[Kind, ...] = ("error", "time-out", "short", "no space", "lost answer", "kill")

_OPERATIONS = (
    "open",
    "read",
    "write",
    "fsync",
    "close",
    "link",
    "replace",
    "unlink",
    "mkdir",
    "pread",
    "pwrite",
    "stat",
    "fstat",
    "walk",
)


class KilledError(BaseException):
    """The process is dead: nothing in it may still touch the storage."""


class Fault:
    """Counts operations and makes one of them fail; without ``at`` it only counts.

    Args:
        kind: How it fails. After "kill" every later operation fails too, so that no clean-up can run, as if the
            process had been killed; "exit" does kill it.
        at: Number of the operation that fails, from 1 on.
    """

    def __init__(self, kind: Kind = "error", at: int = 0) -> None:
        self.kind = kind
        self.at = at
        self.count = 0
        self.names: list[str] = []

    def meet(self, name: str) -> bool:
        """Count an operation; whether it is the one that fails."""
        self.count += 1
        self.names.append(name)
        if self.kind == "kill" and self.at and self.count >= self.at:
            raise KilledError(name)
        if self.kind == "exit" and self.count == self.at:
            os._exit(9)
        return self.count == self.at


@contextmanager
def faulty_disk(fault: Fault) -> Iterator[None]:
    """Every call of the system that local storage makes is counted, and may fail."""

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                fails = fault.meet(name)
            except KilledError:
                if name == "close":
                    real(*arguments)  # the files of a dead process are closed, and its locks end
                raise
            if not fails:
                return None if name == "fsync" else real(*arguments, **named)  # no machine crashes here
            return _fail(fault.kind, name, real, arguments, named)

        return call

    passed = {name: getattr(os, name) for name in dir(os)}
    with pytest.MonkeyPatch.context() as patch:
        counted = SimpleNamespace(**passed | {name: wrap(name) for name in _OPERATIONS})
        patch.setattr(local, "os", counted)
        patch.setattr(lease_file, "os", counted)
        yield


def _fail(kind: Kind, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if kind == "short" and name == "read":
        return real(arguments[0], max(1, arguments[1] // 2))
    if name == "write" and kind in ("short", "no space"):
        written = real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        if kind == "short":
            return written
    if name == "close":
        real(*arguments)
    code = {"time-out": errno.ETIMEDOUT, "no space": errno.ENOSPC}.get(kind, errno.EIO)
    raise OSError(code, os.strerror(code))


@contextmanager
def s3_without_retries() -> Iterator[None]:
    """The client tells every failure at once; it is made anew at both ends of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_ATTEMPTS", 1)
        s3._client.cache_clear()
        yield
    s3._client.cache_clear()


@contextmanager
def faulty_s3(fault: Fault) -> Iterator[None]:
    """Every request of the S3 client is counted, and may fail; see ``s3_without_retries``."""
    client: Any = s3.client()
    session = client._endpoint.http_session

    def respond(request: Any, **_: Any) -> AWSResponse | None:
        if not fault.meet(f"{request.method} {request.url.split('?')[0].rsplit('/', 1)[-1]}"):
            return None
        if fault.kind == "time-out":
            raise ReadTimeoutError(endpoint_url=request.url)
        if fault.kind in ("lost answer", "short"):
            answer = session.send(request)
            if fault.kind == "lost answer" or request.method != "GET":
                raise ReadTimeoutError(endpoint_url=request.url)
            return AWSResponse(request.url, answer.status_code, cast(Any, answer.headers), _HalfBody(answer.content))
        code, name = (507, "InsufficientStorage") if fault.kind == "no space" else (500, "InternalError")
        xml = f"<Error><Code>{name}</Code><Message>injected</Message></Error>".encode()
        return AWSResponse(request.url, code, cast(Any, {"Content-Type": "application/xml"}), _Body(xml))

    client.meta.events.register("before-send.s3", respond)
    try:
        yield
    finally:
        client.meta.events.unregister("before-send.s3", respond)


class _Body(io.BytesIO):
    """What botocore reads an answer from."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class _HalfBody(_Body):
    """An answer that ends before the length that its header promised."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content[: len(content) // 2])


def in_a_dying_process(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork of this process; its exit code: 0 when it came to the end, 9 when it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + AGES_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError(f"the process did not end within {AGES_S:g} s")
