"""What lies in a place, how large and how old: files, and what writers began to write and did not finish."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from infinity.storage.backends import local, s3, s3_uploads
from infinity.storage.backends.listing import walk
from infinity.storage.names import is_part
from infinity.storage.places import local_path


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a listing tells it.

    Attributes:
        uri: Place of the file.
        changed: Time of its last change, in seconds since 1970, by the clock of the store.
    """

    uri: str
    num_bytes: int
    changed: float


@dataclass(frozen=True, slots=True)
class UnfinishedFile:
    """A temporary file on a disk, or an upload to a bucket in parts, that was begun and did not end.

    Attributes:
        uri: Place of the temporary file; in a bucket the place that the file was meant for.
        changed: Time of the last change; in a bucket of the beginning, in seconds since 1970.
        upload: Id of the upload; empty on a disk.
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
            local.delete_tree(Path(self.uri))


def stored_files(uri: str) -> tuple[StoredFile, ...]:
    """Return all files below a folder, sorted by place; on a disk links that lead out of it are not followed.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        found = s3.list_times(uri)
        return tuple(StoredFile(f"{uri.rstrip('/')}/{key}", size, changed) for key, size, changed in found)
    entries = local.list_below(path, [path]).entries
    return tuple(StoredFile(str(path / name), size, int(changed) / 1e9) for name, size, changed in entries)


def folders_in(uri: str) -> tuple[str, ...]:
    """Return the folders that lie directly in a folder, sorted; in a bucket those with at least one object.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        return tuple(f"{uri.rstrip('/')}/{name}" for name in s3.list_folders(uri))
    with local.explained("list", path):
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir()) if path.is_dir() else []
    return tuple(str(path / name) for name in names)


def unfinished_files(uri: str) -> tuple[UnfinishedFile, ...]:
    """Return what writers below a folder began and did not finish; those may be at work still.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        uploads = s3_uploads.list_uploads(uri)
        return tuple(UnfinishedFile(f"{uri.rstrip('/')}/{key}", size, began, id_) for key, id_, size, began in uploads)
    drafts = []
    with local.explained("list", path):
        entries = walk(path, [path]).entries if path.is_dir() else []
    for name, size, changed in entries:
        if is_part(name.rpartition("/")[2]):
            drafts.append(UnfinishedFile(str(path / name), size, int(changed) / 1e9))
    return tuple(drafts)
