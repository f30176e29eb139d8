"""Many calls give their results in order, and do not lie in memory together."""

import time
from collections.abc import Iterator

import pytest

from infinity import storage
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.fan_out import each_result, fan_out
from tests.fixtures.limits import AGES_S


def squared(number: int) -> int:
    """Squares; the first call takes longer than the others."""
    if number == 0:
        time.sleep(0.3)
    if number == 99:
        raise ValueError("not this one")
    return number * number


def told(number: int, taken: list[int]) -> Iterator[tuple[int]]:
    for each in range(number):
        taken.append(each)
        yield (each,)


def test_arguments_are_made_when_their_call_begins() -> None:
    taken: list[int] = []
    done: list[int] = []
    with in_process():
        results = each_result(squared, told(5, taken), done.append)
        assert [next(results), next(results)] == [0, 1]
        assert (taken, done) == ([0, 1], [1, 2])
        assert list(results) == [4, 9, 16]
        assert fan_out(squared, []) == []


@pytest.mark.ray
def test_results_of_a_cluster_come_in_the_order_of_the_arguments(local_ray: None) -> None:
    taken: list[int] = []
    done: list[int] = []
    results = each_result(squared, told(20, taken), done.append, at_once=3)
    assert next(results) == 0
    assert len(taken) < 20 or done[-1] >= 17
    assert list(results) == [number * number for number in range(1, 20)]
    assert done == list(range(1, 21))
    assert fan_out(squared, [(3,), (0,)]) == [9, 0]
    with pytest.raises(ValueError, match="not this one"):
        fan_out(squared, [(number,) for number in range(90, 110)])


def patience_there(number: int) -> tuple[int, float]:
    return number, storage.patience()


@pytest.mark.ray
def test_calls_are_as_patient_with_a_store_as_the_process_that_asks(local_ray: None) -> None:
    with storage.patient(77.0):
        assert fan_out(patience_there, [(1,), (2,)]) == [(1, 77.0), (2, 77.0)]
    assert fan_out(patience_there, [(3,)]) == [(3, 0.0)]
    with in_process(), storage.patient(5.0):
        assert fan_out(patience_there, [(4,)]) == [(4, 5.0)]


def refused(number: int) -> int:
    raise ValueError(f"call {number}")


@pytest.mark.ray
def test_calls_that_end_by_themselves_are_not_cancelled_and_the_process_outlives_them(
    local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    cancelled: list[object] = []
    monkeypatch.setattr(ray, "cancel", cancelled.append)
    monkeypatch.setattr("infinity.jobs.cluster.fan_out.SETTLE_S", AGES_S)
    for _ in range(20):  # Ray ended this process after at most 300 such failures
        with pytest.raises(ValueError, match="call "):
            fan_out(refused, [(number,) for number in range(8)])
    assert cancelled == []


@pytest.mark.ray
def test_calls_that_last_are_cancelled_after_a_failure(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    cancelled: list[object] = []
    cancel = ray.cancel

    def noted(reference: object) -> None:
        cancelled.append(reference)
        cancel(reference)

    monkeypatch.setattr(ray, "cancel", noted)
    began = time.monotonic()
    with pytest.raises(ValueError, match="at once"):
        fan_out(lasting, [(0.0,), (120.0,)])
    assert len(cancelled) == 1
    assert time.monotonic() - began < AGES_S


def lasting(seconds: float) -> None:
    if not seconds:
        raise ValueError("at once")
    time.sleep(seconds)
