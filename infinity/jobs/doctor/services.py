"""Servers: Prefect's, its database, the ports, and the settings of server and clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from infinity.jobs.doctor.finding import Finding, Setup, fault, good

ANSWER_S = 15.0
POSTGRESQL, SQLITE = "postgresql+asyncpg", "sqlite+aiosqlite"


def prefect(setup: Setup) -> Iterator[Finding]:
    """Ask the Prefect server for its health and whether it lets this user in."""
    if setup.prefect_url is None:
        yield from _port(setup)
        return
    auth = setup.environment.get("PREFECT_API_AUTH_STRING", "")
    name, _, password = auth.partition(":")
    try:
        with httpx.Client(timeout=ANSWER_S, auth=(name, password) if auth else None) as client:
            health = client.get(f"{setup.prefect_url}/health").status_code
            allowed = client.get(f"{setup.prefect_url}/admin/version").status_code
    except httpx.HTTPError as error:
        fix = "start that server, or unset PREFECT_API_URL to use a local one"
        yield fault("prefect", f"nobody answers at {setup.prefect_url} ({type(error).__name__})", fix)
        return
    if allowed in (401, 403):
        fix = "set PREFECT_API_AUTH_STRING to what the server's PREFECT_SERVER_API_AUTH_STRING says"
        yield fault("prefect", f"{setup.prefect_url} does not accept this authentication string", fix)
    elif health != httpx.codes.OK:
        yield fault("prefect", f"{setup.prefect_url} is not healthy (status {health})", "look at the server's log")
    else:
        yield good("prefect", f"{setup.prefect_url} answers")


def _port(setup: Setup) -> Iterator[Finding]:
    port = setup.prefect_port
    if port is None:
        yield good("port", "the local server takes 4200, or a free port")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            fix = "set another INFINITY_PREFECT_PORT, or stop the program (`make status` tells whether it is ours)"
            yield fault("port", f"port {port} (INFINITY_PREFECT_PORT) cannot be used ({error})", fix)
            return
    yield good("port", f"{port} is free")


def logins(setup: Setup) -> Iterator[Finding]:
    """Compare what the server asks for with what clients show."""
    client = setup.environment.get("PREFECT_API_AUTH_STRING", "")
    server = setup.environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
    if server and client != server:
        fix = "set both to the same text, or unset both and the stack makes its own"
        yield fault("login", "PREFECT_API_AUTH_STRING and PREFECT_SERVER_API_AUTH_STRING differ", fix)
    elif client and ":" not in client:
        fix = "set it to name:password, or unset it and the stack makes its own"
        yield fault("login", "PREFECT_API_AUTH_STRING: expected name:password, found no colon", fix)
    else:
        yield good("login", "server and clients agree")


def database(setup: Setup) -> Iterator[Finding]:
    """Look at the kind of database behind Prefect, and whether it answers."""
    scheme, address = "", urlsplit(setup.database or SQLITE)
    scheme = address.scheme or SQLITE
    fix = "`make up DATABASE=postgresql+asyncpg://user:password@host:5432/prefect`"
    if scheme == SQLITE:
        if setup.num_workers > 1:
            yield fault("database", f"{setup.num_workers} workers on SQLite, which has one writer at a time", fix)
        else:
            yield good("database", "SQLite, which serves one worker")
        return
    if scheme != POSTGRESQL:
        yield fault("database", f"expected {POSTGRESQL}://… or nothing, found {scheme}://…", fix)
        return
    try:
        host, port = address.hostname or "", address.port or 5432
        with socket.create_connection((host, port), timeout=ANSWER_S):
            yield good("database", f"PostgreSQL answers at {host}:{port}")
    except (OSError, ValueError) as error:
        yield fault("database", f"no PostgreSQL at {address.hostname} ({error})", "start it, or correct the address")


def proxies(setup: Setup) -> Iterator[Finding]:
    """Look whether requests to this machine itself would go through a proxy."""
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    proxy = next((setup.environment[name] for name in names if setup.environment.get(name)), None)
    spared = setup.environment.get("no_proxy", "") + "," + setup.environment.get("NO_PROXY", "")
    if proxy is not None and "127.0.0.1" not in spared and "*" not in spared:
        fix = "`export NO_PROXY=127.0.0.1,localhost`"
        yield fault("proxy", "a proxy is set, and requests to 127.0.0.1 would go there", fix)
    else:
        yield good("proxy", "requests to this machine stay on it")
