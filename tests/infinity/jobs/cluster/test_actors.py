"""Actors that are lost or find no room: their calls are done by the others, once each, and in any order of ends."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from infinity import storage
from infinity.jobs.cluster import actors as module
from infinity.jobs.cluster.actors import WorkersError, actors, each
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.watching import actor_here, end_actor
from tests.fixtures.limits import wait_until

pytestmark = pytest.mark.ray


class Doubler:
    """An actor that may kill its own process, once."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads

    def double(self, number: int) -> int:
        time.sleep(0.05)
        return 2 * number

    def patience(self, number: int) -> float:
        return number + storage.patience()

    def patience_or_die(self, number: int, mark: str) -> float:
        self.double_or_die(number, mark)
        return self.patience(number)

    def double_or_die(self, number: int, mark: str) -> int:
        if number == 3:
            with suppress(FileExistsError):
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


class Box:
    """An actor of messages."""

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())


def team(number: int) -> list[Any]:
    """As `actors` makes them, but without a look at the room that there is."""
    import ray

    options = {"num_cpus": 1, "max_restarts": 1, "max_task_retries": 1}
    return [ray.remote(Doubler).options(**options).remote("cpu", 1) for _ in range(number)]


@pytest.mark.parametrize(("too_many", "calls"), [(1, 4), (2, 9)])
def test_actors_without_a_machine_give_their_calls_to_the_others(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, too_many: int, calls: int
) -> None:
    """As when a node is lost and the rest of the cluster has no room for its actors."""
    monkeypatch.setattr(module, "HOMELESS_S", 0.5)
    monkeypatch.setattr(module, "LOOK_S", 0.2)
    found = team(2 + too_many)
    try:
        for _ in range(2):  # what has happened to the team does not end the next calls
            results = list(each(found, "double", [(number,) for number in range(calls)]))
            assert sorted(results) == [(number, 2 * number) for number in range(calls)]
    finally:
        for actor in found:
            end_actor(actor)


@pytest.mark.parametrize("times", [1, 7])
def test_an_actor_that_cannot_be_reached_for_a_while_is_asked_again(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """As in the seconds in which Ray does not know yet that a machine is lost; its own retries are fewer."""
    from ray.exceptions import ActorUnavailableError

    usual, left = module._result, [times]

    def unavailable(reference: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            monkeypatch.setattr("ray.get", lambda _: raising(ActorUnavailableError("Socket closed\nmore", b"0" * 16)))
        try:
            return usual(reference)
        finally:
            monkeypatch.setattr("ray.get", get)

    import ray

    get = ray.get
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "_result", unavailable)
    found = team(2)
    try:
        results = list(each(found, "double", [(number,) for number in range(4)]))
        assert sorted(results) == [(number, 2 * number) for number in range(4)]
        left[0] = 1
        monkeypatch.setattr(module, "UNREACHABLE_S", -1.0)
        with pytest.raises(WorkersError, match="could not be reached") as caught:
            list(each(found, "double", [(1,)]))
        assert "\n" not in str(caught.value)
    finally:
        for actor in found:
            end_actor(actor)


def raising(error: Exception) -> Any:
    raise error


def test_actors_that_only_start_slowly_keep_their_calls(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOMELESS_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    found = team(2)
    try:
        assert list(each(found, "double", [(5,)])) == [(0, 10)]
        assert list(each(found, "double", [(5,), (6,)])) != []
    finally:
        for actor in found:
            end_actor(actor)


def test_calls_of_a_team_that_is_dead_end_with_a_sentence(local_ray: None) -> None:
    (actor,) = team(1)
    list(each([actor], "double", [(1,)]))
    end_actor(actor)
    wait_until(lambda: module._state(actor) == "DEAD", "the end of the actor")
    with pytest.raises(WorkersError, match="all workers have died"):
        list(each([actor], "double", [(1,)]))


def test_a_call_whose_actor_dies_is_done_once_more(local_ray: None, tmp_path: Any) -> None:
    with actors(Doubler, WorkersConfig(num_workers=2, threads=1), most=2) as found:
        calls = [(number, str(tmp_path / "died")) for number in range(6)]
        assert sorted(each(found, "double_or_die", calls)) == [(number, 2 * number) for number in range(6)]
    assert (tmp_path / "died").exists()


def test_an_actor_of_messages_is_on_the_machine_of_its_driver(local_ray: None) -> None:
    import ray

    box = actor_here(Box)
    assert ray.get(box.node.remote()) == ray.get_runtime_context().get_node_id()
    end_actor(box)


def test_actors_and_their_successors_are_as_patient_as_the_process_that_asks(local_ray: None, tmp_path: Path) -> None:
    with storage.patient(77.0), actors(Doubler, WorkersConfig(num_workers=1, threads=1), most=1) as found:
        assert [result for _, result in each(found, "patience", [(1,), (2,)])] == [78.0, 79.0]
        calls = [(3, str(tmp_path / "mark"))]
        assert [result for _, result in each(found, "patience_or_die", calls)] == [80.0]
    with in_process(), actors(Doubler, WorkersConfig(num_workers=1, threads=1), most=1) as found:
        assert [result for _, result in each(found, "patience", [(1,)])] == [1.0]
    assert storage.patience() == 0.0
