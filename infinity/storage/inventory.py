"""What lies in a place, how large and how old: files, and what writers began to write and did not finish."""

from __future__ import annotations

import os
from dataclasses import dataclass

from infinity.storage import delete_tree
from infinity.storage.backends import local, s3, s3_uploads
from infinity.storage.backends.listing import walk
from infinity.storage.names import is_part
from infinity.storage.places import below, local_path


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a listing tells it, or what a writer began and did not finish.

    Attributes:
        uri: Place of the file; of an upload to a bucket in parts the place that it was meant for.
        changed: Time of its last change, or of an upload's beginning, in seconds since 1970 by the clock of the store.
        upload: Id of an upload that did not end; empty for all else.
    """

    uri: str
    num_bytes: int
    changed: float
    upload: str = ""

    def discard(self) -> None:
        """Take it away; one that is gone meanwhile is no error.

        Raises:
            StorageError: It cannot be taken away.
        """
        if self.upload:
            s3_uploads.abort_upload(self.uri, self.upload)
        else:
            delete_tree(self.uri)


def stored_files(uri: str) -> tuple[StoredFile, ...]:
    """Return all files below a folder, sorted by place; on a disk links that lead out of it are not followed.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        found = s3.list_times(uri)
        return tuple(StoredFile(below(uri, key), size, changed) for key, size, changed in found)
    entries = local.list_below(path, [path]).entries
    return tuple(StoredFile(below(uri, name), size, int(changed) / 1e9) for name, size, changed in entries)


def folders_in(uri: str) -> tuple[str, ...]:
    """Return the folders that lie directly in a folder, sorted; in a bucket those with at least one object.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        return tuple(below(uri, name) for name in s3.list_folders(uri))
    with local.explained("list", path):
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir()) if path.is_dir() else []
    return tuple(below(uri, name) for name in names)


def unfinished_files(uri: str) -> tuple[StoredFile, ...]:
    """Return what writers below a folder began and did not finish; those may be at work still.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        uploads = s3_uploads.list_uploads(uri)
        return tuple(StoredFile(below(uri, key), size, began, id_) for key, id_, size, began in uploads)
    with local.explained("list", path):
        entries = walk(path, [path]).entries if path.is_dir() else []
    return tuple(
        StoredFile(below(uri, name), size, int(changed) / 1e9)
        for name, size, changed in entries
        if is_part(name.rpartition("/")[2])
    )
