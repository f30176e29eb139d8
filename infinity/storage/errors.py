"""What can go wrong with bytes at a URI; the message says where, why and what to do."""

from __future__ import annotations


class StorageError(OSError):
    """A file or folder cannot be read, listed or written."""


class StoreUnreachableError(StorageError, ConnectionError):
    """The store does not answer; later it may."""


class FileMissingError(StorageError):
    """There is no file at the URI."""


class FileAlreadyThereError(StorageError):
    """A file that was to be written only if absent is there already: somebody else was first."""
