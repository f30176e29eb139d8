"""The first signal asks a process to end, the second one ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_by_signal(*numbers: signal.Signals) -> Iterator[threading.Event]:
    """Yield an event that the first of some signals sets; a second one has its previous effect.

    A SIGINT is raised again at the end of the block. Outside the main thread signals cannot be caught, and nothing
    changes.

    Raises:
        KeyboardInterrupt: The signal was SIGINT; what the block had to do for it is done.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    heard: list[int] = []

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        restore()
        heard.append(number)
        asked.set()

    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield asked
    finally:
        restore()
    if signal.SIGINT in heard:
        raise KeyboardInterrupt
