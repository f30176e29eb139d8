"""Read a checkpoint folder, whole or by rows; every file is verified before its first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import EllipsisType
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from infinity import storage
from infinity.checkpoint.record import CheckpointError, read_about, read_checksums, read_verified, verify


@dataclass(frozen=True, kw_only=True, slots=True)
class _Described:
    """Description of a checkpoint.

    Attributes:
        uri: URI of the folder.
        kind: Kind of the model, such as "tokenizer" or "transformer".
        config: JSON of the model's configuration; ``SomeConfig.from_json(checkpoint.config)`` reads it.
        extra: Further JSON, such as the training step and metrics.
        digest: 16 hexadecimal digits over configuration, extra and tensors.
    """

    uri: str
    kind: str
    config: dict[str, Any]
    extra: dict[str, Any]
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint(_Described):
    """A checkpoint that was read and verified.

    Attributes:
        tensors: Tensors by name, on the CPU, in the data type they were saved in.
    """

    tensors: dict[str, Tensor]


class StoredTensor:
    """A tensor of an open checkpoint: ``stored[...]`` reads all of it, ``stored[a:b]`` some of its rows.

    A file is verified before the first tensor is read from it.

    Attributes:
        shape: Shape of the whole tensor.
        dtype: Data type in which it was saved.
    """

    def __init__(self, name: str, shape: torch.Size, dtype: torch.dtype, places: list[_Place]) -> None:
        self.shape, self.dtype = shape, dtype
        self._name, self._places = name, places

    def __getitem__(self, rows: slice | EllipsisType) -> Tensor:
        """Read rows to the CPU; the result may be memory-mapped.

        Raises:
            CheckpointError: A file is damaged or missing.
        """
        if rows is Ellipsis:
            first, last = 0, (self.shape[0] if self.shape else 0)
        else:
            first, last, _ = rows.indices(self.shape[0])
        found = []
        for place in self._places:
            if place.last is None:
                whole = self._as_described(place.file.tensor(self._name), place, self.shape)
                return whole if rows is Ellipsis else whole[first:last].clone()
            start, stop = max(first, place.first), min(last, place.last)
            if start < stop:
                piece = place.file.tensor(self._name, start - place.first, stop - place.first)
                found.append(self._as_described(piece, place, (len(piece), *self.shape[1:])))
        if sum(len(piece) for piece in found) != last - first:
            raise CheckpointError(
                f"{self._places[0].file.uri}: rows {first} to {last} of {self._name} are not all there"
            )
        if not found:
            return torch.empty((0, *self.shape[1:]), dtype=self.dtype)
        return found[0] if len(found) == 1 else torch.cat(found)

    def _as_described(self, tensor: Tensor, place: _Place, shape: tuple[int, ...]) -> Tensor:
        if tuple(tensor.shape) == tuple(shape) and tensor.dtype == self.dtype:
            return tensor
        raise CheckpointError(
            f"{place.file.uri}: expected {self._name!r:.80} in {place.file.name} of the shape {tuple(shape)} and type "
            f"{self.dtype}, found {tuple(tensor.shape)} and {tensor.dtype}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenCheckpoint(_Described):
    """A finished checkpoint whose tensors are read on access.

    Attributes:
        tensors: Stored tensors by name.
        files: Files of tensors.
    """

    tensors: Mapping[str, StoredTensor]
    files: tuple[_File, ...]

    def verify(self) -> None:
        """Compare the sha256 of every file that was not verified before.

        Raises:
            CheckpointError: A file is damaged or missing.
        """
        for file in self.files:
            file.verify()


def open_checkpoint(uri: str, *, kind: str | None = None) -> OpenCheckpoint:
    """Open a checkpoint without reading its tensors; each file is verified before its first use.

    Raises:
        CheckpointError: The folder is missing, unfinished, damaged, or of another format or kind.
        StorageError: The folder cannot be read.
    """
    digest, entries = read_checksums(uri)
    about = read_about(uri, entries, kind)
    files = {name: _File(uri, name, entries[name]) for name in sorted(entries) if name.endswith(".safetensors")}
    return OpenCheckpoint(
        uri=uri,
        kind=about["kind"],
        config=about["config"],
        extra=about["extra"],
        digest=digest,
        tensors=_tensors(files, about.get("pieces"), uri),
        files=tuple(files.values()),
    )


def load_checkpoint(uri: str, *, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint and verify every file of it.

    Args:
        uri: URI of the folder.
        kind: Expected kind; None accepts any.

    Raises:
        CheckpointError: The folder is missing, unfinished, damaged, or of another format or kind.
        StorageError: The folder cannot be read (no such bucket, refused credentials).
    """
    found = open_checkpoint(uri, kind=kind)
    return Checkpoint(
        uri=uri,
        kind=found.kind,
        config=found.config,
        extra=found.extra,
        digest=found.digest,
        tensors={name: stored[...] for name, stored in found.tensors.items()},
    )


def read_kind_and_config(uri: str, *, kind: str | None = None) -> tuple[str, dict[str, Any]]:
    """Read kind and configuration of a finished checkpoint, without its tensors.

    Args:
        uri: URI of the folder.
        kind: Expected kind; None accepts any.

    Raises:
        CheckpointError: The folder is missing or unfinished, its description is damaged, or it is of another kind.
    """
    about = read_about(uri, read_checksums(uri)[1], kind)
    return about["kind"], about["config"]


class _Mapped:
    """A memory-mapped file on a disk."""

    def __init__(self, path: Path) -> None:
        self._file: Any = safe_open(path, framework="pt")

    def names(self) -> list[str]:
        return list(self._file.keys())

    def whole(self, name: str) -> Tensor:
        found: Tensor = self._file.get_tensor(name)
        return found

    def rows(self, name: str, first: int, last: int) -> Tensor:
        found: Tensor = self._file.get_slice(name)[first:last]
        return found


class _Held:
    """A file from S3, held in memory."""

    def __init__(self, data: bytes) -> None:
        self._tensors: dict[str, Tensor] = safetensors.torch.load(data)

    def names(self) -> list[str]:
        return list(self._tensors)

    def whole(self, name: str) -> Tensor:
        return self._tensors[name]

    def rows(self, name: str, first: int, last: int) -> Tensor:
        return self._tensors[name][first:last].clone()


class _File:
    """A file of tensors, verified before it is opened."""

    def __init__(self, uri: str, name: str, expected: Mapping[str, Any]) -> None:
        self.uri, self.name, self._expected = uri, name, expected
        self._verified = False

    def verify(self) -> None:
        if not self._verified:
            verify(self.uri, self.name, self._expected)
        self._verified = True

    def tensor(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """Return all of a tensor, or some rows of it.

        Raises:
            CheckpointError: This file does not have the tensor.
        """
        if name not in self._names:
            raise CheckpointError(f"{self.uri}: expected the tensor {name!r:.80} in {self.name}, found no such tensor")
        with self._explained():
            return self.opened.whole(name) if last is None else self.opened.rows(name, first, last)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.opened.names())

    @cached_property
    def opened(self) -> _Mapped | _Held:
        path = storage.local_path(storage.join(self.uri, self.name))
        with self._explained():
            if path is not None:
                self.verify()
                return _Mapped(path)
            return _Held(read_verified(self.uri, self.name, self._expected))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, KeyError) as error:  # a data type that torch does not have is a KeyError from bytes
            raise CheckpointError(
                f"{self.uri}: damaged checkpoint: {self.name} is not a safetensors file that can be read ({error})"
            ) from error
        except (TypeError, RuntimeError) as error:  # of huge shapes, with a trace of torch's own in the message
            kind = type(error).__name__
            raise CheckpointError(
                f"{self.uri}: damaged checkpoint: {self.name} is not a safetensors file that can be read ({kind})"
            ) from error


@dataclass(frozen=True, slots=True)
class _Place:
    """File with the rows ``first`` to ``last`` of a tensor; with all of it where ``last`` is None."""

    file: _File
    first: int
    last: int | None


def _tensors(files: Mapping[str, _File], pieces: Mapping[str, Any] | None, where: str) -> dict[str, StoredTensor]:
    """Find the places of all tensors; without a description of pieces, files are opened for the names they hold."""
    if pieces is not None:
        return {name: _joined(name, piece, files, f"{where}: tensor {name!r:.80}") for name, piece in pieces.items()}
    found = {}
    for file in files.values():
        for name in file.opened.names():
            tensor = file.tensor(name)  # reads nothing: memory-mapped, or in memory already
            if name in found:
                raise CheckpointError(f"{where}: the tensor {name!r:.80} lies in two files; expected it in one")
            found[name] = StoredTensor(name, tensor.shape, tensor.dtype, [_Place(file, 0, None)])
    return found


def _joined(name: str, piece: Any, files: Mapping[str, _File], where: str) -> StoredTensor:
    """Return the stored tensor of a description, after strict checks."""
    described = piece if isinstance(piece, dict) else {}
    shape, dtype, places = (described.get(key) for key in ("shape", "dtype", "places"))
    if not isinstance(shape, list) or not all(_is_count(size) for size in shape):
        raise CheckpointError(f"{where}: expected a shape, found {shape!r:.80}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(f"{where}: expected one of the types {', '.join(_DTYPES)}, found {dtype!r:.80}")
    if not isinstance(places, list) or not places:
        raise CheckpointError(f"{where}: expected the places of its rows, found {places!r:.80}")
    found = [_place(each, files, where) for each in places]
    ends = [(place.first, place.last) for place in found if place.last is None or place.first < place.last]
    rows = [0, *(last for _, last in ends)]
    if ends != [(0, None)] and (not shape or [first for first, _ in ends] != rows[:-1] or rows[-1] != shape[0]):
        raise CheckpointError(f"{where}: expected places of all rows of the shape {shape}, found {places!r:.80}")
    return StoredTensor(name, torch.Size(shape), _DTYPES[dtype], found)


def _place(place: Any, files: Mapping[str, _File], where: str) -> _Place:
    if (
        not isinstance(place, list)
        or len(place) != 3
        or not _is_count(place[1])
        or not (place[2] is None or (_is_count(place[2]) and place[2] >= place[1]))
    ):
        raise CheckpointError(f"{where}: expected places [file, first row, row after the last], found {place!r:.80}")
    file, first, last = place
    if not isinstance(file, str) or file not in files:
        raise CheckpointError(f"{where}: expected one of the files {', '.join(files)}, found {file!r:.80}")
    return _Place(files[file], first, last)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


_DTYPES = {
    name: dtype
    for name, dtype in vars(torch).items()
    if isinstance(dtype, torch.dtype) and str(dtype) == f"torch.{name}"
}
"""Data types by their names in descriptions."""
