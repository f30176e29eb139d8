"""Give a request to another replica when the one that worked on it dies.

A picture depends on its request alone, so that another replica draws the same one. ``ResendLost`` runs in Ray Serve's
proxy, which ends a request without a word when its replica is gone; ``middleware`` is the hook by which Ray finds it
and ``StopWhenSent``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from typing import Any

from starlette.middleware import Middleware

from infinity.serving.stopping import App, Message, Receive, Send, StopWhenSent

HOOK = "infinity.serving.resending:middleware"
"""Import path for RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH."""
MAX_SENDS = 3
"""Replicas to which a request is given; more would let one that kills replicas go round."""
MAX_KEPT_BYTES = 64 * 2**20
"""Largest body that is kept for another replica."""
_PATHS = "/v1/images/"
_OURS = re.compile(r"/|/page\..*|/(health|metrics)|/v1/.*")
_CREATED = re.compile(rb'"created_at": \d+')
"""Time in an event, by which alone the same picture of another replica differs."""
_ENDS = "the server stops, or has not begun; try again in a moment"
_LOST = "the server lost this request several times; a smaller one may be served"

logger = logging.getLogger(__name__)


def middleware() -> list[Middleware]:
    """Return what Ray Serve's proxy puts before the replicas."""
    return [Middleware(ResendLost), Middleware(StopWhenSent)]


class ResendLost:
    """ASGI application that sends a drawing request again where the one behind it ends without an answer."""

    def __init__(self, app: App, pause_s: float = 0.5) -> None:
        """Stand before an application.

        Args:
            app: Application that may end without an answer, such as Ray Serve's proxy.
            pause_s: Seconds before a request is sent again.
        """
        self._app, self._pause_s = app, pause_s

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or not scope["path"].startswith(_PATHS):
            ours = scope["type"] == "http" and _OURS.fullmatch(scope["path"])
            await self._app(scope, receive, _told_of_the_end(send) if ours else send)
            return
        body, response = _KeptBody(receive), _Response(_told_of_the_end(send))
        lost = 0
        await self._app(_copied(scope), body.receive, response.send)
        while not response.is_complete and not body.is_gone and body.is_kept and response.may_begin_again:
            if response.retry_after is None:
                lost += 1
                logger.warning("a replica died; its request goes to another one")
            if lost == MAX_SENDS:
                await response.fail()
                return
            await asyncio.sleep(response.retry_after or self._pause_s)
            response.begin_again()
            await self._app(_copied(scope), body.replayed(), response.send)


def _copied(scope: Any) -> Any:
    """Return a scope of its own for one attempt: the application behind may change it."""
    return {**scope, "headers": list(scope["headers"])}


class _KeptBody:
    """Body of a request, which can be read again from its beginning.

    Attributes:
        is_gone: Whether the client has gone away.
        is_kept: Whether the body is small enough to be kept.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self._size = 0
        self.is_gone, self.is_kept = False, True

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_gone |= message["type"] == "http.disconnect"
        self._size += len(message.get("body", b""))
        if self._size > MAX_KEPT_BYTES:
            self.is_kept = False
            self._messages.clear()
        elif not self.is_gone:
            self._messages.append(message)
        return message

    def replayed(self) -> Receive:
        """Return a function that receives what came so far, then what comes."""
        kept = iter(list(self._messages))

        async def receive() -> Message:
            for message in kept:
                return message
            return await self.receive()

        return receive


class _Response:
    """Answer of one replica after the other, as one answer to the client.

    The status is held back until there is something of the body. An event that the client has is not sent twice.

    Attributes:
        is_complete: Whether the client has the whole answer.
        retry_after: Seconds after which a replica that took over wants to be asked again; None where none says so.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._is_begun = self._is_events = self._is_resent = self.is_complete = False
        self._sent: set[bytes] = set()
        self.retry_after: float | None = None

    @property
    def may_begin_again(self) -> bool:
        """Whether the client would not notice: it has nothing yet, or a stream of events."""
        return not self._is_begun or self._is_events

    def begin_again(self) -> None:
        self._start, self.retry_after, self._is_resent = None, None, True

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            # What was accepted once is not refused by the replica that takes over: it waits for its turn.
            self.retry_after = _retry_after(message) if self._is_resent else None
        elif self.retry_after is None:
            await self._send_body(message)

    async def _send_body(self, message: Message) -> None:
        if self._start is not None and not self._is_begun:
            self._is_begun = True
            self._is_events = _header(self._start, b"content-type").startswith(b"text/event-stream")
            await self._send(self._start)
        content, more = message.get("body", b""), message.get("more_body", False)
        if self._is_events and self._start is not None and self._start["status"] != 200:
            content = b"" if more else self._event()  # a refusal of its own shape is no event
        elif self._is_events and content:
            mark = hashlib.sha256(_CREATED.sub(b"", content)).digest()
            content = b"" if mark in self._sent else content
            self._sent.add(mark)
        if content or not more:
            await self._send({**message, "body": content})
        self.is_complete = not more

    async def fail(self) -> None:
        """Say that no replica could answer."""
        if self._is_begun:
            await self._send({"type": "http.response.body", "body": self._event()})
        else:
            await _refuse(self._send, 500, _LOST)

    def _event(self) -> bytes:
        """Return the event that says why a stream ends before its pictures."""
        ends = self._start is not None and self._start["status"] in (404, 503)
        return b'event: error\ndata: {"type": "error", ' + _error(_ENDS if ends else _LOST)[1:] + b"\n\n"


def _told_of_the_end(send: Send) -> Send:
    """Return what answers 503 instead of Ray's proxy, which has no route or no replica while the server stops.

    Clients come again after a 503, perhaps to another server, and give up after Ray's 404. Those of ours are JSON.
    """
    is_replaced = False

    async def told(message: Message) -> None:
        nonlocal is_replaced
        if message["type"] == "http.response.start" and message["status"] in (404, 503):
            is_replaced = not _header(message, b"content-type").startswith(b"application/json")
            if is_replaced:
                await _refuse(send, 503, _ENDS, (b"retry-after", b"5"))
        if not is_replaced:
            await send(message)

    return told


async def _refuse(send: Send, status: int, message: str, *more: tuple[bytes, bytes]) -> None:
    body = _error(message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": None}}).encode()


def _header(start: Message, name: bytes) -> bytes:
    return next((bytes(value) for key, value in start.get("headers", ()) if bytes(key).lower() == name), b"")


def _retry_after(start: Message) -> float | None:
    """Return the seconds that a 429 asks the client to wait; None for any other answer."""
    seconds = _header(start, b"retry-after")
    return float(seconds) if start["status"] == 429 and seconds.isdigit() else None
