"""How pictures are fetched from the web."""

from __future__ import annotations

from dataclasses import dataclass

from infinity.config import Config
from infinity.ranges import Count, Natural, NotNegative, Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadConfig(Config):
    """Limits of a download, and what is refused.

    Attributes:
        connections: Requests at the same time, over all workers.
        per_host: Most of these connections to one host.
        max_bytes: Largest picture, after unpacking.
        timeout_s: Longest time for one request, from the look-up of its host to its last byte.
        retries: Further attempts after an error that may pass: no connection, a time-out, a body that ends early, and
            the statuses 408, 425, 429, 500, 502, 503 and 504.
        backoff_s: Longest wait before the first retry; it doubles with each, unless the server says how long
            (Retry-After). Up to half of it is left out by chance.
        max_wait_s: Longest such wait; a server that asks for more is not asked again.
        max_redirects: Redirections that are followed; every address on the way is checked like the first.
        ports: Ports that are dialled.
        allow_hosts: Names or addresses that may be dialled although they are not public, on any port: a cache in the
            own network, a test server.
        opt_outs: Directives of the header X-Robots-Tag that forbid us a picture. ``noindex`` and ``noimageindex`` may
            be added for those who read them so.
        user_agent: Name of our client; the part before "/" is the one that robots directives can address.
    """

    connections: Count = 64
    per_host: Count = 8
    max_bytes: Count = 32 * 2**20
    timeout_s: Positive = 30.0
    retries: Natural = 2
    backoff_s: NotNegative = 0.5
    max_wait_s: Positive = 30.0
    max_redirects: Natural = 5
    ports: tuple[int, ...] = (80, 443, 8080, 8443)
    allow_hosts: tuple[str, ...] = ()
    opt_outs: tuple[str, ...] = ("noai", "noimageai")
    user_agent: str = "infinity-t2i/0.1"

    def __post_init__(self) -> None:
        if not self.user_agent.isprintable() or not self.user_agent.strip():
            raise ValueError(f"DownloadConfig.user_agent: expected printable text, got {self.user_agent!r}")
