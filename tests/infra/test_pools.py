"""Work pools of containers and pods: their templates fill the places of Prefect's own, and a server takes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Scheduled
from prefect.utilities.templating import apply_values, find_placeholders

from flows.pool import QUEUES, make_queues
from infra.server.access import StackError
from infra.server.deploying import POOLS, make_pool
from infra.settings import Settings
from infra.stack import Stack, memory_options
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask
from tests.infra.test_manifests import load

KINDS = ("docker", "kubernetes")
RUN = {"name": "run", "command": "prefect flow-run execute", "labels": {"a": "b"}, "env": {"PREFECT_API_URL": "here"}}
"""What a worker gives for each run."""


def template(kind: str) -> dict[str, Any]:
    found = json.loads((POOLS / f"{kind}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def default(kind: str) -> dict[str, Any]:
    """Prefect's own template for a kind of worker, which the server knows without the worker's package."""
    files = resources.files("prefect.server.api.collections_data.views")
    known = json.loads((files / "aggregate-worker-metadata.json").read_text(encoding="utf-8"))
    found = known[f"prefect-{kind}"][kind]["default_base_job_configuration"]
    assert isinstance(found, dict)
    return found


def rendered(kind: str) -> dict[str, Any]:
    """What a worker makes of a run that sets nothing."""
    found = template(kind)
    variables = found["variables"]["properties"]
    values = {name: entry["default"] for name, entry in variables.items() if "default" in entry}
    made = apply_values(found["job_configuration"], {**values, **RUN})
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_has_every_place_of_prefects_own_and_a_variable_for_each(kind: str) -> None:
    mine, theirs = template(kind), default(kind)
    assert set(mine["job_configuration"]) == set(theirs["job_configuration"])
    variables = mine["variables"]["properties"]
    assert set(theirs["variables"]["properties"]) <= set(variables)
    assert {place.name for place in find_placeholders(mine["job_configuration"])} == set(variables)
    assert all(entry["description"] for entry in variables.values())
    assert "infinity:" in variables["image"]["default"]


def test_a_pod_of_a_run_has_token_limits_and_an_end_and_shows_no_secret() -> None:
    job = rendered("kubernetes")["job_manifest"]
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["backoffLimit"] == 0  # a run is started again by Prefect, or by a person
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] > 0
    assert pod["terminationGracePeriodSeconds"] >= 60  # a stage stores its step meanwhile
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    assert set(limits) == set(requests) == {"cpu", "memory"}
    environment = {entry["name"]: entry for entry in container["env"]}
    cluster = load("infra/kubernetes/raycluster.yaml")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert environment["RAY_AUTH_TOKEN"] in cluster["env"]
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    worker = load("infra/kubernetes/prefect-worker.yaml")["worker"]["extraEnvVars"]
    assert environment["RAY_ADDRESS"] in worker
    assert environment["INFINITY_RUNS"] in worker
    policy = load("infra/kubernetes/network-policy.yaml")["spec"]["ingress"]
    let_in = {value for rule in policy for peer in rule.get("from", []) for value in _names(peer)}
    assert spec["template"]["metadata"]["labels"]["app.kubernetes.io/name"] in let_in


def _names(peer: dict[str, Any]) -> list[str]:
    wanted = peer.get("podSelector", {}).get("matchExpressions", [])
    return [value for each in wanted if each["key"] == "app.kubernetes.io/name" for value in each["values"]]


def test_a_container_of_a_run_has_a_limit_and_reads_its_secrets_from_files() -> None:
    made = rendered("docker")
    assert made["mem_limit"] == made["memswap_limit"]
    assert made["auto_remove"]
    assert not made["privileged"]
    variables = template("docker")["variables"]["properties"]
    environment = variables["env"]["default"]
    (mounted,) = (entry.split(":") for entry in variables["volumes"]["default"])
    assert mounted[2] == "ro"
    for name in ("RAY_AUTH_TOKEN_PATH", "AWS_SHARED_CREDENTIALS_FILE"):
        assert environment[name].startswith(f"{mounted[1]}/")


def test_the_worker_of_pods_makes_a_job_of_the_template() -> None:
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="the package prefect-kubernetes is missing")
    made = worker.KubernetesWorkerJobConfiguration(**rendered("kubernetes"))
    made.prepare_for_flow_run(flow_run=_run())
    (container,) = made.job_manifest["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert "valueFrom" in environment["RAY_AUTH_TOKEN"]
    assert environment["PREFECT_API_URL"]["value"]
    assert container["args"][-2:] == ["flow-run", "execute"]


def _run() -> Any:
    from prefect.client.schemas.objects import FlowRun

    return FlowRun(id=uuid4(), flow_id=uuid4(), name="run", state=Scheduled())


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_takes_a_pool_with_its_template_and_keeps_what_an_operator_changed(
    kind: str, prefect_stack: Stack, prefect_server: str
) -> None:
    server, pool = prefect_stack.server_up(), f"{kind}-{uuid4().hex[:6]}"
    api = prefect_stack.api(server)
    api.timeout_s = AGES_S
    make_pool(api, lambda *words: prefect_stack._prefect(server, *words), pool, kind)
    found = ask(prefect_server, f"work_pools/{pool}", method="GET")
    assert (found["type"], found["base_job_template"]) == (kind, template(kind))
    changed = json.loads(json.dumps(template(kind)))
    changed["variables"]["properties"]["image"]["default"] = "registry.example.org/mine:2"
    ask(prefect_server, f"work_pools/{pool}", {"base_job_template": changed}, method="PATCH")
    make_pool(api, lambda *words: prefect_stack._prefect(server, *words), pool, kind)
    assert ask(prefect_server, f"work_pools/{pool}", method="GET")["base_job_template"] == changed


@pytest.mark.prefect
def test_runs_begin_in_the_order_of_their_queues(prefect_server: str) -> None:
    """Upkeep before trainings before evaluations, whichever was asked for first."""
    pool = f"order-{uuid4().hex[:6]}"
    ask(prefect_server, "work_pools/", {"name": pool, "type": "process"})
    assert make_queues(pool) == list(QUEUES)
    assert make_queues(pool) == []

    @flow(name=f"nothing-{uuid4().hex[:6]}")
    def nothing() -> None:
        """Does nothing."""

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(nothing)
        for name in reversed(QUEUES):
            made = client.create_deployment(flow_id, name, work_pool_name=pool, work_queue_name=name)
            client.create_flow_run_from_deployment(made, name=name, state=Scheduled(scheduled_time=datetime.now(UTC)))
    path = f"work_pools/{pool}/get_scheduled_flow_runs"
    found = [entry["flow_run"]["name"] for entry in ask(prefect_server, path, {"limit": 10})]
    assert found == list(QUEUES) == sorted(QUEUES, key=lambda name: QUEUES[name][0])
    first = ask(prefect_server, path, {"limit": 1})
    assert [entry["flow_run"]["name"] for entry in first] == ["upkeep"]


def test_a_pool_of_pods_is_not_served_by_processes_of_this_machine(tmp_path: Path) -> None:
    stack = Stack(Settings(state=tmp_path, work_pool="pods", work_pool_type="kubernetes"))
    with pytest.raises(StackError, match="'prefect worker start --pool pods --type kubernetes' serves it"):
        stack.worker_up(None)  # type: ignore[arg-type]  # refused before the server is asked


def test_a_local_ray_gets_the_limits_of_the_settings(tmp_path: Path) -> None:
    assert memory_options(Settings()) == []
    given = Settings(ray_memory=5, ray_object_store=4, ray_spill=tmp_path)
    assert memory_options(given) == ["--memory=5", "--object-store-memory=4", f"--object-spilling-directory={tmp_path}"]
