"""A training begins with the workers that there is room for, and goes on with fewer and more, on the same batches."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from infinity.jobs.cluster.connection import connect
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress
from infinity.jobs.registry import load_spec, run_spec
from infinity.jobs.spec import load_report
from infinity.jobs.training import driver, elastic
from infinity.jobs.training.base import TrainReport
from infinity.jobs.training.elastic import elastic_policy, scaling, workforce
from infinity.jobs.training.stopping import StopSign, _Bell, stopping_on_signal
from infinity.training.learner import TrainingError
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.faults.killing import Victim
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, tokenizer_spec, transformer_spec
from tests.fixtures.limits import AGES_S, wait_until
from tests.fixtures.operations.many_nodes import many_nodes, network, why_no_namespaces
from tests.fixtures.operations.measure_many_nodes import variables_set
from tests.infinity.jobs.training.test_survival import End

STEPS, FREE_STEPS = 240, 40
"""Of the whole training, and of one set of workers before they wait for what the test does next."""

ELASTIC = WorkersConfig(num_workers=3, min_workers=1, threads=1, shard=True)
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # nothing changes its views in place


@pytest.mark.parametrize(("most", "fewest"), [(3, 0), (3, 4), (1, 2), (3, -1)])
def test_fewest_workers_are_from_one_to_the_most(most: int, fewest: int) -> None:
    with pytest.raises(ValueError, match=f"min_workers: expected 1 to num_workers, which is {most}, got {fewest}"):
        WorkersConfig(num_workers=most, min_workers=fewest)


def test_more_workers_than_micro_batches_are_refused_although_fewer_would_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 workers need.*loop\.num_parts 2"):
        tokenizer_spec(tmp_path, "m", loop=LOOP.replace(num_parts=2), workers=ELASTIC)


OLDER = ("num_workers", "threads", "use_gpu", "shard", "offload", "max_failures")
"""Settings of workers that the first specs had."""


def test_a_training_keeps_its_name_and_an_older_spec_its_workers(tmp_path: Path) -> None:
    plain = tokenizer_spec(tmp_path, "m", loop=LOOP.replace(num_parts=3))
    assert plain.replace(workers=ELASTIC).folder == plain.folder
    older = {name: value for name, value in WorkersConfig(num_workers=3).to_json().items() if name in OLDER}
    assert WorkersConfig.from_json(older) == WorkersConfig(num_workers=3)
    assert WorkersConfig(num_workers=3).identity() == older


@pytest.mark.parametrize(("fewest", "asked"), [(None, 3), (3, 3), (1, (1, 3)), (2, (2, 3))])
def test_ray_is_asked_for_a_number_or_for_bounds(fewest: int | None, asked: Any) -> None:
    config = scaling(WorkersConfig(num_workers=3, min_workers=fewest, threads=4))
    assert config.num_workers == asked
    assert config.resources_per_worker == {"CPU": 4}
    assert config.elastic_resize_monitor_interval_s == elastic.RESIZE_EVERY_S
    on_gpus = scaling(WorkersConfig(num_workers=3, min_workers=fewest, threads=2, use_gpu=True))
    assert (on_gpus.use_gpu, on_gpus.resources_per_worker) == (True, {"CPU": 2, "GPU": 1})


@pytest.mark.parametrize(
    ("fewest", "size", "said"),
    [
        (None, 3, ""),
        (3, 3, ""),
        (1, 2, "2 of 3 workers, the cluster has room for no more"),
        (1, 3, "3 workers, as many as are wanted"),
    ],
)
def test_progress_says_how_many_workers_train_and_why(fewest: int | None, size: int, said: str) -> None:
    assert workforce(WorkersConfig(num_workers=3, min_workers=fewest), size) == said


class Stop:
    """What a driver and Ray's controller share with the workers, in this process."""

    def __init__(self) -> None:
        self.bell = _Bell()
        self.pause, self.was_pause = self.bell.pause, self.bell.was_pause


HEAD, LOST, NEW = "head", "lost", "new"


@pytest.mark.parametrize(
    ("places", "free", "answering", "expected"),
    [
        ((), {HEAD: 2.0, LOST: 2.0}, {HEAD, LOST}, 2),  # a beginning
        ((), {HEAD: 1.0, LOST: 2.0}, {HEAD, LOST}, 1),  # another job has one CPU
        ((), {HEAD: 2.0, LOST: 2.0}, {HEAD}, 1),  # Ray does not know yet that a machine is lost
        ((HEAD, LOST), {}, {HEAD}, 1),  # one of two workers was lost
        ((HEAD, LOST), {}, {HEAD, LOST}, 2),  # one died, its machine lives
        ((HEAD,), {NEW: 2.0}, {HEAD, NEW}, 2),  # a new machine
        ((HEAD,), {NEW: 1.0}, {HEAD, NEW}, 1),  # too small
        ((HEAD, LOST), {NEW: 8.0}, {HEAD, LOST, NEW}, 3),  # never more than wanted
    ],
)
def test_room_is_what_no_other_job_holds_on_machines_that_answer(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...], free: dict[str, float], answering: set[str], expected: int
) -> None:
    nodes = [{"NodeID": name, "Alive": True, "NodeManagerAddress": name, "NodeManagerPort": 1} for name in answering]
    nodes.append({"NodeID": LOST, "Alive": True, "NodeManagerAddress": LOST, "NodeManagerPort": 1})
    nodes.append({"NodeID": "dead", "Alive": False, "NodeManagerAddress": HEAD, "NodeManagerPort": 1})
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr(elastic, "probe", lambda address: None if address.partition(":")[0] in answering else "gone")
    found = {name: {"CPU": cpus} for name, cpus in {**free, "dead": 8.0}.items()}
    monkeypatch.setattr("ray._private.state.available_resources_per_node", lambda: found)
    policy = elastic_policy(scaling(ELASTIC.replace(threads=2)), Stop(), lambda _progress: None)  # type: ignore[arg-type]
    policy._places = places
    everything = {name: {"CPU": 8.0} for name in (HEAD, LOST, NEW)}
    assert policy._count_possible_workers(everything) == expected


@pytest.mark.parametrize(("room", "pauses"), [(2, False), (3, True)])
def test_workers_store_their_state_before_there_are_more(
    monkeypatch: pytest.MonkeyPatch, room: int, pauses: bool
) -> None:
    stop = Stop()
    policy = elastic_policy(scaling(ELASTIC), stop, lambda _progress: None)  # type: ignore[arg-type]
    monkeypatch.setattr(policy, "_maybe_send_resource_request", lambda: None)
    monkeypatch.setattr(policy, "_get_reserved_resources", dict)
    monkeypatch.setattr(policy, "_count_possible_workers", lambda _reserved: room)
    workers = [SimpleNamespace(metadata=SimpleNamespace(node_id=name)) for name in (HEAD, LOST)]
    state = SimpleNamespace(workers=workers, num_workers=2, start_time=float("-inf"))
    decision = policy.make_decision_for_running_worker_group(state, None)
    assert type(decision).__name__ == "NoopDecision", "Ray would kill the workers"
    assert policy._places == (HEAD, LOST)
    assert stop.bell.rung() == pauses
    policy.before_controller_execute_resize_decision(None)
    assert policy._places == (), "given back before new workers start"


def test_places_are_waited_for_as_long_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
    from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

    monkeypatch.setenv(WORKER_GROUP_START_TIMEOUT_S_ENV_VAR, "1")
    heard: list[Any] = []
    monkeypatch.setattr(ElasticScalingPolicy, "after_controller_start", lambda _self, context: heard.append(context))
    policy = elastic_policy(scaling(ELASTIC), Stop(), lambda _progress: None)  # type: ignore[arg-type]
    policy.after_controller_start("context")
    assert float(os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR]) == elastic.PLACES_S
    assert heard == ["context"], "Ray's own begin is not left out"


def test_a_training_without_room_says_what_it_waits_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Progress] = []
    policy = elastic_policy(scaling(ELASTIC.replace(min_workers=2)), Stop(), told.append)  # type: ignore[arg-type]
    monkeypatch.setattr(elastic, "PAUSE_S", 0.0)
    monkeypatch.setattr(policy, "_maybe_send_resource_request", lambda: None)
    monkeypatch.setattr(policy, "_get_reserved_resources", dict)
    rooms = iter((1, 1, 2))
    monkeypatch.setattr(policy, "_count_possible_workers", lambda _reserved: next(rooms))
    decisions = [policy.make_decision_for_non_running_worker_group() for _ in range(3)]
    assert [type(each).__name__ for each in decisions] == ["NoopDecision", "NoopDecision", "ResizeDecision"]
    assert decisions[-1].num_workers == 2
    assert [each.message for each in told] == ["waiting for room in the cluster, min_workers is 2"]


PAUSED = {"stopped": "InterruptedTraining", "message": "stopped as asked after step 7"}


@pytest.mark.parametrize(("requests", "num_fits"), [(("pause",), 2), (("ring",), 1), (("pause", "ring"), 1), ((), 1)])
def test_paused_workers_are_replaced_by_more_and_stopped_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: tuple[str, ...], num_fits: int
) -> None:
    stop, fits = Stop(), list[int]()

    def fit(_spec: Any, _task: Any) -> dict[str, Any]:
        fits.append(1)
        if len(fits) > 1:
            return {"metrics": "m"}
        for request in requests:
            getattr(stop.bell, request)()
        return PAUSED

    monkeypatch.setattr(driver, "_fit", fit)
    spec = tokenizer_spec(tmp_path, "m", loop=LOOP.replace(num_parts=3), workers=ELASTIC)
    outcome = driver._fit_while_it_gets_on(spec, {"stop": stop})
    assert len(fits) == num_fits
    assert outcome == ({"metrics": "m"} if num_fits == 2 else PAUSED)
    assert stop.bell.rung() == ("ring" in requests), "the next workers are not asked to stop at once"


@pytest.mark.parametrize(("fewest", "refused"), [(1, False), (2, False), (3, True), (None, True)])
def test_a_cluster_without_room_for_the_fewest_is_refused(
    monkeypatch: pytest.MonkeyPatch, fewest: int | None, refused: bool
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    workers = ELASTIC.replace(min_workers=fewest)
    if not refused:
        driver._check_resources(workers)
        return
    with pytest.raises(TrainingError, match=r"wants 3 CPUs \(3 workers\), the Ray cluster has 2"):
        driver._check_resources(workers)


def test_one_worker_in_this_process_is_enough_where_one_may_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[WorkersConfig] = []
    monkeypatch.setattr(driver, "work_on", lambda task, *_: asked.append(task["spec"].workers) or {})
    spec = tokenizer_spec(tmp_path, "m", loop=LOOP.replace(num_parts=3), workers=ELASTIC.replace(shard=False))
    tenure = SimpleNamespace(lost=None, progress=None, fence=None)
    driver._train_here(spec, lambda *_: None, tenure)  # type: ignore[arg-type, return-value]
    assert asked == [WorkersConfig(threads=1)]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_a_training_loses_a_node_and_gets_one_and_ends_as_one_that_was_alone(
    tmp_path: Path, exhaustive: bool, number: int
) -> None:
    if not exhaustive:
        pytest.skip("some minutes; --exhaustive runs it")
    if (reason := why_no_namespaces()) is not None:
        pytest.skip(reason)
    manifest = make_data(tmp_path)
    loop = LOOP.replace(num_steps=STEPS, num_parts=3, log_every_steps=10, save_every_steps=10, sample_every_steps=STEPS)
    tokenizer = make_tokenizer(tmp_path, manifest, num_steps=10)
    workers = ELASTIC.replace(num_workers=number)
    spec = transformer_spec(tmp_path, manifest, tokenizer, loop=loop, workers=workers)
    file, log, go = tmp_path / "job.json", tmp_path / "job.log", tmp_path / "go"
    file.write_text(json.dumps(spec.to_file()))
    many, few = f" {number} workers, as many", f" {number - 1} of {number} workers, the cluster has room for no more"
    with network(number) as (_, nodes), many_nodes(nodes, tmp_path / "nodes", cpus=[1] * number) as cluster:
        with variables_set(cluster.client):
            job = Victim([__name__, str(file), str(go)], log, cluster.place)

        def wait_for(pattern: str) -> None:
            wait_until(lambda: re.search(pattern, log.read_text(), re.DOTALL) or job.has_ended, pattern)
            assert not job.has_ended, log.read_text()[-2000:]

        try:
            wait_for(f"step {FREE_STEPS} of[^\n]*{many}")
            cluster.kill(number - 1)
            wait_for(f"step[^\n]*{few}")
            cluster.start(number - 1)
            wait_for(f"{few}.*step[^\n]*{many}")
            go.touch()
            assert job.process.wait(timeout=AGES_S) == 0, log.read_text()[-2000:]
        finally:
            job.end()
    alone = End.of_quiet_run(spec.replace(workers=WorkersConfig(threads=1)), tmp_path)
    end = End.of_job(spec)
    assert end.losses == pytest.approx(alone.losses, abs=1e-5)
    largest = max(float((value - alone.tensors[name]).abs().max()) for name, value in end.tensors.items())
    print(f"{number} workers, {number - 1}, {number}: weights differ from one worker's by at most {largest:.1e}")
    fewer, more = load_report(spec, TrainReport).notes
    assert re.fullmatch(rf"went on after step \d+ with{few}", fewer)
    assert re.fullmatch(rf"went on after step \d+ with{many} as are wanted", more)


class Held(StopSign):
    """A request to stop, at which the first worker waits after some steps until a file is there."""

    def __init__(self, bell: Any, go: str) -> None:
        super().__init__(bell)
        self._go, self._steps = go, 0

    def __call__(self) -> bool:
        self._steps += 1
        while not (asked := super().__call__()) and self._steps > FREE_STEPS and not Path(self._go).exists():
            time.sleep(0.05)
        return asked


@contextmanager
def held(lost: Event) -> Iterator[Held]:
    with stopping_on_signal(lost) as stop:
        yield Held(stop._bell, sys.argv[2])


def main() -> None:
    """Run the job of a spec file on the cluster of the environment, with short times between looks for room."""
    elastic.RESIZE_EVERY_S = 5.0
    driver.stopping_on_signal = held  # type: ignore[assignment]
    with connect(os.environ["RAY_ADDRESS"]):
        run_spec(load_spec(sys.argv[1]), progress=_say)


def _say(progress: Progress) -> None:
    sys.stdout.write(f"{progress.fraction:.3f} {progress.message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
