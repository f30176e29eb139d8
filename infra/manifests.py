"""Write what a Kubernetes cluster needs for an image and a namespace of yours, and the commands that put it there.

python -m infra.manifests --image registry.example.org/infinity:0.1.0 --runs s3://bucket/runs --output rendered
    [--namespace infinity] [--with kueue,gcs-redis,history] [--stage s3://bucket/runs/mine/spec.json]

The folder gets ``secrets.yaml`` (readable by you only), ``cluster.yaml``, values of Prefect's charts, and ``steps.sh``:
one command per step, from an empty cluster to a running pipeline. Keys of the bucket and the address of the database
come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3, AWS_REGION and
INFINITY_DATABASE. What is in ``secrets.yaml`` already stays.
"""

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from infra.server.keys import write_private
from infra.settings import REPOSITORY

FOLDER = REPOSITORY / "infra" / "kubernetes"
OPTIONS = tuple(sorted(path.name for path in (FOLDER / "options").iterdir() if path.is_dir()))
IMAGE, STAGE, RUNS = "registry.example.com/infinity", "s3://infinity/runs/example/spec.json", "s3://infinity/runs"
"""What stands in the files of the repository in the place of yours."""
KUBERAY = "1.7.0"
"""Version of the operator's chart: the first with a history server that is no experiment."""


class RenderingError(ValueError):
    """What was asked for cannot be written."""


def secrets_of(environment: Mapping[str, str], *, is_stage: bool) -> dict[str, dict[str, str]]:
    """Return the content of every Secret, by its name; tokens are new ones.

    Args:
        is_stage: Whether they are for one stage alone, which has no server of Prefect.

    Raises:
        RenderingError: The environment lacks keys of the bucket, or the address of a PostgreSQL.
    """
    s3 = {name: environment.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")}
    database = environment.get("INFINITY_DATABASE", "")
    missing = [name for name, value in s3.items() if not value]
    if not is_stage and not database.startswith("postgresql+asyncpg://"):
        missing.append("INFINITY_DATABASE as postgresql+asyncpg://user:password@host:5432/prefect")
    if missing:
        raise RenderingError(f"the environment lacks {', '.join(missing)}; set it and run this again")
    if endpoint := environment.get("AWS_ENDPOINT_URL_S3"):
        s3["AWS_ENDPOINT_URL_S3"] = endpoint
    if is_stage:
        return {"infinity-s3": s3, "infinity-stage": {"auth_token": secrets.token_hex(32)}}
    return {
        "infinity-s3": s3,
        "infinity": {"auth_token": secrets.token_hex(32)},
        "infinity-prefect": {"auth-string": f"infinity:{secrets.token_hex(24)}"},
        "infinity-database": {"connection-string": database},
        "infinity-redis": {"password": secrets.token_hex(32)},
    }


def secret_manifests(content: Mapping[str, Mapping[str, str]], namespace: str) -> str:
    """Return Secrets as documents of one YAML file."""
    head = {"apiVersion": "v1", "kind": "Secret"}
    documents = [
        {**head, "metadata": {"name": name, "namespace": namespace}, "stringData": dict(data)}
        for name, data in content.items()
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def cluster(image: str, namespace: str, options: Sequence[str], stage: str | None) -> str:
    """Return the cluster and what it needs, or one stage with a cluster of its own, as YAML.

    Raises:
        RenderingError: There is no such option, or no kubectl.
    """
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise RenderingError(f"--with: expected some of {', '.join(OPTIONS)}, got {', '.join(unknown)}")
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag:
        raise RenderingError(f"--image: expected name:tag, got {image!r}")
    with tempfile.TemporaryDirectory() as folder:
        here = shutil.copytree(FOLDER, Path(folder) / "kubernetes")
        job = here / "rayjob-own-cluster.yaml"
        job.write_text(job.read_text("utf-8").replace(STAGE, stage or STAGE), "utf-8")
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": namespace,
            "resources": ["network-policy.yaml", job.name if stage else "raycluster.yaml"],
            "components": [f"options/{option}" for option in options],
            "images": [{"name": IMAGE, "newName": name, "newTag": tag}],
        }
        (here / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
        try:
            done = subprocess.run(["kubectl", "kustomize", str(here)], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise RenderingError("kubectl, which joins the files, is not installed on this machine") from error
    if done.returncode != 0:
        raise RenderingError(f"kubectl kustomize failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def chart_values(name: str, image: str, runs: str) -> str:
    """Return the values of a chart of Prefect's, with comments, for an image and a root of runs."""
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    repository, _, tag = image.rpartition(":")
    there = rf"repository: {re.escape(IMAGE)}, prefectTag: [^,]+"
    return re.sub(there, f'repository: {repository}, prefectTag: "{tag}"', text).replace(RUNS, runs)


def steps(namespace: str, options: Sequence[str], stage: str | None) -> Iterator[tuple[str, str]]:
    """Yield what each step is for, and its command, in their order."""
    gates = ["RayJobDeletionPolicy", *(["RayClusterHistoryServer"] if "history" in options else [])]
    on = ",".join(f"featureGates[{i}].name={gate},featureGates[{i}].enabled=true" for i, gate in enumerate(gates))
    kuberay = "https://ray-project.github.io/kuberay-helm"
    yield (
        "the operator of Ray",
        (
            f"helm upgrade --install kuberay-operator kuberay-operator --repo {kuberay} --version {KUBERAY} "
            f"--namespace kuberay --create-namespace --set '{on}'"
        ),
    )
    yield "a namespace", f"kubectl create namespace {namespace}"
    yield "its secrets", "kubectl apply -f secrets.yaml"
    if stage is not None:
        yield "one stage on a cluster of its own", "kubectl apply -f cluster.yaml"
        yield "watch it", f"kubectl --namespace {namespace} get rayjob infinity-stage --watch"
        return
    yield "the Ray cluster, and who reaches it", "kubectl apply -f cluster.yaml"
    for name, what in (
        ("prefect-server", "Prefect's server"),
        ("prefect-worker", "a worker, which deploys every flow"),
    ):
        yield (
            what,
            (
                f"helm upgrade --install {name} {name} --repo https://prefecthq.github.io/prefect-helm "
                f"--namespace {namespace} --values {name}.yaml --wait"
            ),
        )
    yield (
        "a run",
        (
            f"kubectl --namespace {namespace} exec deployment/prefect-worker -- "
            "prefect deployment run end-to-end/local --watch --param run=demo"
        ),
    )


def write(folder: Path, image: str, namespace: str, runs: str, options: Sequence[str], stage: str | None) -> None:
    """Write all files; Secrets that are there stay, since a cluster knows them by now.

    Raises:
        RenderingError: An option, the image or the environment is not as it must be.
        OSError: A file cannot be written.
    """
    if not runs.startswith("s3://"):
        raise RenderingError(f"--runs: expected s3://bucket/prefix, got {runs!r}; pods share no folder")
    found = cluster(image, namespace, options, stage)
    private = folder / "secrets.yaml"
    if not private.exists():
        content = secrets_of(os.environ, is_stage=stage is not None)
        folder.mkdir(parents=True, exist_ok=True)
        write_private(private, secret_manifests(content, namespace), replace=False)
    (folder / "cluster.yaml").write_text(found, "utf-8")
    for name in ("prefect-server", "prefect-worker"):
        (folder / f"{name}.yaml").write_text(chart_values(name, image, runs), "utf-8")
    told = enumerate(steps(namespace, options, stage), start=1)
    lines = [f"# {number}. {what}\n{command}\n" for number, (what, command) in told]
    (folder / "steps.sh").write_text('set -e\ncd "$(dirname "$0")"\n\n' + "\n".join(lines), "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when all is written."""
    parser = argparse.ArgumentParser(prog="python -m infra.manifests", description=__doc__.partition("\n")[0])
    parser.add_argument("--image", required=True, help="image of infra/Containerfile in a registry of yours, name:tag")
    parser.add_argument("--namespace", default="infinity")
    parser.add_argument("--runs", default=RUNS, help="root of all outputs, s3://bucket/prefix")
    parser.add_argument("--with", dest="options", default="", help=f"some of {','.join(OPTIONS)}")
    parser.add_argument("--stage", help="spec.json of one stage, which gets a cluster of its own; no Prefect")
    parser.add_argument("--output", type=Path, default=Path("rendered"))
    given = parser.parse_args(arguments)
    options = [name for name in given.options.split(",") if name]
    try:
        write(given.output, given.image, given.namespace, given.runs, options, given.stage)
    except (RenderingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.output}: written; next: bash {given.output / 'steps.sh'}, or its lines one by one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
