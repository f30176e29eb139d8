"""Where the files of a run can be looked at from its page."""

import re
from urllib.parse import quote

from infinity import storage
from infra.settings import settings


def link(uri: str) -> str:
    """Return Markdown that leads to a file where a browser can follow, and names its place where it cannot."""
    base, path = settings().files_url, storage.local_path(uri)
    runs = storage.local_path(settings().runs)
    if base is not None and path is not None and runs is not None and path.resolve().is_relative_to(runs.resolve()):
        address = f"{base}/{quote(path.resolve().relative_to(runs.resolve()).as_posix())}"
        # The page shows the text of a link as it stands, other escapes included.
        text = "".join(f"\\{char}" if char in "\\[]" else char for char in uri)
        return f"[{text}]({address})"
    return verbatim(uri)


def verbatim(text: str) -> str:
    """Return Markdown of a text as it stands, such as a command or a place, whatever backticks it has."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"
