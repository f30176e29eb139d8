"""Which folders of this process only an owner may write into: asked before every file there gets its name or goes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

_SCHEME = "s3://"


class Fence(Protocol):
    """Lets the owner of a folder pass."""

    @property
    def folder(self) -> str:
        """Path or S3 URI of the folder."""
        ...

    @property
    def file(self) -> str:
        """Path or S3 URI of the file that says who the owner is; it is written past all fences."""
        ...

    def passing(self) -> Iterator[None]:
        """Raise where this process is not the owner any more, else hold the gate open during the one step."""
        ...


_fences: dict[str, list[Fence]] = {}
_lock = threading.Lock()


@contextmanager
def fenced(fence: Fence) -> Iterator[None]:
    """Inside the block every write of this process into the fence's folder has to pass the fence, in every thread."""
    place = _normal(fence.folder)
    with _lock:
        _fences.setdefault(place, []).append(fence)
    try:
        yield
    finally:
        with _lock:
            _fences[place].remove(fence)
            if not _fences[place]:
                del _fences[place]


def around(place: str) -> tuple[Fence, ...]:
    """Return the fences around a path or an S3 URI, for another process that does work for this one."""
    if not _fences:
        return ()
    where = _normal(place)
    with _lock:
        return tuple(fence for folder, found in _fences.items() if _is_in(where, folder) for fence in found)


def held() -> tuple[Fence, ...]:
    """Return all fences of this process."""
    with _lock:
        return tuple(fence for found in _fences.values() for fence in found)


@contextmanager
def passing(place: str) -> Iterator[None]:
    """Hold the gates open around a path or an S3 URI: nobody takes the folder over inside of the block.

    In S3 nothing can be held; there the owner is asked at the last moment.

    Raises:
        LeaseLostError: Another process owns the folder by now.
    """
    with ExitStack() as gates:
        for fence in around(place):
            if _normal(fence.file) != _normal(place):
                gates.enter_context(contextmanager(fence.passing)())
        yield


def _normal(place: str) -> str:
    return place.rstrip("/") if place.startswith(_SCHEME) else os.path.abspath(place)


def _is_in(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder.rstrip('/')}/")
