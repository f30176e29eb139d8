"""Let Ray Serve's HTTP proxy finish: it takes no new connection, and says when all that it has were answered.

Ray ends its proxies at once, however much of an answer is still on its way to a slow client. ``StopWhenSent`` runs in
the proxy, and knows uvicorn's server there; whoever started Ray Serve asks it to stop, with a token that they share.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http.client
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

STOP_PATH = "/-/infinity/stop"
TOKEN_VARIABLE = "INFINITY_STOP_TOKEN"
"""Variable of the proxy's environment with the token; without it nobody can stop the proxy."""
_IDLE_S = 5.0
"""Seconds in which a request may still come on a connection that is open already; clients keep idle ones as long."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]


class StopWhenSent:
    """ASGI application within uvicorn that hands on, until it is asked to stop."""

    def __init__(self, app: App, idle_s: float = _IDLE_S) -> None:
        """Stand before an application.

        Args:
            app: Application that answers.
            idle_s: Seconds in which a request may still come on an open connection.
        """
        self._app, self._idle_s = app, idle_s
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        self._stops = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == STOP_PATH and self._is_known(scope):
            await self._stop()
            await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._app(scope, receive, self._closing(send))

    def _is_known(self, scope: Any) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return bool(self._token) and hmac.compare_digest(given, f"Bearer {self._token}".encode())

    def _closing(self, send: Send) -> Send:
        """Return what ends the connection after an answer, once there shall be no other."""

        async def told(message: Message) -> None:
            if self._stops and message["type"] == "http.response.start":
                others = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
                message = {**message, "headers": [*others, (b"connection", b"close")]}
            await send(message)

        return told

    async def _stop(self) -> None:
        """Return when the listener is closed, and no connection is left but that of the one who asks."""
        self._stops = True
        server, now = _server(), asyncio.get_running_loop().time
        for _ in range(2):  # the event loop takes the connections that wait in the kernel
            await asyncio.sleep(0)
        for listener in server.servers:
            listener.close()
        until = now() + self._idle_s
        while len(server.server_state.connections) > 1:  # uvicorn forgets one when its last byte is out
            # It would close a connection whose request is still on its way.
            server.should_exit = now() >= until
            await asyncio.sleep(0.1)


def _server() -> Any:
    """Return uvicorn's server, which is a task of this event loop; Ray keeps no reference to it."""
    import uvicorn

    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and isinstance(found := frame.f_locals.get("self"), uvicorn.Server):
            return found
    raise RuntimeError("expected uvicorn's server among the tasks of this event loop, found none")


def stop_proxy(host: str, port: int, token: str) -> None:
    """Ask a proxy to stop, and return when it has sent all answers; at once if it is gone, or knows no such token."""
    connection = http.client.HTTPConnection(host, port)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("POST", STOP_PATH, headers={"Authorization": f"Bearer {token}"})
        connection.getresponse().read()
