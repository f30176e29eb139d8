"""A flow that gets a SIGTERM ends by itself with one sentence, whatever it is doing.

Prefect's handler raises an exception that Ray's waiting prints and forgets. Ray's own handler ends the process, which
counts as a crash. An interrupt of the keyboard gets through both, so that is what a SIGTERM becomes here.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType


class StopRequest:
    """A wish from outside that the flow of this process ends.

    Attributes:
        is_made: Whether a SIGTERM has come.
        is_met: Whether the flow is ending; further signals interrupt nothing then.
    """

    def __init__(self) -> None:
        self.is_made = False
        self.is_met = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a SIGTERM: interrupt what the main thread does, until it ends."""
        self.is_made = True
        if not self.is_met:
            raise KeyboardInterrupt


_request: ContextVar[StopRequest | None] = ContextVar("stop_request", default=None)


@contextmanager
def stopped_by_signal() -> Iterator[None]:
    """Inside the block a SIGTERM interrupts the main thread; `meet_stop_request` tells it from Ctrl-C.

    Outside the main thread signals cannot be caught, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    request, previous = StopRequest(), signal.getsignal(signal.SIGTERM)
    token = _request.set(request)
    signal.signal(signal.SIGTERM, request.interrupt)
    try:
        yield
    finally:
        request.is_met = True
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)
        _request.reset(token)


def meet_stop_request() -> bool:
    """Return whether the flow of this context was asked to end; from then on no signal interrupts it."""
    request = _request.get()
    if request is None or not request.is_made:
        return False
    request.is_met = True
    return True
