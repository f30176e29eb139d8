"""One click from a file of the user to the pages of the local Prefect server.

The file holds the secret and is readable by its owner only. It leads to a page of the server, which keeps the secret in
the browser where Prefect's pages look for it. The secret stands behind the ``#`` of the address, which browsers send to
nobody, so that it is in no log.
"""

import base64
import hashlib
import html
import re
from pathlib import Path

from infra.server.keys import FOLDER, private_folder, write_private

PAGE_PATH = "/infinity/log-in"
"""Path of the page that takes the secret."""
FILE_NAME = "log-in.html"

_SCRIPT = """
const [secret, path] = location.hash.slice(1).split("&");
history.replaceState(null, "", location.pathname);
const say = text => { document.getElementById("said").textContent = text; };
fetch("/api/admin/version", {headers: {Authorization: "Basic " + secret}}).then(answer => {
  if (!answer.ok) {
    say("The server does not accept this login: the file is of another server, or of an earlier start.");
    return;
  }
  localStorage.setItem("prefect-password", secret);
  location.replace(/^[/][A-Za-z0-9][A-Za-z0-9/_-]*$/.test(path || "") ? path : "/");
}, () => say("The server does not answer."));
"""

PAGE = f"""<!doctype html>
<meta charset="utf-8"><title>Log in</title>
<p id="said">Logging in ...</p>
<script>{_SCRIPT}</script>
"""

POLICY = (
    "default-src 'none'; connect-src 'self'; frame-ancestors 'none'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)
"""What the page may do: run its one script, and ask its own server."""


def login_file(state: Path, ui_url: str, auth: str, path: str = "/") -> Path:
    """Write the file that logs a browser in and leads to a page.

    Args:
        state: Folder of the stack.
        ui_url: Address of the server's pages.
        auth: Authentication string of the server.
        path: Path of the page, below ``ui_url``.
    """
    if not re.fullmatch(r"/[A-Za-z0-9/_-]*", path):
        raise ValueError(f"path of a page: expected letters, digits, dashes and slashes, got {path!r}")
    secret = base64.b64encode(auth.encode()).decode()
    address = html.escape(f"{ui_url}{PAGE_PATH}#{secret}&{path}")
    file = private_folder(state.resolve() / FOLDER) / FILE_NAME
    text = (
        f'<!doctype html>\n<meta charset="utf-8"><meta name="referrer" content="no-referrer">\n'
        f'<meta http-equiv="refresh" content="0; url={address}"><title>Log in</title>\n'
        f'<p><a href="{address}">Open the pages of Prefect</a></p>\n'
    )
    write_private(file, text, replace=True)
    return file
