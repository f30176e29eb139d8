"""What can go wrong with bytes at a URI; the message says where, why and what to do."""

from __future__ import annotations


class StorageError(OSError):
    """A file or folder cannot be read, listed or written."""


class StoreUnreachableError(StorageError, ConnectionError):
    """The store does not answer; later it may."""


class PlaceRefusedError(StorageError):
    """The place refuses, and will until somebody changes it: a full disk, a used-up quota, a missing permission."""


class FileMissingError(StorageError):
    """There is no file at the URI."""


class EntryError(StorageError):
    """A file inside an archive cannot be read: encrypted, damaged, too large, or of an unknown form."""


class FileAlreadyThereError(StorageError):
    """A file that was to be written only if absent is there already: somebody else was first."""


class FileChangedError(StorageError):
    """A file that was to be replaced is not, or no longer, what the writer believes it to be."""


class LeaseHeldError(StorageError):
    """Another process owns a folder; the message says who, since when and what to do."""


class LeaseLostError(StorageError):
    """This process owned a folder, and another one does by now; nothing was written."""
