"""Where the files of a run can be looked at from its page."""

from urllib.parse import quote

from infinity import storage
from infra.settings import settings


def link(uri: str) -> str:
    """Markdown that leads to a file where a browser can follow, and names its place where it cannot."""
    base, path = settings().files_url, storage.local_path(uri)
    runs = storage.local_path(settings().runs)
    if base is not None and path is not None and runs is not None and path.resolve().is_relative_to(runs.resolve()):
        address = f"{base}/{quote(path.resolve().relative_to(runs.resolve()).as_posix())}"
        return f"[`{uri}`]({address})"  # as code: the page shows the escapes of a link's text
    return f"`{uri}`"
