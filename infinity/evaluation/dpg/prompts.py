"""Prompts of DPG-Bench: a folder of text files, or the public repository's zip file."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable

from infinity import storage
from infinity.evaluation.pictures.files import is_text
from infinity.storage.pinned import PinnedFile


def read_prompts(source: str | PinnedFile) -> dict[str, str]:
    """Return prompts by the name of their file, without blanks at their ends.

    Raises:
        ValueError: No prompt, an empty prompt, or a prompt that is not UTF-8.
        StorageError: A file is missing.
    """
    found: dict[str, bytes] = {}
    if isinstance(source, str):
        where = source
        for uri in storage.list_files(source):
            if is_text(uri):
                found[storage.name(uri)[: -len(".txt")]] = storage.read_bytes(uri)
    else:
        where = source.uri
        found = dict(_zipped(source))
    if not found:
        raise ValueError(f"{where}: expected prompts in files <item id>.txt, found none")
    prompts = {}
    for name, data in found.items():
        try:
            prompts[name] = data.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: the prompt {name}.txt is not UTF-8 ({error.reason})") from error
        if not prompts[name]:
            raise ValueError(f"{where}: the prompt {name}.txt is empty")
    return prompts


def _zipped(source: PinnedFile) -> Iterable[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(source.read())) as archive:
            for path in archive.namelist():
                match = re.fullmatch(r"(?:.*/)?prompts/([^/]+)\.txt", path, re.IGNORECASE)
                if match and is_text(path):
                    yield match[1], archive.read(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source.uri}: expected a zip file with a folder of prompts ({error})") from error
