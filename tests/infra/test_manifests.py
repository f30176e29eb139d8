"""Every YAML file says what it must: deployments, containers, clusters."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import REPOSITORY

FLOWS = {"build_dataset", "train_tokenizer", "pretrain", "finetune", "evaluate", "sweep", "end_to_end"}


def _load(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def _yaml_files() -> list[str]:
    found = [
        REPOSITORY / "prefect.yaml",
        *(REPOSITORY / "infra").rglob("*.y*ml"),
        *(REPOSITORY / ".ci").rglob("*.y*ml"),
    ]
    return sorted(str(path.relative_to(REPOSITORY)) for path in found)


def _pinned(package: str) -> str:
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(package)}==(\S+)$", constraints, re.MULTILINE)
    assert match is not None
    return match[1]


def test_every_yaml_file_of_the_repository_is_checked_here() -> None:
    assert set(_yaml_files()) == {
        "prefect.yaml",
        "infra/compose.yaml",
        "infra/kubernetes/raycluster.yaml",
        "infra/kubernetes/rayjob.yaml",
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
    assert yaml.load((REPOSITORY / name).read_text(encoding="utf-8"), Strict)


def _deployments() -> dict[str, Any]:
    return {entry["entrypoint"]: entry for entry in _load("prefect.yaml")["deployments"]}


def test_every_flow_is_deployed_to_the_work_pool() -> None:
    deployments = _deployments()
    assert {entrypoint.rpartition(":")[2] for entrypoint in deployments} == FLOWS
    assert {entry["work_pool"]["name"] for entry in deployments.values()} == {"local"}
    assert {entry["name"] for entry in deployments.values()} == {"local"}
    assert _load("prefect.yaml")["prefect-version"] == _pinned("prefect")


@pytest.mark.parametrize("entrypoint", sorted(_deployments()))
def test_deployed_parameters_are_parameters_of_the_flow(entrypoint: str) -> None:
    path, _, name = entrypoint.partition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    flow.validate_parameters(_deployments()[entrypoint]["parameters"])


def test_only_evaluation_runs_on_a_schedule() -> None:
    scheduled = {key: entry["schedules"] for key, entry in _deployments().items() if entry.get("schedules")}
    assert list(scheduled) == ["flows/evaluate.py:evaluate"]
    (schedule,) = scheduled["flows/evaluate.py:evaluate"]
    assert schedule["active"]
    assert len(schedule["cron"].split()) == 5


def test_runs_that_fill_the_machine_do_not_run_side_by_side() -> None:
    limited = {key.rpartition(":")[2] for key, entry in _deployments().items() if "concurrency_limit" in entry}
    assert limited == {"train_tokenizer", "pretrain", "finetune", "evaluate", "sweep", "end_to_end"}


def test_compose_file_has_the_whole_stack() -> None:
    compose = _load("infra/compose.yaml")
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
    assert "prefect --no-prompt deploy --all" in script
    assert "prefect worker start --pool local" in script
    assert set(compose["volumes"]) == {"postgres", "s3"}


def test_compose_services_wait_for_healthy_neighbours() -> None:
    services = _load("infra/compose.yaml")["services"]
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, f"{name} waits for {needed}, which is no service"
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{needed} has no health check"


def test_compose_publishes_ports_on_loopback_only_and_holds_no_password() -> None:
    services = _load("infra/compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert str(value).startswith("${"), f"{name} is written into the compose file"


def test_images_have_a_version() -> None:
    for name, service in _load("infra/compose.yaml")["services"].items():
        _, colon, tag = service["image"].rpartition(":")
        assert colon, f"{name} has an image without version"
        assert tag != "latest", f"{name} has an image without version"


def _groups(cluster: Any) -> dict[str, Any]:
    return {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}


def test_ray_cluster_has_a_head_without_work_a_cpu_group_and_a_gpu_group() -> None:
    cluster = _load("infra/kubernetes/raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert cluster["spec"]["rayVersion"] == _pinned("ray")
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = _groups(cluster)
    assert set(groups) == {"cpu", "gpu"}
    for name, group in groups.items():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert ("nvidia.com/gpu" in resources["limits"]) == (name == "gpu")


def test_every_ray_container_has_the_same_image_and_gets_s3_keys_from_a_secret() -> None:
    spec = _load("infra/kubernetes/raycluster.yaml")["spec"]
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    containers = [container for template in templates for container in template["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all({"secretRef": {"name": "infinity-s3"}} in container["envFrom"] for container in containers)


def test_ray_job_runs_one_stage_on_that_cluster() -> None:
    job, cluster = _load("infra/kubernetes/rayjob.yaml"), _load("infra/kubernetes/raycluster.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert re.fullmatch(
        r"infinity run s3://\S+/spec\.json --ray-address auto", job["spec"]["entrypoint"]
    )
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]


def test_container_file_installs_with_the_pinned_versions_and_runs_without_rights() -> None:
    lines = (REPOSITORY / "infra" / "Containerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines)
    assert "-c constraints.txt" in text
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if "=" not in word}
    assert copied >= {"pyproject.toml", "constraints.txt", "infinity", "flows", "infra", "prefect.yaml"}
    for name in copied:
        assert Path(REPOSITORY, name).exists(), f"the container file copies {name}, which is not there"
