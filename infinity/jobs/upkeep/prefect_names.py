"""What a Prefect server would still run: texts of deployments, schedules, automations and runs that go on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

ANSWER_S = 30.0
PAGE = 200
"""Entries per answer, the most that Prefect gives."""
GOING_ON = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")


@dataclass(frozen=True, slots=True)
class PrefectAddress:
    """A server's API.

    Attributes:
        auth: Authentication string, ``name:password``; empty where the server asks for none.
    """

    url: str
    auth: str = field(default="", repr=False)


class PrefectUnknownError(ValueError):
    """The server does not tell what it would run, so that nothing can be called unneeded."""


def scheduled_texts(address: PrefectAddress) -> Iterator[tuple[str, str]]:
    """Yield (what it is, text) of everything on the server that may name a folder.

    Raises:
        PrefectUnknownError: The server does not answer, or refuses.
    """
    try:
        with _client(address) as client:
            for kind, path, wanted in (
                ("deployment", "deployments/filter", {}),
                ("automation", "automations/filter", {}),
                ("flow run", "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": GOING_ON}}}}),
            ):
                for entry in _all(client, path, wanted):
                    yield f"named by the {kind} {entry.get('name')!r} of Prefect", json.dumps(_telling(entry))
    except (httpx.HTTPError, ValueError) as error:
        raise PrefectUnknownError(
            f"{address.url}: expected Prefect's deployments and runs, to spare what they name, found {error}; start "
            "the server, correct PREFECT_API_URL and PREFECT_API_AUTH_STRING, or give --without-prefect"
        ) from error


def flow_run_counts(address: PrefectAddress) -> dict[str, int]:
    """Return the number of flow runs by their state.

    Raises:
        PrefectUnknownError: The server does not answer, or refuses.
    """
    try:
        with _client(address) as client:
            found = {}
            for state in (*GOING_ON, "COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                answer = client.post("flow_runs/count", json={"flow_runs": {"state": {"type": {"any_": [state]}}}})
                answer.raise_for_status()
                found[state] = int(answer.json())
            return found
    except (httpx.HTTPError, ValueError) as error:
        raise PrefectUnknownError(f"{address.url}: expected Prefect's flow runs, found {error}") from error


@contextmanager
def _client(address: PrefectAddress) -> Iterator[httpx.Client]:
    name, _, password = address.auth.partition(":")
    is_here = httpx.URL(address.url).host in ("127.0.0.1", "localhost", "::1")
    auth = (name, password) if address.auth else None
    with httpx.Client(base_url=address.url, auth=auth, timeout=ANSWER_S, trust_env=not is_here) as client:
        client.headers.update(_csrf(client))
        yield client


def _telling(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a person or a flow has filled in."""
    return {key: entry.get(key) for key in ("parameters", "schedules", "trigger", "actions", "job_variables")}


def _all(client: httpx.Client, path: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        answer = client.post(path, json={**wanted, "limit": PAGE, "offset": offset})
        answer.raise_for_status()
        found = answer.json()
        yield from found
        if len(found) < PAGE:
            return
        offset += PAGE


def _csrf(client: httpx.Client) -> dict[str, str]:
    """Return the headers that a server with a check for forged requests asks for; none for another."""
    mine = uuid.uuid4().hex
    answer = client.get("csrf-token", params={"client": mine})
    if answer.status_code != httpx.codes.OK:
        return {}
    return {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": mine}
