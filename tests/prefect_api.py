"""What tests ask a Prefect server."""

import os
import time
from typing import Any

import httpx

from infra.prefect_api import PrefectApi
from tests.limits import AGES_S


def ask(api: str, path: str, content: Any = None, *, method: str = "POST") -> Any:
    """One request, with the authentication string of PREFECT_API_AUTH_STRING; the JSON of its answer.

    Args:
        api: URL of the API.
        path: Below it.
        content: What is sent as JSON; nothing is an empty object.
        method: Of HTTP.
    """
    client = PrefectApi(api, os.environ.get("PREFECT_API_AUTH_STRING"), timeout_s=AGES_S)
    deadline = time.monotonic() + AGES_S
    while True:
        answer = client.ask(method, path, content or {})
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
            break
        time.sleep(1.0)  # its database is locked for a moment
    answer.raise_for_status()
    return answer.json() if answer.content else None
