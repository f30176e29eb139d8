"""A signal that reclaims the machine asks the training to stop; a second one has its usual effect."""

import signal
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from infinity.jobs.signals import asked_by_signal
from infinity.jobs.training import stopping
from infinity.jobs.training.stopping import stopping_here, stopping_on_signal

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_first_signal_asks_and_a_second_one_is_as_before(number: signal.Signals) -> None:
    heard: list[int] = []
    before = {each: signal.signal(each, lambda number, _: heard.append(number)) for each in NUMBERS}
    try:
        with (
            pytest.raises(KeyboardInterrupt) if number == signal.SIGINT else nullcontext(),
            asked_by_signal(*NUMBERS) as asked,
        ):
            assert not asked.is_set()
            signal.raise_signal(number)
            assert asked.is_set()
            assert heard == []
            for each in NUMBERS:
                signal.raise_signal(each)
            assert heard == [*NUMBERS]
        signal.raise_signal(number)
        assert heard == [*NUMBERS, number], "behind the block all is as it was"
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("way", ["signal", "another owner"])
def test_a_training_in_this_process_stops_for_a_signal_and_when_another_process_owns_it(way: str) -> None:
    lost, before = threading.Event(), signal.getsignal(signal.SIGTERM)
    with stopping_here(lost) as stop:
        assert not stop()
        if way == "signal":
            signal.raise_signal(signal.SIGTERM)
        else:
            lost.set()
        assert stop()
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stopping_here(threading.Event()) as stop:
            found.append((stop(), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, True)]


class Bell:
    """What workers are asked through, in this process."""

    def __init__(self) -> None:
        self.num_rings = 0
        self.ring = SimpleNamespace(remote=self._rang)

    def _rang(self) -> None:
        self.num_rings += 1


@pytest.mark.parametrize("way", ["nothing", "signal", "another owner"])
def test_a_driver_rings_once_when_it_is_asked_and_leaves_no_thread(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    bell, lost = Bell(), threading.Event()
    monkeypatch.setattr(stopping, "actor_here", lambda _kind: bell)
    monkeypatch.setattr(stopping, "end_actor", lambda _bell: None)
    monkeypatch.setattr("ray.get", lambda answer: answer)
    rung, before = threading.Event(), set(threading.enumerate())
    monkeypatch.setattr(bell, "ring", SimpleNamespace(remote=lambda: (bell._rang(), rung.set())))
    with stopping_on_signal(lost):
        if way == "signal":
            signal.raise_signal(signal.SIGTERM)
        elif way == "another owner":
            lost.set()
        assert rung.wait(60.0 if way != "nothing" else 0.1) == (way != "nothing")
    assert bell.num_rings == (way != "nothing")
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "stop"]


def test_workers_move_once_when_a_machine_of_theirs_will_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray marks every worker of a training; the word of the first is enough."""
    from ray.train.v2._internal.execution import context
    from ray.train.v2._internal.execution.preemption import PreemptionContext
    from ray.train.v2.api.preemption import PreemptionInfo

    assert not stopping.is_to_be_taken_away()  # no worker of a training
    notice = PreemptionContext()
    monkeypatch.setattr(context, "get_train_context", lambda: SimpleNamespace(preemption_context=notice))
    assert not stopping.is_to_be_taken_away()
    notice.preemption_info = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"node": [1]})
    assert stopping.is_to_be_taken_away()
    monkeypatch.setattr("ray.wait", lambda asked, timeout: ([], asked))
    paused: list[bool] = []
    bell = SimpleNamespace(
        pause=SimpleNamespace(remote=lambda: paused.append(True)), rung=SimpleNamespace(remote=object)
    )
    stop = stopping.StopSign(bell)
    assert [stop(), stop(), stop()] == [False] * 3  # they stop together, when the bell says so
    assert paused == [True]
