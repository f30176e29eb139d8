"""Secrets of a state folder: made at first use, and readable by their owner only.

Other users of the machine, and pages in the browser, reach whatever listens on loopback. They are told apart from the
owner by these files, which only the owner can read.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from infra.stored import read_word

FOLDER = "secrets"
PREFECT_AUTH = "prefect-auth"
"""Name and password that Prefect's server asks for, as ``name:password``."""
FILES_TOKEN = "files-token"
"""First part of the path of every address of the file server."""
RAY_TOKEN = "ray-token"
"""File name of the token of a Ray that stays between runs."""


class KeyFileError(ValueError):
    """A secret cannot be kept; the message says where and what to do."""


def private_folder(path: Path) -> Path:
    """Return a folder that only its owner can look into, made if need be and closed if it was open.

    Raises:
        KeyFileError: The mode of the folder cannot be changed.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        with contextlib.suppress(OSError):
            path.chmod(0o700)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeyFileError(_cannot_close(path))
    return path


def key_file(state: Path, name: str) -> Path:
    """Return the file of a secret, made with a new random content if it is not there.

    Args:
        state: Folder of the stack.

    Raises:
        KeyFileError: Others can read the file, it is empty, or it cannot be made.
    """
    path = private_folder(state.resolve() / FOLDER) / name
    if not path.exists():
        write_private(path, _new(name), replace=False)
    mode = path.stat()
    if mode.st_uid != os.getuid() or stat.S_IMODE(mode.st_mode) & 0o077:
        raise KeyFileError(
            f"{path}: expected a file that only its owner, this user, can read, found mode "
            f"{stat.S_IMODE(mode.st_mode):04o} of user {mode.st_uid}; who could read it may know the secret: "
            "delete the file, then 'make down' and 'make up' make a new one"
        )
    try:
        is_empty = not read_word(path)
    except ValueError as error:
        raise KeyFileError(f"{error}; after that 'make down' and 'make up' make a new one") from error
    if is_empty:
        raise KeyFileError(f"{path} is empty; delete it, then 'make down' and 'make up' make a new one")
    return path


def key(state: Path, name: str) -> str:
    """Return the secret of this name."""
    return read_word(key_file(state, name))


def write_private(path: Path, text: str, *, replace: bool) -> None:
    """Write a file that nobody else can read at any moment; without ``replace`` a file that is there stays.

    Raises:
        KeyFileError: The file system cannot keep it from others.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    try:
        if stat.S_IMODE(temporary.stat().st_mode) & 0o077:
            raise KeyFileError(_cannot_close(temporary))
        if replace:
            temporary.replace(path)
        else:
            with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
                path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)


def _new(name: str) -> str:
    random = secrets.token_urlsafe(32)
    return f"infinity:{random}\n" if name == PREFECT_AUTH else f"{random}\n"


def _cannot_close(path: Path) -> str:
    return (
        f"{path}: others can look into it, and its mode cannot be changed; "
        "set INFINITY_STATE to a folder of yours on a file system with Unix permissions"
    )
