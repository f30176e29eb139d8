"""A style for the forms of Prefect's pages: boxes side by side, and groups that scroll in a frame of their own.

Prefect's page puts all boxes of a deployment's form below one another; that of the whole pipeline was 13,600 pixels
high. The page has no setting for it, so the server adds a style sheet of ours to every page.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STYLE_PATH = "/infinity/forms.css"

CLASSES = ("p-card", "schema-form-property-object", "schema-form-properties")
"""Classes of Prefect's page that the style names: the frame of a group, its boxes, and the list of boxes in it."""

STYLE = """
.p-card.schema-form-property-object .schema-form-properties {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem 1.5rem; align-items: start;
}
.schema-form-properties > :has(.p-card.schema-form-property-object) { grid-column: 1 / -1; }
/* A group can be drawn larger by its lower edge. Groups within groups and paper show all that they have. */
.p-card.schema-form-property-object { height: 24rem; overflow: auto; resize: vertical; }
.p-card.schema-form-property-object .p-card.schema-form-property-object {
  height: auto; overflow: visible; resize: none;
}
@media print { .p-card.schema-form-property-object { height: auto !important; overflow: visible; } }
"""

_LINK = f'<link rel="stylesheet" href="{STYLE_PATH}">'.encode()
_NO_COPY = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
"""Headers of a question that may lead to an answer without the page's text in it."""


class Styled:
    """An ASGI application that serves the style and names it in every page of another one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, with the style where it is one for a page."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"].startswith("/api"):
            await self._app(scope, receive, send)
        elif scope["path"] == STYLE_PATH:
            await Response(STYLE, media_type="text/css", headers={"Cache-Control": "no-cache"})(scope, receive, send)
        elif "." in scope["path"].rpartition("/")[2]:  # a file of the page, not a page
            await self._app(scope, receive, send)
        else:
            plain = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in _NO_COPY]}
            await self._app(plain, receive, _with_link(send))


def _with_link(send: Send) -> Send:
    """Return a function that sends an answer, with the style in its head where it is a page."""
    start: Message | None = None
    body = bytearray()

    async def sent(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start" and _is_page(message["headers"]):
            start = message
        elif start is None:
            await send(message)
        else:
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                await _send_page(start, bytes(body).replace(b"</head>", _LINK + b"</head>", 1), send)

    return sent


async def _send_page(start: Message, page: bytes, send: Send) -> None:
    kept = [pair for pair in start["headers"] if pair[0].lower() not in (b"content-length", b"etag", b"last-modified")]
    await send({**start, "headers": [*kept, (b"content-length", str(len(page)).encode())]})
    await send({"type": "http.response.body", "body": page})


def _is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)
