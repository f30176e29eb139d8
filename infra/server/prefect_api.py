"""What is asked of a Prefect server, with the headers that Prefect's own client sends."""

import base64
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

ANSWER_TIMEOUT_S = 30.0
"""A busy machine answers late; where nobody listens, it says so at once."""

BUSY_PAUSE_S = 0.5
"""Time between two questions to a server that answers 503: its database is locked for a moment."""


@dataclass(slots=True)
class PrefectApi:
    """A server's API.

    Attributes:
        url: Address of the API, without a slash at the end.
        auth: Authentication string of the server, ``name:password``; None where it asks for nothing.
        key: Key of a hosted Prefect; counts only without ``auth``, as in Prefect's own client.
        timeout_s: Longest time of an answer in seconds.
    """

    url: str
    auth: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    timeout_s: float = ANSWER_TIMEOUT_S

    def is_healthy(self) -> bool:
        """Return whether a server answers."""
        answer = self.try_ask("GET", "health")
        return answer is not None and answer.status_code == 200

    def is_accepted(self) -> bool:
        """Return whether a server that is healthy lets this client in."""
        answer = self.try_ask("GET", "admin/version")
        return answer is None or answer.status_code not in (401, 403)

    def num_workers(self, pool: str) -> int:
        """Return how many workers serve this pool."""
        answer = self.try_ask("POST", f"work_pools/{pool}/workers/filter", {})
        if answer is None or answer.status_code != 200:
            return 0
        return sum(worker.get("status") == "ONLINE" for worker in answer.json())

    def try_ask(self, method: str, path: str, content: Any = None) -> httpx.Response | None:
        """Return the answer, or None if there is none."""
        try:
            return self._ask_once(method, path, content)
        except httpx.HTTPError:
            return None

    def ask(self, method: str, path: str, content: Any = None) -> httpx.Response:
        """Send a request and return the answer; a server whose database is locked is asked again until the time is up.

        Args:
            method: HTTP method.
            path: Path below the address of the API.
            content: Body of the request, sent as JSON.

        Raises:
            httpx.HTTPError: There is no answer.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            answer = self._ask_once(method, path, content)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return answer
            time.sleep(BUSY_PAUSE_S)

    def _ask_once(self, method: str, path: str, content: Any = None) -> httpx.Response:
        with httpx.Client(
            base_url=self.url, headers=self._headers(), timeout=self.timeout_s, trust_env=not is_local(self.url)
        ) as client:
            changes = {} if method == "GET" else self._csrf(client)
            return client.request(method, path, json=content, headers=changes)

    def _headers(self) -> dict[str, str]:
        if self.auth:
            return {"Authorization": f"Basic {base64.b64encode(self.auth.encode()).decode()}"}
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def _csrf(self, client: httpx.Client) -> dict[str, str]:
        """Return the headers of a request that changes something; none for a server that wants none."""
        name = uuid.uuid4().hex
        answer = client.get("csrf-token", params={"client": name})
        if answer.status_code != 200:
            return {}
        return {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": name}


def is_local(url: str) -> bool:
    """Return whether a URL leads to this machine itself, where no proxy has a say."""
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
