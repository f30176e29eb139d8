"""What tests ask a Prefect server."""

import time
from typing import Any

import httpx

from tests.limits import AGES_S


def ask(api: str, path: str, content: Any = None, *, method: str = "POST") -> Any:
    """One request; the JSON of its answer.

    Args:
        api: URL of the API.
        path: Below it.
        content: What is sent as JSON; nothing is an empty object.
        method: Of HTTP.
    """
    deadline = time.monotonic() + AGES_S
    while True:
        answer = httpx.request(method, f"{api}/{path}", json=content or {}, trust_env=False, timeout=AGES_S)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
            break
        time.sleep(1.0)  # its database is locked for a moment
    answer.raise_for_status()
    return answer.json() if answer.content else None
