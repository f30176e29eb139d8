"""Write a checkpoint folder, from one process or several: files first, then checksums, the marker last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint.record import (
    CHECKSUMS_FILE,
    CONFIG_FILE,
    FORMAT,
    JOINT_FORMAT,
    MARKER_FILE,
    CheckpointError,
    digest_of,
    to_json,
)
from infinity.config import Config

MAX_FILE_BYTES = 2 * 2**30
"""Size beyond which tensors are spread over several files, so that no upload and no buffer becomes huge."""
STREAMED_FROM_BYTES = 64 * 2**20
"""Size from which a file is written tensor by tensor instead of at once."""

_DTYPES: dict[torch.dtype, str] = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Data types by their names in safetensors files, in the order in which its library writes them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a tensor, or all of it.

    Attributes:
        tensor: Rows of the tensor.
        first: Number of the first row.
        total: Rows of the whole tensor; None where ``tensor`` is the whole, of any number of axes.
    """

    tensor: Tensor
    first: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class WriterPart:
    """Contribution of one writer to a folder.

    Attributes:
        files: Sha256 and size of each file by name.
        pieces: Data type, whole shape, file and rows of each tensor by name.
    """

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    pieces: dict[str, dict[str, Any]] = field(default_factory=dict)


def save_checkpoint(
    uri: str,
    *,
    kind: str,
    config: Config,
    tensors: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> str:
    """Write a checkpoint folder; it is not a checkpoint until its last file, the marker, is there.

    Args:
        uri: URI of the folder. An existing checkpoint first loses its marker and is then replaced.
        kind: Kind of the model.
        config: Configuration of the model.
        tensors: Weights and buffers by name, on any device.
        extra: Further JSON values.
        max_file_bytes: Size at which another file starts.

    Returns:
        Digest of the checkpoint.

    Raises:
        StorageError: The folder cannot be written; nothing that looks finished is left.
    """
    withdraw(uri)
    part = write_part(uri, {name: Piece(value) for name, value in tensors.items()}, max_file_bytes=max_file_bytes)
    return commit_parts(uri, [part], kind=kind, config=config, extra=extra)


def withdraw(uri: str) -> None:
    """Remove the marker, so that the folder is not a checkpoint any more and its files may be replaced."""
    storage.delete_tree(storage.join(uri, MARKER_FILE))


def write_part(
    uri: str,
    pieces: Mapping[str, Piece],
    *,
    writer: int = 0,
    num_writers: int = 1,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> WriterPart:
    """Write the tensors of one writer to a folder without a marker.

    Args:
        uri: URI of the folder.
        pieces: Pieces by name; of a sharded tensor, all writers together must write every row once.
        writer: Number of this writer, from 0.
        num_writers: Number of writers. A single one writes whole tensors.
        max_file_bytes: Size at which another file starts.

    Raises:
        StorageError: A file cannot be written.
    """
    stem = "model" if num_writers == 1 else f"model-{writer + 1}of{num_writers}"
    part = WriterPart()
    groups = list(in_files({name: piece.tensor for name, piece in pieces.items()}, max_file_bytes))
    for number, names in enumerate(groups, start=1):
        file = f"{stem}.safetensors" if len(groups) == 1 else f"{stem}-{number:05d}.safetensors"
        part.files[file] = _write_tensors(uri, file, {name: pieces[name].tensor for name in names})
        part.pieces.update((name, _described(pieces[name], file)) for name in names)
    return part


def commit_parts(
    uri: str, parts: Sequence[WriterPart], *, kind: str, config: Config, extra: Mapping[str, Any] | None = None
) -> str:
    """Write description, checksums and marker of a folder whose parts are all written.

    Returns:
        Digest of the checkpoint.

    Raises:
        StorageError: A file cannot be written; the folder is not a checkpoint then.
    """
    about = {"format": FORMAT, "kind": kind, "config": config.to_json(), "extra": dict(extra or {})}
    if len(parts) > 1:
        about |= {"format": JOINT_FORMAT, "pieces": _joined(parts)}
    files = {CONFIG_FILE: _write(uri, CONFIG_FILE, to_json(about))}
    for part in parts:
        files |= part.files
    checksums = to_json({"files": files})
    digest = digest_of(checksums)
    storage.write_bytes(storage.join(uri, CHECKSUMS_FILE), checksums)
    storage.write_text(storage.join(uri, MARKER_FILE), digest + "\n")
    return digest


def _joined(parts: Sequence[WriterPart]) -> dict[str, dict[str, Any]]:
    """Join the writers' descriptions: data type, shape and places of each tensor, in order of the rows."""
    joined: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, piece in part.pieces.items():
            places = joined.get(name, {"places": []})["places"]
            joined[name] = piece | {"places": sorted(places + piece["places"], key=lambda place: int(place[1]))}
    return joined


def _described(piece: Piece, file: str) -> dict[str, Any]:
    shape = list(piece.tensor.shape)
    last = None
    if piece.total is not None:
        last = piece.first + shape[0]
        shape[0] = piece.total
    dtype = str(piece.tensor.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": shape, "places": [[file, piece.first, last]]}


def _write(uri: str, name: str, data: bytes) -> dict[str, Any]:
    storage.write_bytes(storage.join(uri, name), data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def in_files(tensors: Mapping[str, Tensor], max_file_bytes: int) -> Iterator[list[str]]:
    """Yield the names of the tensors of each file, in order; an empty model has one empty file."""
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + tensor.nbytes > max_file_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    yield names


def _write_tensors(uri: str, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write one file of tensors; a large one tensor by tensor, so that memory holds one of them."""
    if sum(tensor.nbytes for tensor in tensors.values()) < STREAMED_FROM_BYTES:
        return _write(uri, name, b"".join(serialized(tensors)))
    digest, size = hashlib.sha256(), 0
    with storage.create(storage.join(uri, name)) as file:
        for chunk in serialized(tensors):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def serialized(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the safetensors file of these tensors piece by piece, with the bytes of ``safetensors.torch.save``.

    That function holds three copies of all tensors at its peak.

    Raises:
        CheckpointError: The format has no name for a data type.
    """
    order = list(_DTYPES)
    if odd := [name for name, tensor in tensors.items() if tensor.dtype not in _DTYPES]:
        raise CheckpointError(f"{odd[0]}: expected a data type of safetensors, found {tensors[odd[0]].dtype}")
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    header, size = {}, 0
    for name in names:
        tensor = tensors[name]
        offsets = [size, size + tensor.nbytes]
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        size = offsets[1]
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    yield len(head).to_bytes(8, "little") + head
    for name in names:
        yield tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
