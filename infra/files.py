"""The file server of the local stack: files of runs for the browser of the user who started it, and for nobody else.

python -m infra.files --folder runs --port 21000 --token-file .local/secrets/files-token

Every address begins with the secret of the token file, which links of run pages carry. It listens on loopback, answers
only to the names of this machine (a page elsewhere cannot call itself 127.0.0.1), lets no other page read what it
sends, and serves nothing outside its folder.
"""

import argparse
import hmac
import sys
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import httpx

HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-site",
}
"""A page that is served here tells nobody its address, and other sites can neither show nor embed it."""


class Handler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD for addresses that begin with the token."""

    server_version = "Infinity"

    def __init__(self, *arguments: Any, token: str, **options: Any) -> None:
        self._token = token
        super().__init__(*arguments, **options)

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Return the file behind the address, after its headers were sent; None after an error was."""
        if (self.headers.get("Host") or "").rpartition(":")[0] not in HOSTS:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, explain="This server answers to 127.0.0.1 and localhost.")
            return None
        first = self.path.lstrip("/").partition("/")[0].partition("?")[0]
        if not hmac.compare_digest(first.encode(), self._token.encode()):
            self.send_error(
                HTTPStatus.FORBIDDEN,
                explain="Addresses of this server begin with a secret, which the links of run pages carry. Links of "
                "runs of earlier versions have none: open the file in the folder of the run.",
            )
            return None
        if not Path(self.translate_path(self.path)).resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(HTTPStatus.NOT_FOUND, explain="It lies outside the folder of runs.")
            return None
        return super().send_head()

    def translate_path(self, path: str) -> str:
        """Return the file of an address, whose first part is the token."""
        return super().translate_path("/" + path.lstrip("/").removeprefix(self._token).lstrip("/"))

    def end_headers(self) -> None:
        """Add what keeps other pages out."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write a line of the log, without the token."""
        super().log_message("%s", (format % args).replace(self._token, "..."))


class FileServer(ThreadingHTTPServer):
    """A server whose clients may leave before they have the whole file, as a browser does."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a trace, except where the client has left."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def is_served(url: str) -> bool:
    """Return whether a file server answers there; without the token it refuses, which is an answer."""
    try:
        return httpx.get(url, timeout=30.0, trust_env=False).status_code == HTTPStatus.FORBIDDEN
    except httpx.HTTPError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the folder until the process is stopped."""
    parser = argparse.ArgumentParser(prog="python -m infra.files", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    options = parser.parse_args(arguments)
    token = options.token_file.read_text(encoding="utf-8").strip()
    if not token:
        print(f"error: {options.token_file} is empty", file=sys.stderr)
        return 1
    handler = partial(Handler, token=token, directory=str(options.folder))
    with FileServer(("127.0.0.1", options.port), handler) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
