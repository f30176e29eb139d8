"""A training moves elsewhere, without losing a step, when Ray knows that its machine will be taken away."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infinity.jobs.cluster.connection import connect
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress
from infinity.jobs.registry import load_spec, run_spec
from infinity.jobs.training.base import TrainSpec
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.faults.killing import Victim, newest_step
from tests.fixtures.jobs.training_sessions import LOOP, tokenizer_spec
from tests.fixtures.limits import AGES_S
from tests.fixtures.operations.many_nodes import many_nodes, network, why_no_namespaces
from tests.fixtures.operations.measure_many_nodes import variables_set

logger = logging.getLogger(__name__)
NUM_STEPS, BEGUN = 3000, "step 20 of"


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_whose_machine_is_drained_goes_on_elsewhere_from_the_step_it_was_at(
    tmp_path: Path, exhaustive: bool
) -> None:
    """Three nodes: the head without work, one that trains and is drained, and one that is free."""
    if not exhaustive:
        pytest.skip("some minutes; --exhaustive runs it")
    if (reason := why_no_namespaces()) is not None:
        pytest.skip(reason)
    loop = LOOP.replace(
        num_steps=NUM_STEPS, log_every_steps=10, save_every_steps=NUM_STEPS, sample_every_steps=NUM_STEPS
    )
    workers = WorkersConfig(num_workers=1, threads=1, max_failures=0)
    spec = tokenizer_spec(tmp_path, make_data(tmp_path), loop=loop, workers=workers)
    file, log = tmp_path / "job.json", tmp_path / "job.log"
    file.write_text(json.dumps(spec.to_file()))
    with network(3) as (_, nodes), many_nodes(nodes, tmp_path / "nodes", cpus=[0, 1, 1]) as cluster:
        with variables_set(cluster.client):
            job = Victim([__name__, str(file)], log, cluster.place)
        try:
            assert job.process.wait(timeout=AGES_S) == 0, log.read_text()[-3000:]
        finally:
            job.end()
    text = log.read_text()
    first, second = re.findall(r"trains on (\w+)", text)
    assert first != second
    steps = [int(step) for step in re.findall(r"step (\d+) of", text)]
    assert steps == sorted(steps), "a step was done twice"
    logger.warning("%s", re.findall(r"stored at step \d+", text))


def main() -> None:
    """Run the job of a spec file on the cluster of the environment, and drain the node that trains."""
    spec, address = load_spec(sys.argv[1]), os.environ["RAY_ADDRESS"]
    assert isinstance(spec, TrainSpec)
    begun, moved = threading.Event(), threading.Event()

    def say(progress: Progress) -> None:
        sys.stdout.write(f"{progress.fraction:.3f} {progress.message}\n")
        sys.stdout.flush()
        if BEGUN in progress.message:
            begun.set()

    with connect(address):
        thread = threading.Thread(target=_drain, args=(spec, address, begun, moved), daemon=True)
        thread.start()
        run_spec(spec, progress=say)
        thread.join(timeout=AGES_S)
    assert moved.is_set()


def _drain(spec: TrainSpec, address: str, begun: threading.Event, moved: threading.Event) -> None:
    begun.wait()
    first = _busy()
    sys.stdout.write(f"trains on {first}\n")
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "drain-node", "--address", address, "--node-id", first, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "taken away", "--deadline-remaining-seconds", "600"]
    subprocess.run(command, check=True)
    while newest_step(spec) <= 0 or _busy() in ("", first):
        time.sleep(0.2)
    sys.stdout.write(f"stored at step {newest_step(spec)}\ntrains on {_busy()}\n")
    sys.stdout.flush()
    moved.set()


def _busy() -> str:
    """The node whose CPU is taken; empty where none is."""
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()
    taken = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU") and free.get(node["NodeID"], {}).get("CPU", 0.0) < 1.0
    ]
    return str(taken[0]) if taken else ""


if __name__ == "__main__":
    main()
