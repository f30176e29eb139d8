"""A local Ray in a session of its own: a signal to the group of the driver does not reach it.

A terminal, a worker pool that cancels a flow run and a service manager all signal the whole process group. If the
cluster died of that, no worker could store its state any more, and the driver would wait for a cluster that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def apart() -> Iterator[None]:
    """Inside the block Ray starts its processes as leaders of sessions of their own.

    Where the kernel ends children with their parent (Linux), they still go when this process dies. Elsewhere Ray
    finds them by their process group, so nothing is changed there.
    """
    from ray._private import services, utils

    if not utils.detect_fate_sharing_support():
        yield
        return
    usual = services.ConsolePopen

    def start(*arguments: Any, **options: Any) -> Any:
        return usual(*arguments, **{**options, "start_new_session": True})

    services.ConsolePopen = start
    try:
        yield
    finally:
        services.ConsolePopen = usual
