"""A SIGTERM interrupts a flow once, wherever it is, and is told from Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from flows.operations.stopping import meet_stop_request, stopped_by_signal
from tests.fixtures.limits import AGES_S


@pytest.fixture(autouse=True)
def _survives() -> Iterator[None]:
    """A SIGTERM that nobody handles would end the tests."""
    previous = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody handled the signal"))
    yield
    signal.signal(signal.SIGTERM, previous)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def ask_soon() -> None:
    threading.Timer(0.2, ask).start()


@pytest.mark.parametrize(
    "wait", [lambda: time.sleep(AGES_S), lambda: threading.Event().wait(AGES_S)], ids=["sleep", "event"]
)
def test_a_wait_is_interrupted_and_the_request_is_known(wait: Callable[[], object]) -> None:
    with stopped_by_signal():
        assert not meet_stop_request()
        ask_soon()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert meet_stop_request()


def test_what_ends_is_not_interrupted_again() -> None:
    with stopped_by_signal():
        with pytest.raises(KeyboardInterrupt):
            ask()
        with pytest.raises(KeyboardInterrupt):
            ask()  # nobody has met the first one yet
        assert meet_stop_request()
        ask()
        ask()
    assert not meet_stop_request()


def test_ctrl_c_is_no_request() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever others left in this process
    try:
        with stopped_by_signal():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert not meet_stop_request()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handler_before_is_there_again_also_after_an_error() -> None:
    def fail() -> None:
        with stopped_by_signal():
            raise ZeroDivisionError(str(signal.getsignal(signal.SIGTERM) == before))

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError, match="False"):
        fail()
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_nothing_changes() -> None:
    seen = list[object]()

    def work() -> None:
        with stopped_by_signal():
            seen.extend([signal.getsignal(signal.SIGTERM), meet_stop_request()])

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, False]
