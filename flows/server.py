"""The Prefect server of the stack: Prefect's own, behind a check of who asks.

python -m flows.server --port 4200

Prefect checks the authentication string and forged requests. Here is added what it has no setting for: names other than
this server's are refused (a page elsewhere cannot let its own name point to 127.0.0.1 and ask), so are requests from
pages of other origins, and no page of another site can show this one in a frame. The logs of late runs say why they
wait, long forms fit on fewer screens, and the artifacts of a run have an order.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.schemas import core
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.operations.late import explained_again_and_again
from infra.server.login import PAGE, PAGE_PATH, POLICY
from infra.server.styled import Styled

OWN_NAMES = ("127.0.0.1", "localhost")
AUTH = "PREFECT_SERVER_API_AUTH_STRING"


class Guard:
    """An ASGI application that passes on what comes to its own names, from its own pages or from no page at all."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str], port: int) -> None:
        self._app = app
        self._names = frozenset(names)
        self._origins = frozenset(f"http://{name}:{port}" for name in OWN_NAMES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it with one sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if (reason := self._why_not(Headers(scope=scope))) is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": reason})
            else:
                await PlainTextResponse(reason, status_code=403)(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == PAGE_PATH:
            headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
            await HTMLResponse(PAGE, headers=headers)(scope, receive, send)
            return
        await self._app(scope, receive, _unframed(send))

    def _why_not(self, headers: Headers) -> str | None:
        """Return the reason to refuse, or None."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].partition(":")[0] not in self._names:
            return f"This server answers to {', '.join(sorted(self._names))} only."
        if not set(origins) <= self._origins:
            return "This server does not answer to pages of other origins."
        return None


def _unframed(send: Send) -> Send:
    async def with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "same-origin"
        await send(message)

    return with_header


def newest_artifacts_first() -> None:
    """Give artifacts ids that grow with time, as runs have: the page of a run shows its cards by descending id."""
    core.Artifact.model_fields["id"].default_factory = core.FlowRun.model_fields["id"].default_factory
    core.Artifact.model_rebuild(force=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve Prefect's pages and API until the process is stopped."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", action="append", default=[], help="another name by which clients know this server")
    options = parser.parse_args(arguments)
    if not os.environ.get(AUTH):
        print(f"error: {AUTH} is not set; this server does not run without a secret", file=sys.stderr)
        return 1
    newest_artifacts_first()
    app = Guard(Styled(create_app(final=True)), names=(*OWN_NAMES, *options.name), port=options.port)
    with explained_again_and_again(f"http://127.0.0.1:{options.port}/api", os.environ[AUTH]):
        uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
