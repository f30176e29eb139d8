"""Read and write files of published checkpoints: pickles, safetensors, and folders of shards with an index.

Pickles are read with ``weights_only``, so that no file can run code.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint import CheckpointError, in_files, shorten
from infinity.config import parse_json
from infinity.convert.arguments import TrainingArguments, read_arguments
from infinity.convert.entries import check_names

TOKENIZER_KEY = "vae"
"""Key of the tensors in a published tokenizer file."""

PICKLES = (".pth", ".pt", ".bin")
"""Extensions of pickled files."""
MAX_SHARD_BYTES = 5 * 2**30
_INDEX_SUFFIX = ".index.json"
_TRAINING_KEYS = {False: ("gpt_fsdp", "gpt_wo_ddp"), True: ("gpt_ema_fsdp", "gpt_ema_for_vis")}
"""Keys of a training checkpoint's weights (False) and averaged weights (True), of a sharded and of a plain training."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TransformerFile:
    """Contents of a published file of a transformer.

    Attributes:
        tensors: Tensors by published name.
        arguments: Arguments of the training, if the file is a training checkpoint that has them.
        tokenizer: Tensors of the tokenizer in a training checkpoint, by published name; or None.
    """

    tensors: dict[str, Tensor]
    arguments: TrainingArguments = field(default_factory=TrainingArguments)
    tokenizer: dict[str, Tensor] | None = None


def read_transformer_file(uri: str, *, ema: bool = False) -> TransformerFile:
    """Read a transformer from a file of tensors, a training checkpoint, or a folder of shards.

    Args:
        uri: URI of a ``.pth`` (or another pickle), a ``.safetensors``, or a folder with an index file.
        ema: Whether to take the averaged weights of a training checkpoint.

    Raises:
        CheckpointError: The file is not a transformer, or is damaged.
    """
    if uri.endswith((*PICKLES, ".safetensors")):
        content = _read_file(uri)
    elif storage.exists(uri):
        content = _read_shards(uri)
    else:
        raise CheckpointError(f"{uri}: expected a checkpoint file or folder, found nothing there")
    if "trainer" in content:
        return _read_training(content, uri, ema=ema)
    if ema:
        raise CheckpointError(f"{uri}: only training checkpoints hold averaged weights; this file has plain tensors")
    return TransformerFile(tensors=_only_tensors(content, uri))


def _read_training(content: Mapping[str, Any], uri: str, *, ema: bool) -> TransformerFile:
    trainer = content["trainer"]
    keys = _TRAINING_KEYS[ema]
    key = next((key for key in keys if isinstance(trainer, Mapping) and isinstance(trainer.get(key), Mapping)), None)
    if key is None:
        found = shorten(list(map(str, trainer))) if isinstance(trainer, Mapping) else type(trainer).__name__
        raise CheckpointError(
            f"{uri}: expected a training checkpoint with tensors by name under trainer/{keys[0]} or trainer/{keys[1]}, "
            f"found {found}"
        )
    carried = trainer.get("vae_local")
    arguments = content.get("args")
    return TransformerFile(
        tensors=_only_tensors(trainer[key], uri),
        arguments=TrainingArguments() if arguments is None else read_arguments(arguments, where=uri),
        tokenizer=_only_tensors(carried, uri) if isinstance(carried, Mapping) and carried else None,
    )


def read_tokenizer_file(uri: str) -> dict[str, Tensor]:
    """Read the tensors of a tokenizer file, which lie under the key ``vae``.

    Raises:
        CheckpointError: The file is not a tokenizer, or is damaged.
    """
    content = _read_file(uri)
    if TOKENIZER_KEY not in content:
        found = shorten([str(key) for key in content])
        raise CheckpointError(f"{uri}: expected a tokenizer under the key {TOKENIZER_KEY!r}, found the keys {found}")
    tensors = content[TOKENIZER_KEY]
    if not isinstance(tensors, Mapping):
        raise CheckpointError(
            f"{uri}: expected tensors by name under {TOKENIZER_KEY!r}, found {type(tensors).__name__}"
        )
    return _only_tensors(tensors, uri)


def write_pickle(uri: str, content: Mapping[str, Any]) -> None:
    """Write a pickle that ``torch.load(weights_only=True)`` can read.

    Raises:
        StorageError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    storage.write_bytes(uri, buffer.getvalue())


def write_shards(folder: str, tensors: Mapping[str, Tensor], *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write a folder of shards with an index, in the form of the published 8B model.

    Raises:
        StorageError: A file cannot be written.
    """
    shards = list(in_files(tensors, max_shard_bytes))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"pytorch_model-{number:05d}-of-{len(shards):05d}.bin"
        write_pickle(storage.join(folder, file), {name: tensors[name] for name in shard})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    storage.write_text(storage.join(folder, f"pytorch_model.bin{_INDEX_SUFFIX}"), text)


def _read_shards(folder: str) -> dict[str, Any]:
    indices = [file for file in storage.list_files(folder) if file.endswith(_INDEX_SUFFIX)]
    if len(indices) != 1:
        found = shorten([storage.name(file) for file in storage.list_files(folder)])
        raise CheckpointError(f"{folder}: expected one file *{_INDEX_SUFFIX} that lists the shards, found {found}")
    try:
        weight_map = parse_json(storage.read_text(indices[0]), where=indices[0])["weight_map"]
        files = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{indices[0]}: expected JSON with a weight_map of tensor names to files") from error
    tensors: dict[str, Any] = {}
    for file in files:
        if not isinstance(file, str) or "/" in file or "\\" in file:
            raise CheckpointError(f"{indices[0]}: expected shards in the same folder, found {file!r}")
        shard = _read_file(storage.join(storage.parent(indices[0]), file))
        expected = {name for name, place in weight_map.items() if place == file}
        check_names(set(shard), expected, where=storage.join(folder, file))
        tensors |= shard
    return {name: tensors[name] for name in weight_map}


def _read_file(uri: str) -> dict[str, Any]:
    """Read a file of tensors, which are mapped, so that memory is taken by what is looked at.

    A file of a bucket is copied to a local one first, which is gone once the tensors are.
    """
    try:
        with storage.local_copy(uri) as file:
            if not file.is_file():
                raise CheckpointError(f"{uri}: expected a checkpoint file, found nothing there")
            if uri.endswith(".safetensors"):
                return dict(safetensors.torch.load_file(file))
            is_mapped = zipfile.is_zipfile(file)  # older pickles cannot be mapped
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_mapped)
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: expected a checkpoint file, found nothing there") from error
    except (CheckpointError, storage.StorageError):
        raise
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds Python objects beside tensors, which are not loaded since they could run code"
        raise CheckpointError(f"{uri}: not a file of tensors: {reason}") from error
    except Exception as error:  # torch's unpickler raises many types; all of them mean an unusable file
        raise CheckpointError(f"{uri}: damaged file, or not one of tensors ({type(error).__name__})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{uri}: expected a dictionary of tensors, found {type(content).__name__}")
    return dict(content)


def _only_tensors(content: Mapping[str, Any], uri: str) -> dict[str, Tensor]:
    if unnamed := [str(name) for name in content if not isinstance(name, str)]:
        raise CheckpointError(f"{uri}: expected tensors by name, found other keys than texts: {shorten(unnamed)}")
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"{uri}: expected tensors by name, found other values under {shorten(others)}")
    if odd := [f"{name} ({_kind(value)})" for name, value in content.items() if _kind(value)]:
        raise CheckpointError(f"{uri}: expected plain tensors of real numbers, found {shorten(odd)}")
    return dict(content)


def _kind(tensor: Tensor) -> str:
    """Return what makes a tensor another than a plain one of real numbers; empty where it is one."""
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_meta:
        return "without content"
    return "complex" if tensor.is_complex() else ""
