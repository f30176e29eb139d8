"""A folder of weights: what the model is beside its tensors, checksums, and a marker that is written last.

Layout::

    config.json            {"format": 1, "kind": ..., "config": {...}, "extra": {...}}
    model.safetensors      the tensors; model-00001.safetensors and so on where they fill more than one file
    checksums.json         {"files": {name: {"sha256": ..., "bytes": ...}}}
    COMMITTED              the digest; a folder without it is not a checkpoint
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from infinity import storage
from infinity.config import Config

FORMAT = 1
CONFIG_FILE = "config.json"
CHECKSUMS_FILE = "checksums.json"
MARKER_FILE = "COMMITTED"
MAX_FILE_BYTES = 2 * 2**30
"""Tensors of more than this are spread over several files, so that no upload and no buffer becomes huge."""

_MOST_NAMES = 12


class CheckpointError(ValueError):
    """A folder is no checkpoint, a damaged one, or one of another model; the message says which and where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint that was read and verified.

    Attributes:
        uri: Where it lies.
        kind: What was saved, such as "tokenizer" or "transformer".
        config: JSON of the model's configuration; ``SomeConfig.from_json(checkpoint.config)`` reads it.
        tensors: By name, on the CPU, in the type they were saved in.
        extra: Further JSON, such as the training step and metrics.
        digest: 16 hexadecimal digits over configuration, extra and tensors.
    """

    uri: str
    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    extra: dict[str, Any]
    digest: str


def save_checkpoint(
    uri: str,
    *,
    kind: str,
    config: Config,
    tensors: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> str:
    """Write a checkpoint folder; until the marker, its last file, is there it does not count.

    Args:
        uri: The folder. A checkpoint that is already there loses its marker first and is then replaced.
        kind: What is saved.
        config: Of the model.
        tensors: Weights and buffers by name, on any device.
        extra: Further JSON values.
        max_file_bytes: Start another file beyond this.

    Returns:
        The digest.

    Raises:
        StorageError: The folder cannot be written; nothing that looks finished is left.
    """
    storage.delete_tree(storage.join(uri, MARKER_FILE))
    about = {"format": FORMAT, "kind": kind, "config": config.to_json(), "extra": dict(extra or {})}
    files: dict[str, dict[str, Any]] = {}

    def write(name: str, data: bytes) -> None:
        storage.write_bytes(storage.join(uri, name), data)
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    write(CONFIG_FILE, _json(about))
    parts = list(_parts(tensors, max_file_bytes))
    for number, names in enumerate(parts, start=1):
        name = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}.safetensors"
        write(name, safetensors.torch.save({key: _plain(tensors[key]) for key in names}))
    checksums = _json({"files": files})
    digest = _digest(checksums)
    storage.write_bytes(storage.join(uri, CHECKSUMS_FILE), checksums)
    storage.write_text(storage.join(uri, MARKER_FILE), digest + "\n")
    return digest


def is_committed(uri: str) -> bool:
    """Whether a finished checkpoint lies at the URI; its files are not verified."""
    return storage.exists(storage.join(uri, MARKER_FILE))


def load_checkpoint(uri: str, *, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint and verify every file of it.

    Args:
        uri: The folder.
        kind: The kind it must be; any if None.

    Raises:
        CheckpointError: No folder, an unfinished or damaged one, another format or another kind.
        StorageError: The place cannot be read (no such bucket, refused credentials).
    """
    digest, files = _read_checksums(uri)
    for name, expected in files.items():
        _verify(uri, name, expected)
    about = _read_about(uri)
    if kind is not None and about["kind"] != kind:
        raise CheckpointError(f"{uri}: expected a checkpoint of kind {kind!r}, found {about['kind']!r}")
    tensors: dict[str, Tensor] = {}
    for name in sorted(files):
        if name.endswith(".safetensors"):
            tensors |= _read_tensors(storage.join(uri, name))
    return Checkpoint(
        uri=uri, kind=about["kind"], config=about["config"], tensors=tensors, extra=about["extra"], digest=digest
    )


def read_kind_and_config(uri: str) -> tuple[str, dict[str, Any]]:
    """Kind and configuration of a finished checkpoint without reading its tensors.

    Raises:
        CheckpointError: No folder, an unfinished one, or a damaged description.
    """
    _, files = _read_checksums(uri)
    _verify(uri, CONFIG_FILE, files[CONFIG_FILE])
    about = _read_about(uri)
    return about["kind"], about["config"]


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy tensors into a module of exactly these names and shapes; the module keeps its types.

    Args:
        module: Receives the values.
        tensors: By the names of ``module.state_dict()``.
        where: Name of their source in error messages.

    Raises:
        CheckpointError: Missing, unknown or differently shaped tensors; all are named.
    """
    own = module.state_dict()
    problems = []
    if missing := sorted(set(own) - set(tensors)):
        problems.append(f"missing {_names(missing)}")
    if unknown := sorted(set(tensors) - set(own)):
        problems.append(f"unknown {_names(unknown)}")
    shapes = [
        f"{name} of shape {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(f"other shapes: {_names(shapes)}")
    if problems:
        raise CheckpointError(
            f"{where}: these tensors are not those of a {type(module).__name__} of this configuration: "
            f"{'; '.join(problems)}. Was it saved with another bit width or size?"
        )
    module.load_state_dict(dict(tensors), strict=True)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(checksums: bytes) -> str:
    return hashlib.sha256(checksums).hexdigest()[:16]


def _parts(tensors: Mapping[str, Tensor], max_file_bytes: int) -> Iterator[list[str]]:
    """Names of the tensors of each file, in order; an empty model has one empty file."""
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        num_bytes = tensor.numel() * tensor.element_size()
        if names and size + num_bytes > max_file_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += num_bytes
    yield names


def _plain(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares its memory with no other tensor, as the file format asks."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _read_checksums(uri: str) -> tuple[str, dict[str, dict[str, Any]]]:
    if not is_committed(uri):
        if storage.exists(uri):
            raise CheckpointError(
                f"{uri}: no finished checkpoint: the file {MARKER_FILE}, which is written last, is missing"
            )
        raise CheckpointError(f"{uri}: expected a checkpoint folder, found nothing there")
    marker = storage.read_bytes(storage.join(uri, MARKER_FILE)).decode("utf-8", "replace").strip()
    try:
        data = storage.read_bytes(storage.join(uri, CHECKSUMS_FILE))
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: {CHECKSUMS_FILE} is missing") from error
    if _digest(data) != marker:
        raise CheckpointError(f"{uri}: damaged checkpoint: {CHECKSUMS_FILE} is not the one that was committed")
    return marker, json.loads(data)["files"]


def _verify(uri: str, name: str, expected: Mapping[str, Any]) -> None:
    file = storage.join(uri, name)
    try:
        found = storage.sha256(file)
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: {name} is missing") from error
    if found != expected["sha256"]:
        raise CheckpointError(
            f"{uri}: damaged checkpoint: {name} has the sha256 {found[:16]}..., expected {expected['sha256'][:16]}...; "
            "copy it again or use another checkpoint"
        )


def _read_about(uri: str) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(storage.read_bytes(storage.join(uri, CONFIG_FILE)))
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{uri}: expected checkpoint format {FORMAT}, found {about.get('format')!r}, that of another version"
        )
    return about


def _read_tensors(uri: str) -> dict[str, Tensor]:
    path = storage.local_path(uri)
    try:
        if path is not None:
            return dict(safetensors.torch.load_file(path))
        return dict(safetensors.torch.load(storage.read_bytes(uri)))
    except SafetensorError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: not a safetensors file ({error})") from error
