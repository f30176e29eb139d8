"""A connection to Ray: the given cluster, or a small local one that ends with the block that asked for it.

A local cluster listens on loopback alone and answers nobody without its token, which lies in its own folder: whoever
reaches Ray can run commands, and other users of the machine reach loopback too.
"""

from __future__ import annotations

import contextvars
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from infinity.jobs.cluster import ray_token
from infinity.jobs.cluster.heap import HEAP
from infinity.jobs.cluster.sessions import apart, own_handler
from infinity.jobs.watching import ClusterLostError, answering, explained, own_processes, require_cluster, watched

logger = logging.getLogger(__name__)

MAX_FOLDER_LENGTH = 40
"""Ray puts sockets about 65 characters deeper, and the path of a socket ends at 107 bytes."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Shared memory of a local cluster: jobs pass paths and small arrays, not pictures."""

START_ATTEMPTS = 3
"""A busy machine may need more than the patience of one attempt."""

LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # Threads of a worker that wait for one another sleep after some 20 microseconds: on a machine whose cores have
    # other work too, spinning made training ten times slower.
    "GOMP_SPINCOUNT": "10000",
    # Ray gives its workers niceness 15, so that any other program takes their cores; here the workers are the program.
    "RAY_worker_niceness": "0",
    # Ray warns about a future default of this name at every start; we never ask for accelerators without naming them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Processes of Ray that import Python modules are given up after 30 to 60 seconds, and the driver ends with them
    # without a word; on a busy machine they need longer.
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    # So long agents of a node look for a head that is gone before they end; that of a local Ray never comes back.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    **HEAP,
}


_in_process: contextvars.ContextVar[bool] = contextvars.ContextVar("in_process", default=False)


@contextmanager
def in_process() -> Iterator[None]:
    """Inside the block jobs that fan out run their calls one after the other in this process, without Ray."""
    token = _in_process.set(True)
    try:
        yield
    finally:
        _in_process.reset(token)


def is_in_process() -> bool:
    """Return whether calls run in this process."""
    return _in_process.get()


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    dashboard: bool = False,
    object_store_bytes: int | None = None,
    memory_bytes: int | None = None,
    spill: str | None = None,
) -> Iterator[None]:
    """Connect to Ray inside the block.

    A process that is connected already stays so, and the block starts and stops nothing: jobs can be nested, and tests
    share one cluster.

    Args:
        address: ``host:port`` of a running cluster; None or ``"local"`` starts one on this machine. Never left to Ray,
            which would join whichever cluster ran last on the machine.
        num_cpus: CPUs that the local cluster lends out; None takes all of the machine.
        dashboard: Whether the local cluster serves its page on 127.0.0.1:8265.
        object_store_bytes: Shared memory of the local cluster; None for 200 MiB.
        memory_bytes: Memory that the local cluster lends to those that ask for some; None for what the machine has.
        spill: Folder for objects of the local cluster that do not fit into memory; None for that of its session.

    Raises:
        ConnectionError: No cluster answers at the address.
        PermissionError: The cluster asks for a token that this process does not have.
        NoClusterError: No cluster answers at the address.
        ClusterLostError: The cluster was lost inside the block, or the local one did not start.
    """
    if is_in_process():
        yield
        return
    if _is_connected():
        with explained():
            yield
        return
    if address not in (None, "local"):
        with _joined(str(address)):
            yield
        return
    folder = short_temporary_folder()
    limits = {
        "num_cpus": num_cpus,
        "object_store_memory": object_store_bytes or OBJECT_STORE_BYTES,
        "_memory": memory_bytes,
        "object_spilling_directory": spill,
    }
    try:
        with ray_token.loopback(), ray_token.required(folder / "token"):
            try:
                with _own_address_file(folder):
                    _start_local(folder, limits, dashboard)
                with watched(own_processes()), explained():
                    yield
            finally:
                _disconnect()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a dying process of Ray may still write a log line


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Connect to a running cluster; one on this machine's loopback is not looked for at another address."""
    with ray_token.loopback() if ray_token.is_loopback(address) else nullcontext():
        require_cluster(address)
        import ray

        try:
            with own_handler():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises several kinds
            if ray_token.is_refusal(error):
                raise PermissionError(ray_token.refusal(address)) from error
            raise
        try:
            with watched(answering(address)), explained():
                yield
        finally:
            ray.shutdown()


def _is_connected() -> bool:
    """Return whether Ray was started; a Ray that nobody imported was not, and importing it would fix its address."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _disconnect() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and hasattr(ray, "shutdown"):  # not where its import was interrupted
        ray.shutdown()


def num_cpus() -> int:
    """Return the number of CPUs of the cluster that this process is connected to; 1 without one."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1))) if ray.is_initialized() else 1


def _start_local(folder: Path, limits: dict[str, Any], dashboard: bool) -> None:
    import ray

    for name, value in LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            with own_handler(), apart():
                ray.init(
                    address="local",
                    include_dashboard=dashboard,
                    **limits,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(folder),
                    _node_ip_address="127.0.0.1",
                )
            return
        except (ValueError, OSError):
            raise
        except Exception as error:  # Ray raises nothing narrower
            reason = _why_not_started(folder, str(error))
            if "timed out during startup" not in str(error) or attempt == START_ATTEMPTS:
                raise ClusterLostError(
                    f"Ray did not start on this machine in {attempt} attempts ({reason}; load {_load():.0f} on "
                    f"{os.cpu_count()} CPUs); end other programs, or name a cluster in RAY_ADDRESS"
                ) from error
            logger.warning("the machine is busy, Ray did not start in time (%s); trying again", reason)
            ray.shutdown()


@contextmanager
def _own_address_file(folder: Path) -> Iterator[None]:
    """Make processes of the cluster that the block starts find this cluster where they look for any.

    Some parts of Ray, such as the one that frees the places of a dead training, do not ask their own process for its
    cluster. They read the address of the last ``ray start`` of the machine, which may be gone or someone else's, and
    die without an answer from it.
    """
    import ray
    from ray._common.utils import get_ray_address_file

    usual = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = str(folder)  # inherited by the processes that the block starts
    try:
        yield
        path = Path(get_ray_address_file(None))
        path.parent.mkdir(exist_ok=True)
        path.write_text(ray.get_runtime_context().gcs_address)
    finally:
        os.environ.pop("RAY_TMPDIR")
        if usual is not None:
            os.environ["RAY_TMPDIR"] = usual


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _why_not_started(folder: Path, said: str) -> str:
    """Return the last error in the logs of Ray's own processes, or what Ray said where they name none."""
    for name in ("raylet.out", "raylet.err", "gcs_server.out", "gcs_server.err"):
        try:
            lines = (folder / "session_latest" / "logs" / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if found := _ERROR.findall(lines):
            return f"{name.partition('.')[0]}: {found[-1].rpartition('Check failed: ')[2].strip()[:200]}"
    return said.strip().partition(". ")[0] or "no reason was given"


_ERROR = re.compile(r"^\[[^\]]* [EFC] [^\]]*\](?: \([^)]*\))? \S+: +(.*)$", re.MULTILINE)
"""Lines of Ray's logs about errors that ended something, such as ``[2026-11-29 22:25:49,678 E 12 12] node.cc:1: …``."""


def short_temporary_folder() -> Path:
    """Return a new folder with room for the paths of Ray's sockets: the usual place, or /tmp where that is too deep."""
    usual = tempfile.gettempdir()
    parent = usual if len(usual) + len("/inf-12345678") <= MAX_FOLDER_LENGTH else "/tmp"
    return Path(tempfile.mkdtemp(prefix="inf-", dir=parent))
