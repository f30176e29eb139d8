"""Content of an evaluation's inputs, which says whether a finished evaluation is still current.

A spec names its inputs by paths. A finished evaluation is read back only if the model, the manifest, the prompts, the
weights of scorers and the pictures still have the content that was evaluated. Inputs with another content get a folder
of their own, so that earlier scores stay beside what they were measured on.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from infinity import storage
from infinity.checkpoint import MARKER_FILE, CheckpointError
from infinity.checkpoint.record import read_checksums
from infinity.config import Config, digest_of
from infinity.evaluation.pictures.files import is_text
from infinity.evaluation.prompts.benchmark import PictureFolder, PromptBenchmark
from infinity.perception.detection.ocr import TextAreaConfig
from infinity.perception.loading import folder_digest
from infinity.storage.pinned import NoDownloadError, PinnedFile

MANIFEST = "manifest"

_NAMED_BY_CONTENT = re.compile(r"-[0-9a-f]{16}$")
"""End of the name of a job's folder, which is a digest of the job's inputs."""


def model_digest(model: str) -> str | None:
    """Return the digest of the checkpoint in a model folder; None where there is none, or no model."""
    if not model:
        return None
    marker = storage.join(model, MARKER_FILE)
    return storage.read_text(marker).strip() if storage.exists(marker) else None


def check_model_files(model: str) -> None:
    """Check that a model's files still are those that its digest stands for, before figures of it are read back.

    On a disk, contents are compared; a file that did not change since is not read twice. In S3, sizes are.

    Raises:
        CheckpointError: A file was replaced.
        StorageError: A file cannot be read.
    """
    if not model:
        return
    folders = {storage.parent(uri) for uri in storage.list_files(model) if storage.name(uri) == MARKER_FILE}
    for folder in sorted(folders):
        for name, expected in read_checksums(folder)[1].items():
            uri = storage.join(folder, name)
            if storage.exists(uri) and not _is_as_committed(uri, expected):
                raise CheckpointError(
                    f"{uri}: expected the file that was evaluated, found another content; the checkpoint is damaged, "
                    "so restore the file, or save the model anew"
                )


def _is_as_committed(uri: str, expected: Mapping[str, Any]) -> bool:
    path = storage.local_path(uri)
    if path is None:
        return bool(storage.size(uri) == expected["bytes"])
    about = os.stat(path)
    found = _sha256(uri, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return bool(found == expected["sha256"])


@lru_cache(maxsize=4096)
def _sha256(uri: str, *_: int) -> str:
    """Return a file's sha256; the other arguments change when the file does (its time of change cannot be set)."""
    return storage.sha256(uri)


def is_named_by_content(uri: str) -> bool:
    """Return whether a file lies in a job's folder, ``<job>-<digest>/...``, whose content never changes."""
    return bool(_NAMED_BY_CONTENT.search(storage.name(storage.parent(uri))))


def contents(manifest: str | None, parts: Mapping[str, Config | None]) -> dict[str, str]:
    """Return digests of all inputs besides the model that a spec names by location only.

    Files with a checksum in the spec are left out: the spec itself states their content, and every reader checks it.

    Inputs that no longer exist are left out too: nothing has replaced them.

    Args:
        manifest: URI of the data set's manifest.
        parts: Benchmarks and weights, by the name of their field.

    Raises:
        ValueError: A table of pictures cannot be read.
        StorageError: A file cannot be read.
    """
    found: dict[str, str] = {}
    if manifest is not None and storage.exists(manifest):
        found[MANIFEST] = storage.sha256(manifest)[:16]
    for name, part in parts.items():
        if part is not None:
            found |= {f"{name}.{where}": digest for where, digest in _of(part) if digest}
    return found


def judged_by(benchmark: PromptBenchmark) -> dict[str, str]:
    """Return digests of the networks that judge, where a benchmark names them by location only."""
    assert isinstance(benchmark, Config)
    found: dict[str, str] = {}
    for field in dataclasses.fields(benchmark):
        value = getattr(benchmark, field.name)
        if isinstance(value, Config) and field.name not in (
            "pictures",
            "rewriter",
            "prompts",
            "questions",
            "reference",
        ):
            found |= {f"{field.name}.{where}": digest for where, digest in _of(value) if digest}
    return found


def is_current(recorded: Mapping[str, str], found: Mapping[str, str], manifest: str | None) -> bool:
    """Return whether a finished evaluation is about the inputs that exist now.

    Args:
        recorded: Result of ``contents`` when the evaluation was done. It is empty for evaluations of earlier versions,
            which are current if the only input besides the model is a data set that is named by its content.
        found: Result of ``contents`` now.
        manifest: URI of the data set's manifest.
    """
    return all(
        recorded[name] == digest
        if name in recorded
        else name == MANIFEST and manifest is not None and is_named_by_content(manifest)
        for name, digest in found.items()
    )


def _of(value: Any) -> Iterator[tuple[str, str]]:
    """Yield places within a configuration, each with the digest of its content; empty where it does not exist."""
    if isinstance(value, PinnedFile):
        if value.sha256 is None and value.git_blob is None:
            yield "file", _file_digest(value)
        return
    if isinstance(value, PictureFolder):
        yield "files", value.content() if _is_there(value) else ""
        return
    if callable(content := getattr(value, "content", None)):
        yield "files", content()
        return
    if isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from ((f"{number}.{where}", digest) for where, digest in _of(item))
        return
    if not isinstance(value, Config):
        return
    if isinstance(value, TextAreaConfig):
        yield "package", _package_digest(value)
    model = getattr(value, "model", None)
    if isinstance(model, str) and model and getattr(value, "sha256", None) is None:
        yield "weights", folder_digest(Path(model)) if Path(model).is_dir() else ""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if field.name == "prompts" and isinstance(inner, str):
            yield "prompts", digest_of(sorted((uri[len(inner) :], storage.sha256(uri)) for uri in _texts(inner)))
        yield from ((f"{field.name}.{where}", digest) for where, digest in _of(inner))


def _package_digest(scorer: TextAreaConfig) -> str:
    """Return the digest of networks that an installed package brings; empty where it is not installed."""
    try:
        return scorer.weights_digest()
    except ValueError:
        return ""


def _texts(folder: str) -> list[str]:
    return [uri for uri in storage.list_files(folder) if is_text(uri)]


def _is_there(folder: PictureFolder) -> bool:
    return storage.exists(folder.uri) if folder.is_table else bool(storage.list_files(folder.uri))


def _file_digest(file: PinnedFile) -> str:
    """Return the digest of a file without a checksum; empty where it does not exist or cannot be downloaded."""
    try:
        if file.uri.startswith(("http://", "https://")):
            return file.content_digest()[:16]
        return storage.sha256(file.uri)[:16] if storage.exists(file.uri) else ""
    except NoDownloadError:
        return ""
