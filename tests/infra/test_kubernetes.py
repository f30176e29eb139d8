"""What `python -m infra.manifests` writes: schema-valid with every option, with tokens, limits and probes."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from infra import manifests
from tests.infra.test_manifests import closed, load, pinned

EVERY_OPTION = tuple(itertools.chain.from_iterable(itertools.combinations(manifests.OPTIONS, n) for n in range(4)))
STAGE = "s3://mine/run/spec.json"
KINDS = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "canary-id",
    "AWS_SECRET_ACCESS_KEY": "canary-key",
    "AWS_REGION": "here",
    "INFINITY_DATABASE": "postgresql+asyncpg://prefect:canary-password@db:5432/prefect",
}

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which joins the files, is missing")


@pytest.fixture(scope="module")
def schemas(shared: Path) -> dict[str, Any]:
    """The schemas of KubeRay's resources, without room for unknown fields; megabytes, read once."""
    found = {}
    for kind, name in KINDS.items():
        text = (shared / "data" / "schemas" / "kuberay" / name).read_text(encoding="utf-8")
        (found[kind],) = (
            closed(version["schema"]["openAPIV3Schema"])
            for version in yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
            if version["name"] == "v1"
        )
    return found


def rendered(options: tuple[str, ...] = (), stage: str | None = None) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(manifests.cluster("reg.example.org:5000/inf:9", "team", options, stage)))


def cluster_of(documents: list[dict[str, Any]]) -> Any:
    (found,) = (document["spec"] for document in documents if document["kind"] in KINDS)
    return found.get("rayClusterSpec", found)


def templates(documents: list[dict[str, Any]]) -> Iterator[Any]:
    """Specs of all pods."""
    spec = cluster_of(documents)
    yield from (group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]))
    yield from (document["spec"]["template"]["spec"] for document in documents if document["kind"] in OWN_PODS)


OWN_PODS = ("Deployment", "StatefulSet")


@needs_kubectl
@pytest.mark.reference
@pytest.mark.parametrize("stage", [None, STAGE])
@pytest.mark.parametrize("options", EVERY_OPTION, ids=",".join)
def test_every_choice_of_options_is_what_the_operator_knows(
    schemas: dict[str, Any], options: tuple[str, ...], stage: str | None
) -> None:
    documents = rendered(options, stage)
    assert {document["metadata"].get("namespace", "team") for document in documents} == {"team"}
    (resource,) = (document for document in documents if document["kind"] in KINDS)
    validator = jsonschema.Draft7Validator(schemas[resource["kind"]])
    assert [error.message for error in validator.iter_errors(resource)] == []
    if stage is not None:
        assert resource["spec"]["entrypoint"] == f"infinity run {STAGE} --ray-address auto"


@needs_kubectl
@pytest.mark.parametrize("stage", [None, STAGE])
def test_every_pod_has_its_image_limits_probes_and_no_secret_in_words(stage: str | None) -> None:
    for options in ((), manifests.OPTIONS):
        documents = rendered(options, stage)
        for pod in templates(documents):
            for container in pod["containers"]:
                assert set(container["resources"]) == {"requests", "limits"}
                is_ray = container["name"].startswith("ray-")
                assert (container["image"] == "reg.example.org:5000/inf:9") == is_ray
                if is_ray:  # the operator gives these their probes
                    token = {entry["name"]: entry for entry in container["env"]}["RAY_AUTH_TOKEN"]
                    assert set(token) == {"name", "valueFrom"}
                else:
                    assert {"readinessProbe", "livenessProbe"} <= set(container)
        for group in cluster_of(documents)["workerGroupSpecs"]:
            held = {volume["name"]: volume["emptyDir"] for volume in group["template"]["spec"]["volumes"]}
            shared_memory = int(held["shm"]["sizeLimit"].removesuffix("Gi")) * 2**30
            assert int(group["rayStartParams"]["object-store-memory"]) < shared_memory
            assert group["rayStartParams"]["object-spilling-directory"] == "/spill"
            assert "sizeLimit" in held["spill"]


@needs_kubectl
def test_clusters_in_a_queue_do_what_kueue_demands() -> None:
    """Its webhooks refuse clusters that grow by themselves, and jobs whose cluster stays."""
    for stage in (None, STAGE):
        documents = rendered(("kueue",), stage)
        (resource,) = (document for document in documents if document["kind"] in KINDS)
        assert resource["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "infinity"
        assert not cluster_of(documents)["enableInTreeAutoscaling"]
        assert len(cluster_of(documents)["workerGroupSpecs"]) <= 7
        assert all(group["groupName"] != "head" for group in cluster_of(documents)["workerGroupSpecs"])
    spec = resource["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert "deletionStrategy" not in spec  # the operator takes either this or the other
    assert "clusterSelector" not in spec
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["backoffLimit"] > 0


@needs_kubectl
def test_a_head_that_dies_finds_its_memory_in_a_redis_that_asks_for_a_password() -> None:
    documents = rendered(("gcs-redis",))
    options = cluster_of(documents)["gcsFaultToleranceOptions"]
    named = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    host, _, port = options["redisAddress"].partition(":")
    (shown,) = named["Service", host]["spec"]["ports"]
    assert shown["port"] == int(port)
    (container,) = named["StatefulSet", host]["spec"]["template"]["spec"]["containers"]
    assert container["env"][0]["valueFrom"] == options["redisPassword"]["valueFrom"]
    assert "requirepass" in container["args"][0]
    assert container["args"][0].rstrip().endswith("exec redis-server /run/redis/redis.conf")  # no password in `ps`
    (rule,) = named["NetworkPolicy", host]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": int(port)}]


@needs_kubectl
def test_pages_of_clusters_that_are_gone_are_stored_and_shown_from_one_place() -> None:
    documents = rendered(("history",))
    collector = cluster_of(documents)["historyServerOptions"]["collectorOptions"]["env"]
    (server,) = (pod for document in documents if document["kind"] == "Deployment" for pod in [document["spec"]])
    (container,) = server["template"]["spec"]["containers"]
    assert container["env"] == collector
    (binding,) = (document for document in documents if document["kind"] == "ClusterRoleBinding")
    assert binding["subjects"][0]["namespace"] == "team"


def test_spot_nodes_are_asked_for_as_the_clouds_name_them() -> None:
    groups = load("infra/kubernetes/raycluster.yaml")["spec"]["workerGroupSpecs"]
    (spot,) = (group for group in groups if group["groupName"] == "gpu-spot")
    assert spot["maxReplicas"] == 0  # nothing is taken back from whoever did not ask for it
    pod = spot["template"]["spec"]
    tolerated = {entry["key"] for entry in pod["tolerations"]}
    affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    wanted = {term["matchExpressions"][0]["key"] for term in affinity["nodeSelectorTerms"]}
    assert wanted - {"eks.amazonaws.com/capacityType"} == tolerated - {"nvidia.com/gpu"}  # EKS taints none of them
    assert all("affinity" not in group["template"]["spec"] for group in groups if group is not spot)


@pytest.mark.reference
def test_only_who_has_to_reaches_a_ray_cluster(schemas: dict[str, Any]) -> None:
    spec = load("infra/kubernetes/network-policy.yaml")["spec"]
    rules = schemas["RayCluster"]["properties"]["spec"]["properties"]["networkPolicy"]["properties"]["head"]
    validator = jsonschema.Draft7Validator(rules)  # its rules are those of a NetworkPolicy
    assert [error.message for error in validator.iter_errors({"ingressRules": spec["ingress"]})] == []
    assert spec["podSelector"]["matchExpressions"][0]["values"] == ["head", "worker"]
    assert spec["policyTypes"] == ["Ingress"]
    for rule in spec["ingress"]:
        ports = {entry["port"] for entry in rule.get("ports", [])}
        if "from" not in rule:
            assert ports == {8000}  # it asks for an API key
        elif not ports:
            (peer,) = rule["from"]
            assert "namespaceSelector" not in peer
            assert peer["podSelector"]["matchExpressions"] == [{"key": "ray.io/cluster", "operator": "Exists"}]
        else:
            assert ports <= {8265, 8000, 8080}


@needs_kubectl
def test_one_command_writes_all_and_shows_secrets_to_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rendered"
    given = [
        "--image",
        "reg.example.org:5000/inf:9",
        "--namespace",
        "team",
        "--runs",
        "s3://b/r",
        "--output",
        str(folder),
    ]
    for name in (*ENVIRONMENT, "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert manifests.main(given) == 1
    assert "the environment lacks AWS_ACCESS_KEY_ID" in capsys.readouterr().err
    assert not folder.exists()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert manifests.main([*given, "--with", "gcs-redis,history"]) == 0
    private = folder / "secrets.yaml"
    assert private.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir() if "canary" in path.read_text()] == ["secrets.yaml"]
    found = {document["metadata"]["name"] for document in yaml.safe_load_all(private.read_text())}
    text = "".join(path.read_text() for path in folder.glob("*.yaml") if path != private)
    assert {name for name in found if f"name: {name}" in text or name == "infinity-prefect"} == found
    before = private.read_text()
    assert manifests.main(given) == 0  # a cluster knows its tokens by now
    assert private.read_text() == before
    values = yaml.safe_load((folder / "prefect-worker.yaml").read_text())["worker"]
    assert (values["image"]["repository"], values["image"]["prefectTag"]) == ("reg.example.org:5000/inf", "9")
    assert {"name": "INFINITY_RUNS", "value": "s3://b/r"} in values["extraEnvVars"]


def test_each_step_from_an_empty_cluster_to_a_run_is_one_command() -> None:
    told = list(manifests.steps("team", ("history",), None))
    assert [command.split()[0] for _, command in told] == ["helm", *["kubectl"] * 3, "helm", "helm", "kubectl"]
    assert all("\n" not in command for _, command in told)
    assert "RayClusterHistoryServer" in told[0][1]
    assert "RayJobDeletionPolicy" in told[0][1]
    assert "prefect-server" not in str(list(manifests.steps("team", (), STAGE)))
    assert pinned("prefect") in str(load("infra/kubernetes/prefect-server.yaml")["server"]["image"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--with", "nothing"], "expected some of gcs-redis, history, kueue, got nothing"),
        (["--image", "reg.example.org:5000/inf"], "--image: expected name:tag"),
        (["--runs", "runs"], "pods share no folder"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert manifests.main(["--image", "inf:9", *arguments, "--output", str(tmp_path / "rendered")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "rendered").exists()
