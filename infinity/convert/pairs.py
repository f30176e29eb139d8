"""Check that a published transformer and tokenizer belong together; bits of another tokenizer are meaningless to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint import Checkpoint, CheckpointError
from infinity.config import ConfigError, parse_json
from infinity.convert.entries import own_shapes, read_entries
from infinity.convert.tokenizer_names import tokenizer_entries, with_usual_names
from infinity.tokenizer import Tokenizer, TokenizerConfig

SOURCE_FILE = "published.json"
"""File beside an imported tokenizer with the name of its source. It is not a part of the checkpoint, so that the digest
depends on the weights alone."""

_PAIRS = {
    "infinity2breg": "infinityvaed32reg",
    "infinity8bweights": "infinityvaed56f814patchify",
    "infinity8b512x512weights": "infinityvaed56f814patchify",
    "infinity125m256x256": "infinityvaed16",
}
"""Tokenizers of released transformers, both by the letters and digits of their files' names (the repository's README
and issue 15)."""
_TOKENIZERS = frozenset(
    {*_PAIRS.values(), "infinityvaed24", "infinityvaed32", "infinityvaed64", "infinityvaed56f814patchifyreg"}
)


def remember_source(folder: str, digest: str, source: str) -> None:
    """Write the name of an imported tokenizer's source beside it.

    Raises:
        StorageError: The file cannot be written.
    """
    text = json.dumps({"digest": digest, "file": storage.name(source)}, ensure_ascii=False) + "\n"
    storage.write_text(storage.join(folder, SOURCE_FILE), text)


def source_of(folder: str, digest: str) -> str | None:
    """Return the name of the file that a tokenizer's folder was imported from; None if it is not known."""
    try:
        found = parse_json(storage.read_text(storage.join(folder, SOURCE_FILE)), where=folder)
    except (storage.StorageError, ConfigError):
        return None
    if not isinstance(found, dict) or found.get("digest") != digest or not isinstance(found.get("file"), str):
        return None
    return str(found["file"])


def check_pair(transformer_file: str, tokenizer_file: str | None, *, trained_with: str | None = None) -> None:
    """Refuse a tokenizer that is known to be the wrong one, by the names of released files.

    Args:
        transformer_file: Path of the transformer.
        tokenizer_file: Name of the file that the tokenizer was imported from; None if unknown.
        trained_with: Path of the tokenizer in the arguments of the transformer's training.

    Raises:
        CheckpointError: Both are released files, and do not belong together.
    """
    if tokenizer_file is None:
        return
    found = _letters(tokenizer_file)
    needed = _PAIRS.get(_letters(transformer_file)) or (_letters(trained_with) if trained_with else None)
    if found in _TOKENIZERS and needed in _TOKENIZERS and found != needed:
        raise CheckpointError(
            f"{transformer_file}: was trained with the tokenizer {needed}, but the one given was imported from "
            f"{tokenizer_file}; the bits of one mean nothing to the other. Import that tokenizer and name its folder"
        )


def check_same_tokenizer(
    published: Mapping[str, Tensor], checkpoint: Checkpoint, config: TokenizerConfig, *, where: str
) -> None:
    """Compare the tokenizer inside a training checkpoint with the given one.

    Args:
        published: Tensors of the training checkpoint's tokenizer, by published name; rounding to half precision is no
            difference.
        checkpoint: Given tokenizer.
        config: Configuration of the given tokenizer.
        where: Name of the training checkpoint in error messages.

    Raises:
        CheckpointError: The tokenizers differ.
    """
    wrong = CheckpointError(
        f"{where}: the tokenizer that this training checkpoint carries is not the one in {checkpoint.uri}; the bits "
        "of one mean nothing to the other. Import the tokenizer that it was trained with"
    )
    try:
        own = own_shapes(Tokenizer, config)
        carried = read_entries(tokenizer_entries(config), with_usual_names(published), own, where=where)
    except CheckpointError as error:
        raise wrong from error
    for name, given in checkpoint.tensors.items():
        one, other = carried[name].float(), given.float()
        if not torch.allclose(one, other, rtol=0.01, atol=0.01 * float(other.abs().max())):
            raise wrong


def _letters(path: str) -> str:
    """Return the lower-case letters and digits of a file's name without its extension."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\.(pth|pt|bin|safetensors)$", "", name.lower()))
