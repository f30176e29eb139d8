"""Make the automations of ``infra/automations`` on the Prefect server; one that is there stays as a person left it.

python -m flows.automations

In these files an action names a deployment as ``deployment: flow/local`` and a block as ``block: type/name``, since ids
differ from server to server. With INFINITY_ENVIRONMENT the deployment is that of the environment.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from infra.settings import REPOSITORY, settings

FOLDER = REPOSITORY / "infra" / "automations"


class MissingReferenceError(ValueError):
    """An automation names a deployment or a block that the server does not have."""


def make_automations(folder: Path = FOLDER) -> Iterator[str]:
    """Make every automation that is missing, and yield a sentence about each file."""
    with get_client(sync_client=True) as client:
        there = {found["name"] for found in client.request("POST", "/automations/filter", json={"limit": 200}).json()}
        for path in sorted(folder.glob("*.yaml")):
            wanted = yaml.safe_load(path.read_text(encoding="utf-8"))
            if wanted["name"] in there:
                yield f"{wanted['name']}: is there, and stays as it is"
                continue
            try:
                automation = AutomationCore.model_validate(resolved(client, wanted))
            except MissingReferenceError as error:
                yield f"{wanted['name']}: left out, {error}"
                continue
            client.request("POST", "/automations/", json=automation.model_dump(mode="json"))
            yield f"{wanted['name']}: made, {'on' if automation.enabled else 'off; switch it on in the browser'}"


def resolved(client: SyncPrefectClient, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return an automation with ids in the place of names.

    Raises:
        MissingReferenceError: The server has no deployment or block of such a name.
    """
    return {**wanted, "actions": [_with_ids(client, action) for action in wanted["actions"]]}


def _with_ids(client: SyncPrefectClient, action: dict[str, Any]) -> dict[str, Any]:
    found = dict(action)
    if (deployment := found.pop("deployment", None)) is not None:
        flow, _, name = deployment.partition("/")
        deployment = f"{flow}/{settings().environment or name}"
        with _known(f"deployment {deployment}"):
            found["deployment_id"] = str(client.read_deployment_by_name(deployment).id)
    if (block := found.pop("block", None)) is not None:
        kind, _, name = block.partition("/")
        with _known(f"notification block {block}"):
            found["block_document_id"] = str(client.read_block_document_by_name(name, kind).id)
    return found


@contextmanager
def _known(what: str) -> Iterator[None]:
    try:
        yield
    except ObjectNotFound as error:
        raise MissingReferenceError(f"since the server has no {what}; make it and run this command again") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line."""
    argparse.ArgumentParser(prog="python -m flows.automations", description=__doc__.partition("\n")[0]).parse_args(
        arguments
    )
    for sentence in make_automations():
        print(sentence)
    return 0


if __name__ == "__main__":
    sys.exit(main())
