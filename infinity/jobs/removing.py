"""Remove the folder of a job so that a kill in the middle leaves nothing that looks finished, or half of anything.

The mark `REMOVING_FILE` is written first and deleted last. The report, by which a job counts as done, goes right after
the mark. Whoever owns a marked folder without a report next, another removal or the same job, ends the removal before
anything else: half of a folder is never gone on with.
"""

from __future__ import annotations

from infinity import storage
from infinity.jobs.spec import REPORT_FILE
from infinity.storage.names import LEASE_FILE

REMOVING_FILE = "removing.json"


def remove_content(folder: str) -> None:
    """Delete all files of a job's folder but its lease, which the caller holds.

    Raises:
        LeaseLostError: Another process owns the folder by now.
        StorageError: A file cannot be deleted; the same call goes on later.
    """
    mark = storage.join(folder, REMOVING_FILE)
    storage.write_text(mark, "{}\n")
    storage.delete_tree(storage.join(folder, REPORT_FILE))
    for child in _children(folder):
        if child != mark:
            storage.delete_tree(child)
    storage.delete_tree(mark)


def end_removal(folder: str) -> None:
    """Go on where a removal of this folder was cut off; a folder that nobody removes stays as it is.

    Raises:
        StorageError: A file cannot be looked at or deleted.
    """
    if storage.exists(storage.join(folder, REMOVING_FILE)) and not storage.exists(storage.join(folder, REPORT_FILE)):
        remove_content(folder)


def _children(folder: str) -> list[str]:
    """Return files and folders directly in a folder, empty ones and drafts of dead writers among them."""
    path = storage.local_path(folder)
    if path is not None:
        names = {child.name for child in path.iterdir()} if path.is_dir() else set()
    else:
        start = len(folder.rstrip("/")) + 1
        names = {uri[start:].split("/")[0] for uri in storage.list_files(folder)}
    return [storage.join(folder, name) for name in sorted(names - {LEASE_FILE})]
