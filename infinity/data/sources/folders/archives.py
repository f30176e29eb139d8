"""Zip archives as folders: what lies in an archive is read like files of a folder, without unpacking it to a disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from infinity import storage

_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderContents:
    """All files of a folder, and those of the archives in it.

    Attributes:
        files: URIs of the files, sorted; in the place of an archive stand its entries.
        outside: Links and entries that lead out of the source.
        left_out: Entries that are no files, each with the reason.
        broken: Archives that cannot be read, each with the error.
    """

    files: tuple[str, ...]
    outside: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def without_hidden(self, folder: str) -> FolderContents:
        """Return the contents without hidden files and what lies in hidden folders: old copies, thumbnails, history."""
        hidden = [(file, "hidden files") for file in self.files if is_hidden(below(folder, file))]
        if not hidden:
            return self
        stays = set(self.files).difference(file for file, _ in hidden)
        files = tuple(file for file in self.files if file in stays)
        return replace(self, files=files, left_out=(*self.left_out, *hidden))


def contents_of(uri: str, roots: Sequence[str]) -> FolderContents:
    """List a folder, or the inside of an archive, and the archives that lie in a folder.

    Archives inside archives stay files.

    Args:
        roots: Places below which everything must lie.

    Raises:
        StorageError: The place cannot be listed.
    """
    if is_archive_file(uri):
        return _of_archive(uri).without_hidden(storage.inside_archive(uri))
    infos, outside = storage.list_inside(uri, roots)
    files: list[str] = []
    out, left_out, broken = list(outside), list[tuple[str, str]](), list[tuple[str, str]]()
    for info in infos:
        if not storage.is_archive(info.uri) or storage.name(info.uri).startswith("."):
            files.append(info.uri)
            continue
        try:
            found = _of_archive(info.uri)
        except storage.StoreUnreachableError:
            raise
        except storage.StorageError as error:
            broken.append((info.uri, str(error)))
            continue
        files += found.files
        out += found.outside
        left_out += found.left_out
    found = FolderContents(files=tuple(files), outside=tuple(out), left_out=tuple(left_out), broken=tuple(broken))
    return found.without_hidden(uri)


def is_archive_file(uri: str) -> bool:
    """Return whether a source is an archive; a folder may have the name of one."""
    if not storage.is_archive(uri):
        return False
    path = storage.local_path(uri)
    return path is None or not path.is_dir()


def below(folder: str, file: str) -> str:
    """Return the name of a file relative to a folder; of an archive's entry, the archive's name with the entry's.

    Example:
        >>> below("/data", "/data/a/b.png"), below("/data", "zip:///data/a.zip!/b.png")
        ('a/b.png', 'a.zip!/b.png')
    """
    start = folder.rstrip("/") + "/"
    for name in (file, file.removeprefix("zip://")):  # of an archive in a folder
        if name.startswith(start):
            return name[len(start) :]
    return file


def is_hidden(name: str) -> bool:
    """Return whether a name below a folder is that of a hidden file, or of one that systems keep for themselves.

    Example:
        >>> is_hidden("a/.ipynb_checkpoints/1.png"), is_hidden("a/1.png")
        (True, False)
    """
    return any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in name.split("/"))


def _of_archive(uri: str) -> FolderContents:
    inside = storage.inside_archive(uri)
    infos, outside = storage.list_inside(inside, (inside,))
    left_out = storage.left_out(inside)
    if not infos and not outside and not left_out:
        left_out = ((uri, "archives without files"),)
    return FolderContents(files=tuple(info.uri for info in infos), outside=outside, left_out=left_out)
