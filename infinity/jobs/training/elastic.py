"""Elastic training: as many workers as the cluster has room for, from ``min_workers`` to ``num_workers``.

Ray Train's own policy decides when workers are started, and with how many after some were lost. Two things are added:

- Only room that no other job holds counts, on machines that answer. Ray counts the whole cluster, up to 20 seconds
  after a machine was lost, and would then wait for a place that nobody has.
- Before a training gets more workers, those that it has store their state and end. Ray would kill them, with all steps
  since the last stored state.
"""

from __future__ import annotations

import os
import time
from typing import Any

from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress, ProgressSink
from infinity.jobs.training.stopping import StopSign
from infinity.jobs.watching import probe

RESIZE_EVERY_S = 60.0
"""Seconds between two looks for room for more workers: each change costs the start of all workers."""

PLACES_S = 60.0
"""Seconds to wait for the places of new workers before they are counted again."""

PAUSE_S = 1.0
"""Seconds between two looks for room for the fewest workers."""


def workforce(workers: WorkersConfig, size: int) -> str:
    """Return how many workers train now, and why; empty where their number is fixed."""
    if not workers.is_elastic:
        return ""
    if size < workers.num_workers:
        return f"{size} of {workers.num_workers} workers, the cluster has room for no more"
    return f"{size} workers, as many as are wanted"


def scaling(workers: WorkersConfig) -> Any:
    """Return Ray Train's settings of the workers: their number or its bounds, and the resources of each."""
    from ray.train import ScalingConfig

    return ScalingConfig(
        num_workers=(workers.fewest, workers.num_workers) if workers.is_elastic else workers.num_workers,
        use_gpu=workers.use_gpu,
        resources_per_worker={"CPU": workers.threads} | ({"GPU": 1} if workers.use_gpu else {}),
        elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
    )


def elastic_policy(config: Any, stop: StopSign, tell: ProgressSink) -> Any:
    """Return the policy of a training with a changing number of workers, for Ray Train's controller.

    Args:
        config: Result of `scaling`.
        stop: Asks the workers to store their state and end, so that the driver starts them again.
        tell: Hears that the training waits for room.
    """
    import ray
    from ray._private.state import available_resources_per_node
    from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
    from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ResizeDecision

    class Policy(ElasticScalingPolicy):  # type: ignore[misc]  # Ray has no types
        _places: tuple[str, ...] = ()
        """Nodes of the workers that hold their places."""
        _waits = False

        def after_controller_start(self, train_run_context: Any) -> None:
            os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = str(PLACES_S)
            super().after_controller_start(train_run_context)

        def _count_possible_workers(self, reserved_resources: Any) -> int:
            there = {node["NodeID"] for node in ray.nodes() if _answers(node)}
            free = {node: have for node, have in available_resources_per_node().items() if node in there}
            room = sum(node in there for node in self._places) + super()._count_possible_workers(free)
            return int(min(room, super()._count_possible_workers(reserved_resources)))

        def make_decision_for_non_running_worker_group(self) -> Any:
            decision = super().make_decision_for_non_running_worker_group()
            if waits := isinstance(decision, NoopDecision):
                if not self._waits:
                    tell(Progress(0.0, f"waiting for room in the cluster, min_workers is {config.min_workers}"))
                time.sleep(PAUSE_S)
            self._waits = waits
            return decision

        def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
            self._places = ()  # given back before the new workers are started

        def make_decision_for_running_worker_group(self, worker_group_state: Any, worker_group_status: Any) -> Any:
            self._places = tuple(worker.metadata.node_id for worker in worker_group_state.workers)
            decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
            if isinstance(decision, ResizeDecision):
                stop.pause()
            return NoopDecision()

    return Policy(config)


def _answers(node: dict[str, Any]) -> bool:
    """Return whether a node lives; Ray itself learns of a lost machine many seconds later."""
    return bool(node["Alive"]) and probe(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}") is None
