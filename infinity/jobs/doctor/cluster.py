"""The Ray cluster: does it answer, and do all nodes have the same versions and the same time?"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from infinity.jobs.cluster.connection import connect
from infinity.jobs.doctor.finding import Finding, Setup, fault, good
from infinity.jobs.doctor.places import CLOCK_S
from infinity.jobs.submission.client import JobClient, is_job_address
from infinity.jobs.watching import ClusterLostError

COMPARED = ("ray", "torch", "numpy", "pyarrow", "webdataset", "transformers")
"""Packages whose versions must be equal on all nodes."""
NODE_S = 60.0
"""Seconds that a node may take to tell about itself."""


def cluster(setup: Setup) -> Iterator[Finding]:
    """Reach the cluster that is set and let every node tell about itself."""
    address = setup.ray_address
    if address is None:
        yield good("ray", "a local Ray while a stage needs it")
        return
    fix = "start it, correct RAY_ADDRESS, or unset it to use a local Ray"
    try:
        if is_job_address(address):
            JobClient(address)
            yield good("ray", f"{address} takes jobs")
            return
        with connect(address):
            told = _nodes()
    except PermissionError as error:
        yield fault("ray", str(error), "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH")
    except (ConnectionError, ClusterLostError) as error:
        yield fault("ray", str(error), fix)
    else:
        yield good("ray", f"{address} has {len(told)} nodes")
        yield from compared(about_this_machine(), told)


def about_this_machine() -> dict[str, Any]:
    """Return versions and time of the machine that this runs on."""
    found: dict[str, Any] = {"python": platform.python_version(), "clock": time.time(), "host": platform.node()}
    for name in COMPARED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def compared(mine: dict[str, Any], told: list[dict[str, Any] | str]) -> Iterator[Finding]:
    """Compare what nodes tell of themselves with this machine.

    Args:
        mine: What `about_this_machine` gives here.
        told: The same of every node, or a sentence why a node did not tell.
    """
    is_good = True
    for node in told:
        if isinstance(node, str):
            yield fault("nodes", node, "look at that node's log; `ray status` shows what it is short of")
            is_good = False
            continue
        for name in ("python", *COMPARED):
            if node[name] != mine[name]:
                found = f"{node['host']} has {name} {node[name]}, this machine {mine[name]}"
                yield fault("nodes", found, "let all nodes and this machine use one image or one constraints.txt")
                is_good = False
        if (apart := abs(node["clock"] - mine["clock"])) > CLOCK_S:
            found = f"the clocks of {node['host']} and of this machine are {apart:.0f} s apart"
            yield fault("nodes", found, "set both by NTP")
            is_good = False
    if is_good and told:
        yield good("nodes", f"{len(told)} nodes have the versions and the time of this machine")


def _nodes() -> list[dict[str, Any] | str]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    told: list[dict[str, Any] | str] = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked = ray.remote(num_cpus=0, scheduling_strategy=there)(about_this_machine).remote()
        try:
            told.append(ray.get(asked, timeout=NODE_S))
        except ray.exceptions.RayError as error:
            told.append(f"{node['NodeManagerAddress']} did not tell about itself ({type(error).__name__})")
    return told
