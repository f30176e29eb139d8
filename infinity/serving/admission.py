"""Who may ask: API keys, and on a machine without keys no page of another origin."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from infinity.serving.refusal import RefusedError
from infinity.serving.settings import ServingConfig

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def check_request(request: Request, config: ServingConfig) -> None:
    """Refuse a request without a valid key, or one that a page of another origin sends.

    Without keys the server listens on loopback alone, and also checks the name by which it is called, since another
    page's name may point here (DNS rebinding).

    Raises:
        RefusedError: The key is wrong (401), or the origin is another (403).
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if config.key_digests:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not config.admits(key.strip()):
            raise RefusedError("expected a valid API key: Authorization: Bearer <key>", status=401)
    elif _name(host) not in LOOPBACK:
        raise RefusedError("this server has no keys and answers to localhost alone", status=403)
    if origin is not None and _place(origin) != host.lower():
        raise RefusedError("pages of other origins are not served", status=403)


def protected(response: Response) -> Response:
    """Add the headers that keep the page from loading or running anything that is not its own."""
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()  # names of hosts are the same in small and capital letters
    except ValueError:  # half of an IPv6 address
        return None


def _name(host: str) -> str:
    return (host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host).lower()
