"""Checkpoint folders: configuration, tensors, checksums, and a marker that is written last.

Layout::

    config.json            {"format": 1, "kind": ..., "config": {...}, "extra": {...}}
    model.safetensors      the tensors; model-00001.safetensors and so on where they fill more than one file
    checksums.json         {"files": {name: {"sha256": ..., "bytes": ...}}}
    COMMITTED              the digest; a folder without it is not a checkpoint

A folder that several workers wrote together has format 2 (decision 38). Each worker's files, model-1of2.safetensors and
so on, hold its rows of every tensor, and ``config.json`` lists under "pieces" the places of all rows. Readers accept
both formats.

May import ``infinity.storage`` and ``infinity.config``. Start with ``writing.py`` and ``reading.py``.
"""

from __future__ import annotations

from infinity.checkpoint.reading import (
    Checkpoint,
    OpenCheckpoint,
    StoredTensor,
    load_checkpoint,
    open_checkpoint,
    read_kind_and_config,
)
from infinity.checkpoint.record import (
    CHECKSUMS_FILE,
    CONFIG_FILE,
    FORMAT,
    JOINT_FORMAT,
    MARKER_FILE,
    CheckpointError,
    is_committed,
)
from infinity.checkpoint.weights import build, check_finite, check_fit, load_weights, shorten
from infinity.checkpoint.writing import (
    MAX_FILE_BYTES,
    Piece,
    WriterPart,
    commit_parts,
    in_files,
    save_checkpoint,
    withdraw,
    write_part,
)

__all__ = [
    "CHECKSUMS_FILE",
    "CONFIG_FILE",
    "FORMAT",
    "JOINT_FORMAT",
    "MARKER_FILE",
    "MAX_FILE_BYTES",
    "Checkpoint",
    "CheckpointError",
    "OpenCheckpoint",
    "Piece",
    "StoredTensor",
    "WriterPart",
    "build",
    "check_finite",
    "check_fit",
    "commit_parts",
    "in_files",
    "is_committed",
    "load_checkpoint",
    "load_weights",
    "open_checkpoint",
    "read_kind_and_config",
    "save_checkpoint",
    "shorten",
    "withdraw",
    "write_part",
]
