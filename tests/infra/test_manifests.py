"""Every YAML file says what it must: deployments, containers, clusters."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from flows.pool import QUEUES
from infinity.jobs.cluster.connection import short_temporary_folder
from infinity.jobs.submission.client import is_job_address
from infra import compose_env, processes
from infra.environment import common_environment, free_port
from infra.server.deploying import for_environment
from infra.settings import REPOSITORY, Settings
from tests.fixtures.limits import AGES_S, wait_until

FLOWS = {
    "build_dataset",
    "train_tokenizer",
    "pretrain",
    "finetune",
    "evaluate",
    "sweep",
    "savings",
    "study",
    "end_to_end",
    "reaper",
    "fleet",
    "resume",
}


def load(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def _yaml_files() -> list[str]:
    found = [
        REPOSITORY / "prefect.yaml",
        *(REPOSITORY / "infra").rglob("*.y*ml"),
        *(REPOSITORY / ".ci").rglob("*.y*ml"),
    ]
    return sorted(str(path.relative_to(REPOSITORY)) for path in found)


def pinned(package: str) -> str:
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(package)}==(\S+)$", constraints, re.MULTILINE)
    assert match is not None
    return match[1]


def test_every_yaml_file_of_the_repository_is_checked_here() -> None:
    assert set(_yaml_files()) == {
        "prefect.yaml",
        "infra/compose.yaml",
        "infra/kubernetes/kustomization.yaml",
        "infra/kubernetes/network-policy.yaml",
        "infra/kubernetes/options/gcs-redis/kustomization.yaml",
        "infra/kubernetes/options/gcs-redis/redis.yaml",
        "infra/kubernetes/options/history/history-server.yaml",
        "infra/kubernetes/options/history/kustomization.yaml",
        "infra/kubernetes/options/kueue/kustomization.yaml",
        "infra/kubernetes/prefect-server.yaml",
        "infra/kubernetes/prefect-worker.yaml",
        "infra/kubernetes/raycluster.yaml",
        "infra/kubernetes/rayjob.yaml",
        "infra/kubernetes/rayjob-own-cluster.yaml",
        "infra/kubernetes/rayservice.yaml",
        "infra/automations/crashed-goes-on.yaml",
        "infra/automations/silent-run-crashes.yaml",
        "infra/automations/tell-of-failures.yaml",
        "infra/automations/tell-of-full-disks.yaml",
        "infra/automations/tell-of-regressions.yaml",
        "infra/skypilot.yaml",
        "infra/logging.yaml",
        "infra/monitoring/alerts.yaml",
        "infra/monitoring/prometheus.yaml",
    }


@pytest.mark.parametrize("name", _yaml_files())
def test_no_yaml_file_has_a_key_twice(name: str) -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]  # type: ignore[no-untyped-call]
        assert len(keys) == len(set(keys)), f"{name}: a key stands twice in {keys}"
        loader.flatten_mapping(node)
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    assert list(yaml.load_all((REPOSITORY / name).read_text(encoding="utf-8"), Strict))


def _deployments() -> dict[str, Any]:
    return {entry["entrypoint"]: entry for entry in load("prefect.yaml")["deployments"]}


def test_every_flow_is_deployed_to_the_work_pool() -> None:
    deployments = _deployments()
    assert {entrypoint.rpartition(":")[2] for entrypoint in deployments} == FLOWS
    assert {entry["work_pool"]["name"] for entry in deployments.values()} == {"local"}
    assert {entry["name"] for entry in deployments.values()} == {"local"}
    assert load("prefect.yaml")["prefect-version"] == pinned("prefect")


@pytest.mark.parametrize("entrypoint", sorted(_deployments()))
def test_deployed_parameters_are_parameters_of_the_flow(entrypoint: str) -> None:
    path, _, name = entrypoint.partition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    flow.validate_parameters(_deployments()[entrypoint]["parameters"])


def test_only_evaluation_the_reaper_and_the_page_of_the_fleet_run_on_a_schedule() -> None:
    scheduled = {key: entry["schedules"] for key, entry in _deployments().items() if entry.get("schedules")}
    assert set(scheduled) == {
        "flows/evaluate.py:evaluate", "flows/operations/reaper.py:reaper", "flows/fleet.py:fleet",
    }  # fmt: skip
    for (schedule,) in scheduled.values():
        assert schedule["slug"]
        assert "active" not in schedule  # or a deploy by hand would overrule who switched it off
        assert len(schedule["cron"].split()) == 5


def test_runs_that_fill_the_machine_do_not_run_side_by_side() -> None:
    queues: dict[str, set[str]] = {}
    for key, entry in _deployments().items():
        queues.setdefault(entry["work_pool"].get("work_queue_name", "default"), set()).add(key.rpartition(":")[2])
        assert "concurrency_limit" not in entry, "such a limit ends runs that outlive an outage of the server"
    assert queues == {
        "machine": {"train_tokenizer", "pretrain", "finetune", "end_to_end", "study"},
        "evaluations": {"evaluate", "sweep", "savings"},
        "upkeep": {"reaper", "fleet", "resume"},
        "default": {"build_dataset"},
    }
    assert set(QUEUES) == set(queues) - {"default"}
    assert sorted(QUEUES, key=lambda name: QUEUES[name][0]) == ["upkeep", "machine", "evaluations"]
    assert {name for name, (_, limit) in QUEUES.items() if limit is not None} == {"machine", "evaluations"}


@pytest.mark.parametrize("name", sorted(load("prefect.yaml")["definitions"]["environments"]))
def test_an_environment_has_every_flow_under_its_name_and_in_its_pool(name: str) -> None:
    plan = load("prefect.yaml")
    found = for_environment(plan, name)
    assert plan == load("prefect.yaml")  # untouched
    assert [entry["entrypoint"] for entry in found["deployments"]] == list(_deployments())
    assert {entry["name"] for entry in found["deployments"]} == {name}
    assert {entry["work_pool"]["name"] for entry in found["deployments"]} == {name}
    assert all(name in entry["tags"] for entry in found["deployments"])
    queues = [entry["work_pool"].get("work_queue_name") for entry in found["deployments"]]
    assert queues == [entry["work_pool"].get("work_queue_name") for entry in plan["deployments"]]
    wanted = plan["definitions"]["environments"][name]
    common = plan["definitions"]["work_pool"]["job_variables"]["env"]
    for entry in found["deployments"]:
        assert entry["work_pool"]["job_variables"]["env"] == common | wanted["job_variables"]["env"]
    starts_by_itself = [entry for entry in found["deployments"] if "schedules" in entry or "triggers" in entry]
    assert bool(starts_by_itself) == wanted["schedules"]
    assert Settings(environment=name).pool == name


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="INFINITY_ENVIRONMENT: expected one of dev, staging, production, got 'prod'"):
        for_environment(load("prefect.yaml"), "prod")


def test_compose_file_has_the_whole_stack() -> None:
    compose = load("infra/compose.yaml")
    services = compose["services"]
    assert set(services) == {"postgres", "s3", "bucket", "prefect", "ray-head", "worker"}
    assert services["postgres"]["image"].startswith("postgres:")
    database = services["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert database.startswith("postgresql+asyncpg://")
    assert "@postgres:5432/" in database
    worker = services["worker"]
    assert worker["environment"]["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert worker["environment"]["AWS_ENDPOINT_URL_S3"] == "http://s3:9000"
    assert worker["environment"]["RAY_ADDRESS"] == "ray-head:6379"
    assert worker["environment"]["INFINITY_RUNS"].startswith("s3://")
    script = worker["command"][-1]
    assert "python -m infra.stack deploy" in script
    assert "prefect worker start --pool local" in script
    assert set(compose["volumes"]) == {"postgres", "s3"}


def test_compose_services_wait_for_healthy_neighbours() -> None:
    services = load("infra/compose.yaml")["services"]
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, f"{name} waits for {needed}, which is no service"
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{needed} has no health check"


def test_compose_publishes_ports_on_loopback_only_and_holds_no_password() -> None:
    services = load("infra/compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "AUTH_STRING", "AUTH_TOKEN")):
                assert str(value).startswith("${"), f"{name} is written into the compose file"


def test_images_have_a_version() -> None:
    for name, service in load("infra/compose.yaml")["services"].items():
        _, colon, tag = service["image"].rpartition(":")
        assert colon, f"{name} has an image without version"
        assert tag != "latest", f"{name} has an image without version"


def _groups(cluster: Any) -> dict[str, Any]:
    return {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}


def test_ray_cluster_has_a_head_without_work_a_cpu_group_and_a_gpu_group() -> None:
    cluster = load("infra/kubernetes/raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert cluster["spec"]["rayVersion"] == pinned("ray")
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = _groups(cluster)
    assert set(groups) == {"cpu", "gpu", "gpu-spot"}
    for name, group in groups.items():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert ("nvidia.com/gpu" in resources["limits"]) == (name != "cpu")


def test_every_ray_container_has_the_same_image_and_gets_s3_keys_from_a_secret() -> None:
    spec = load("infra/kubernetes/raycluster.yaml")["spec"]
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    containers = [container for template in templates for container in template["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all({"secretRef": {"name": "infinity-s3"}} in container["envFrom"] for container in containers)


def test_ray_job_runs_one_stage_on_that_cluster() -> None:
    job, cluster = load("infra/kubernetes/rayjob.yaml"), load("infra/kubernetes/raycluster.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert re.fullmatch(r"infinity run s3://\S+/spec\.json --ray-address auto", job["spec"]["entrypoint"])
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]


def test_container_file_installs_with_the_pinned_versions_and_runs_without_rights() -> None:
    lines = (REPOSITORY / "infra" / "Containerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines)
    assert "python infra/packages/installing.py" in text
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if "=" not in word}
    assert copied >= {"pyproject.toml", "requirements.lock", "infinity", "flows", "infra", "prefect.yaml"}
    for name in copied:
        assert Path(REPOSITORY, name).exists(), f"the container file copies {name}, which is not there"


def _environments() -> dict[str, dict[str, str]]:
    return {name: service.get("environment", {}) for name, service in load("infra/compose.yaml")["services"].items()}


def test_containers_have_the_settings_of_the_local_stack() -> None:
    """The image sets what infra/env.sh sets, and no file that starts a container sets anything else."""
    text = (REPOSITORY / "infra/Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    image = dict(re.findall(r"(?:^|\s)([A-Z][A-Z0-9_]*)=(\S+)", text.rpartition("\nENV ")[2].partition("\n")[0]))
    wanted = common_environment()
    assert {name: image.get(name) for name in wanted} == wanted
    for service in load("infra/compose.yaml")["services"].values():
        given = service.get("environment", {})
        assert {name: value for name, value in given.items() if name in wanted and value != wanted[name]} == {}


def test_every_container_of_ray_asks_for_the_token_of_the_env_file() -> None:
    with_ray = {name: values for name, values in _environments().items() if "RAY_ADDRESS" in values}
    assert {"ray-head", "worker"} <= set(with_ray)
    for values in with_ray.values():
        assert values["RAY_AUTH_MODE"] == "token"
        assert values["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")


def test_the_prefect_of_compose_asks_for_the_secret_that_its_worker_shows() -> None:
    environments = _environments()
    server, worker = environments["prefect"], environments["worker"]
    assert server["PREFECT_SERVER_API_AUTH_STRING"].startswith("${PREFECT_AUTH_STRING:?")
    assert worker["PREFECT_API_AUTH_STRING"].startswith("${PREFECT_AUTH_STRING:?")
    assert server["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"
    assert "*" not in server["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"]
    command = load("infra/compose.yaml")["services"]["prefect"]["command"]
    assert command[:3] == ["python", "-m", "flows.server"]
    assert command[command.index("--name") + 1] == "prefect"  # the name in the worker's PREFECT_API_URL


def test_the_env_file_of_compose_gets_a_new_secret_in_every_empty_place(tmp_path: Path) -> None:
    path = tmp_path / "compose.env"
    assert compose_env.main(path) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    values = dict(line.split("=", 1) for line in lines)
    needed = set(re.findall(r"\$\{([A-Z0-9_]+):\?", (REPOSITORY / "infra/compose.yaml").read_text("utf-8")))
    assert needed <= set(values)
    secrets = [value for name, value in values.items() if name != "S3_USER"]
    assert all(len(value) >= 64 for value in secrets)
    assert len(set(secrets)) == len(secrets)
    before = path.read_text()
    assert compose_env.main(path) == 1
    assert path.read_text() == before


CLUSTERS = {
    "raycluster.yaml": (),
    "rayjob-own-cluster.yaml": ("rayClusterSpec",),
    "rayservice.yaml": ("rayClusterConfig",),
}
"""Files that describe a cluster, and where within them."""


def _cluster_in(name: str) -> tuple[str, Any]:
    """Name of the resource and what it says of its cluster."""
    found = load(f"infra/kubernetes/{name}")
    cluster = found["spec"]
    for key in CLUSTERS[name]:
        cluster = cluster[key]
    return found["metadata"]["name"], cluster


@pytest.mark.parametrize("file", CLUSTERS)
def test_every_container_of_a_ray_cluster_asks_for_the_token_of_a_secret(file: str) -> None:
    owner, spec = _cluster_in(file)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == pinned("ray")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    for template in templates:
        for container in template["spec"]["containers"]:
            environment = {entry["name"]: entry for entry in container["env"]}
            assert environment["RAY_AUTH_MODE"]["value"] == "token"
            # The operator takes the token from a Secret of the cluster's own name.
            key = {"name": owner, "key": "auth_token"}
            assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == key
            assert container["resources"]["requests"] == container["resources"]["limits"]
            mounted = {each["name"] for each in container.get("volumeMounts", [])}
            assert mounted == {each["name"] for each in template["spec"].get("volumes", [])}


def test_a_job_with_a_cluster_of_its_own_leaves_no_paid_node_behind() -> None:
    spec = load("infra/kubernetes/rayjob-own-cluster.yaml")["spec"]
    assert "clusterSelector" not in spec
    assert "shutdownAfterJobFinishes" not in spec  # the operator takes either this or the rules
    assert not spec["rayClusterSpec"]["enableInTreeAutoscaling"]  # it refuses DeleteWorkers beside it
    assert spec["backoffLimit"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    after = {
        (rule["policy"], rule["condition"]["jobStatus"]): rule["condition"]["ttlSeconds"]
        for rule in spec["deletionStrategy"]["deletionRules"]
    }
    assert {status for policy, status in after if policy == "DeleteCluster"} == {"SUCCEEDED", "FAILED"}
    assert after["DeleteWorkers", "FAILED"] <= 60 < after["DeleteCluster", "FAILED"] < after["DeleteSelf", "FAILED"]
    assert after["DeleteCluster", "SUCCEEDED"] <= 60 < after["DeleteSelf", "SUCCEEDED"]


def test_the_service_of_kubernetes_serves_the_application_of_this_tree(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="what Ray Serve needs is not installed")
    from ray.serve.schema import ServeDeploySchema

    from infinity.jobs.serving import application

    spec = load("infra/kubernetes/rayservice.yaml")["spec"]
    written = yaml.safe_load(spec["serveConfigV2"])
    (served,) = ServeDeploySchema.model_validate(written).applications
    assert served.import_path == f"{application.__module__}:{application.__name__}"
    keys = tmp_path / "keys"
    keys.write_text("k" * 16)
    (replica,) = served.deployments
    assert application({**served.args, "keys": str(keys)})._bound_deployment.name == replica.name
    group = spec["rayClusterConfig"]["workerGroupSpecs"][0]
    (container,) = group["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert served.args["keys"] == f"{mounts['keys']}/keys"
    options = written["applications"][0]["deployments"][0]["ray_actor_options"]
    assert options["num_gpus"] <= int(container["resources"]["limits"]["nvidia.com/gpu"])
    drained_s = application({**served.args, "keys": str(keys)})._bound_deployment._deployment_config
    assert drained_s.graceful_shutdown_timeout_s < group["template"]["spec"]["terminationGracePeriodSeconds"]
    assert drained_s.graceful_shutdown_timeout_s < spec["rayClusterDeletionDelaySeconds"]


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("infra/kubernetes/raycluster.yaml", "ray.io_rayclusters.yaml"),
        ("infra/kubernetes/rayjob.yaml", "ray.io_rayjobs.yaml"),
        ("infra/kubernetes/rayjob-own-cluster.yaml", "ray.io_rayjobs.yaml"),
        ("infra/kubernetes/rayservice.yaml", "ray.io_rayservices.yaml"),
    ],
)
def test_resources_of_kubernetes_have_the_fields_that_the_operator_knows(
    shared: Path, name: str, definition: str
) -> None:
    text = (shared / "data" / "schemas" / "kuberay" / definition).read_text(encoding="utf-8")
    found = yaml.load(text, yaml.CSafeLoader)  # a megabyte, for which the loader in Python takes long
    (schema,) = [
        version["schema"]["openAPIV3Schema"] for version in found["spec"]["versions"] if version["name"] == "v1"
    ]
    validator = jsonschema.Draft7Validator(closed(schema))
    assert [error.message for error in validator.iter_errors(load(name))] == []


@pytest.mark.reference
@pytest.mark.parametrize("chart", ["prefect-server", "prefect-worker"])
def test_values_are_those_that_the_charts_of_prefect_know(shared: Path, chart: str) -> None:
    text = (shared / "data" / "schemas" / "prefect-helm" / f"{chart}.values.schema.json").read_text(encoding="utf-8")
    validator = jsonschema.Draft7Validator(closed(json.loads(text)))
    assert [error.message for error in validator.iter_errors(load(f"infra/kubernetes/{chart}.yaml"))] == []


def test_the_worker_of_kubernetes_submits_jobs_to_the_cluster_and_shows_every_secret_from_a_secret() -> None:
    server, worker = (load(f"infra/kubernetes/prefect-{name}.yaml") for name in ("server", "worker"))
    cluster = load("infra/kubernetes/raycluster.yaml")
    given = {entry["name"]: entry for entry in worker["worker"]["extraEnvVars"]}
    assert is_job_address(given["RAY_ADDRESS"]["value"])
    assert f"http://{cluster['metadata']['name']}-head-svc:8265" == given["RAY_ADDRESS"]["value"]
    token = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    assert given["RAY_AUTH_TOKEN"] in token
    assert given["INFINITY_RUNS"]["value"].startswith("s3://")
    assert f"--pool {worker['worker']['config']['workPool']} " in worker["worker"]["args"][0]
    auth = {"enabled": True, "existingSecret": "infinity-prefect"}
    assert server["server"]["basicAuth"] == auth
    assert worker["worker"]["selfHostedServerApiConfig"]["basicAuth"] == auth
    assert server["server"]["image"]["prefectTag"].startswith(f"{pinned('prefect')}-")
    assert not server["sqlite"]["enabled"]
    for values in (server["server"], worker["worker"]):
        assert set(values["resources"]) == {"requests", "limits"}
        assert values["livenessProbe"]["enabled"]


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, where the operator would drop them without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        found["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.mark.reference
def test_the_compose_file_is_one(shared: Path) -> None:
    path = shared / "data" / "schemas" / "compose" / "compose-spec.json"
    validator = jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(load("infra/compose.yaml"))] == []


@pytest.mark.ray
@pytest.mark.slow
def test_the_head_of_compose_refuses_who_does_not_have_its_token(tmp_path: Path) -> None:
    """Its own command and its own settings of Ray; only addresses, ports and folder are this test's."""
    service = load("infra/compose.yaml")["services"]["ray-head"]
    token, (port, page) = "f" * 64, (free_port(), free_port())
    given = {name: value for name, value in service["environment"].items() if name.startswith("RAY_AUTH")}
    given["RAY_AUTH_TOKEN"] = re.sub(r"^\$\{RAY_AUTH_TOKEN:\?.*\}$", token, given["RAY_AUTH_TOKEN"])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    folder = short_temporary_folder()
    changed = {
        "--port=6379": f"--port={port}",
        "--dashboard-host=0.0.0.0": "--dashboard-host=127.0.0.1",
        "--object-spilling-directory=/tmp/spill": f"--object-spilling-directory={folder}/spill",
        "--object-store-memory=1610612736": "--object-store-memory=100000000",
    }
    command = [changed.get(word, word) for word in service["command"]]
    assert set(changed.values()) <= set(command)
    command[0] = str(Path(sys.executable).with_name(command[0]))
    command += [f"--dashboard-port={page}", f"--temp-dir={folder}", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
    head = processes.start(
        "head",
        command,
        environment={**clean, **given, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        log=tmp_path / "head.log",
        cwd=tmp_path,
    )
    try:
        wait_until(lambda: "Ray runtime started" in Path(head.log).read_text("utf-8"), "the start of the head")

        def status(**headers: str) -> int:
            url = f"http://127.0.0.1:{page}/api/jobs/"
            return httpx.get(url, headers=headers, timeout=AGES_S, trust_env=False).status_code

        assert status() == 401
        assert status(authorization=f"Bearer {'0' * 64}") == 403
        assert status(authorization=f"Bearer {token}") == 200
        ray = [command[0], "health-check", "--address", f"127.0.0.1:{port}"]  # as the container's own check asks
        environment = {**clean, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        for extra, is_let_in in (({"RAY_AUTH_MODE": "disabled"}, False), (given, True)):
            ended = subprocess.run(ray, env={**environment, **extra}, capture_output=True, timeout=AGES_S, check=False)
            assert (ended.returncode == 0) == is_let_in, ended.stderr[-2000:]
    finally:
        processes.stop(head)
        shutil.rmtree(folder, ignore_errors=True)
