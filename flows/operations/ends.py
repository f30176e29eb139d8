"""What a run that ends badly says last: where it stands, and how it goes on."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from infinity import storage
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.base import STATE_FOLDER, TrainSpec
from infinity.training.checkpoints import StateStore

GO_ON = "start the same again to go on"


def standing(folder: str) -> str:
    """Return where the training in this folder stands, as part of a sentence; empty where nothing is stored."""
    try:
        step = StateStore(storage.join(folder, STATE_FOLDER), background=False).newest_step()
    except storage.StorageError as error:
        return f"which step is stored cannot be seen now ({error})"
    return f"stored at step {step}" if step >= 0 else ""


def with_standing(spec: JobSpec, message: str, *, may_pass: bool = False) -> str:
    """Return a message about the end of a stage, with where it stands if it is a training that has begun.

    Args:
        spec: Spec of the stage.
        message: What happened.
        may_pass: Whether the cause may be gone at another start, so that starting again is worth a try.
    """
    stands = standing(spec.folder) if isinstance(spec, TrainSpec) else ""
    return "; ".join([message, *filter(None, [stands]), *([GO_ON] if stands or may_pass else [])])


def command(deployment: str, parameters: Mapping[str, Any]) -> str:
    """Return the shell command that starts a run of a deployment again."""
    given = [f"--param {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in parameters.items()]
    return " ".join(["prefect deployment run", shlex.quote(deployment), *given])


def again(client: SyncPrefectClient, run: FlowRun) -> str:
    """Return how a run goes on, with the command if it is one of a deployment."""
    if run.deployment_id is None:
        return GO_ON
    try:
        name = f"{client.read_flow(run.flow_id).name}/{client.read_deployment(run.deployment_id).name}"
    except ObjectNotFound:  # the deployment was deleted meanwhile
        return GO_ON
    return f"{GO_ON}: {command(name, run.parameters)}"
