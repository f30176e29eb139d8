"""Common parts of loading networks from transformers: checked weights, and errors that say what to do."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from infinity import storage
from infinity.config import Config
from infinity.ranges import Count, ModelName
from infinity.storage.pinned import PinnedFile, file_sha256
from infinity.storage.plain_files import check_plain_files

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")


def check_weights(model: str, sha256: str | None) -> None:
    """Compare the weights of a local folder with the expected checksum.

    Args:
        sha256: First 8 to 64 hexadecimal digits of the checksum of its weights file; for several files, the checksum of
            the lines that ``sha256sum *.safetensors`` prints. None checks nothing.

    Raises:
        ValueError: Other weights, or a name that is no local folder, whose file cannot be read before loading.
    """
    if sha256 is None:
        return
    files = _weights_of(Path(model))
    if not files:
        raise ValueError(
            f"{model}: expected a local folder with model.safetensors or pytorch_model.bin, whose sha256 was to be "
            f"{sha256}; download the model first, or leave the checksum out"
        )
    sums = [storage.sha256(str(file)) for file in files]
    lines = "".join(f"{found}  {file.name}\n" for found, file in zip(sums, files, strict=True))
    found = sums[0] if len(files) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    if not found.startswith(sha256):
        where = files[0] if len(files) == 1 else f"{model} ({len(files)} weights files)"
        raise ValueError(f"{where}: expected sha256 {sha256}, found {found}; the file is damaged or another model's")


def model_folder(what: str, model: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """Return the local folder of a model; a hub name is downloaded to the hub's own cache first.

    Args:
        what: Kind of model, for error messages.
        revision: Commit, tag or branch of a hub name; None for the newest. A local folder has none.
        weights: Whether weights are downloaded too, or settings alone.

    Raises:
        ValueError: There is no such folder, and no such hub name that this machine can reach.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{model}: a local folder has no revision, got {revision!r}; leave it out")
        check_plain_files(folder)
        return folder
    # Imported here: only hub names need it.
    from huggingface_hub import snapshot_download

    try:
        wanted = [*_SETTINGS, _WEIGHTS[0]] if weights else [*_SETTINGS]
        found = Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
        if weights and not _weights_of(found):
            found = Path(snapshot_download(model, revision=revision, allow_patterns=[*_SETTINGS, _WEIGHTS[1]]))
    except (OSError, ValueError) as error:
        raise ValueError(explain(what, model, error)) from error
    return found


def folder_digest(folder: Path) -> str:
    """Return 16 hexadecimal digits over all weights and settings in a model's folder."""
    files = {file for pattern in _SETTINGS for file in folder.glob(pattern)} | set(_weights_of(folder))
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.name} {file_sha256(file)}\n".encode())
    return total.hexdigest()[:16]


def read_tensors(file: PinnedFile) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch or safetensors file by name; a training's ``state_dict`` is accepted too.

    Raises:
        ValueError: There is no such file, or it holds other things than tensors; no code in it is run.
        PinnedFileError: The download failed, or the checksum differs.
        StorageError: The file is missing or unreadable.
    """
    path = file.fetch()
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file.uri}: expected a safetensors file ({error})") from error
        except (KeyError, TypeError, RuntimeError) as error:  # of types that torch does not have, and of huge shapes
            raise ValueError(f"{file.uri}: expected a safetensors file ({type(error).__name__})") from error
    try:
        # Files of torch 1.5 and older are no archives, and cannot be mapped into memory.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch's unpickler raises many types; all of them mean an unusable file
        raise ValueError(f"{file.uri}: expected a PyTorch file of tensors ({type(error).__name__}: {error})") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{file.uri}: expected a dictionary of tensors by name, got {type(found).__name__}")
    return dict(found)


def _weights_of(folder: Path) -> list[Path]:
    """Return the files that transformers would load: safetensors if there are any."""
    found: list[Path] = []
    for pattern in _WEIGHTS:
        found = found or sorted(file for file in folder.glob(pattern) if file.is_file())
    return found


def check_complete(network: Any, report: Mapping[str, Any], model: str) -> None:
    """Check that every weight of a network was loaded.

    Args:
        network: Network that was loaded with ``output_loading_info``.
        report: Loading information that came with it.
        model: Name of the model in the error message.

    Raises:
        ValueError: A weight was in no file, so that transformers filled it with random numbers. Constants that a
            network computes itself may be absent, since old files lack some.
    """
    weights = {name for name, _ in network.named_parameters()}
    if missing := sorted(weights & set(report["missing_keys"])):
        raise ValueError(
            f"{model}: expected all weights of a {type(network).__name__}, missing {len(missing)}: "
            f"{', '.join(missing[:5])}; the folder holds another kind of model, or part of one"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedConfig(Config):
    """Configuration that names a network of transformers.

    Attributes:
        model: A local folder or hub name of the network.
        revision: Commit, tag or branch of a hub name; None for the newest.
        sha256: First 8 to 64 digits of the checksum of the weights (see ``loading.check_weights``), or None for no
            check.
        dtype: Data type of weights and arithmetic.
        batch_size: Pictures or texts per batch.
    """

    model: ModelName
    revision: str | None = None
    sha256: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_size: Count = 32


def load_pretrained(
    what: str, config: PretrainedConfig, processors: Any, networks: Any, **options: Any
) -> tuple[Any, Any]:
    """Return processor and network of a folder of transformers.

    Args:
        what: Kind of model, for error messages.
        config: Configuration that names the model.

    Raises:
        ValueError: There is no such model, its weights are not the expected ones, or tensors are missing.
    """
    folder = model_folder(what, config.model, config.revision)
    check_weights(str(folder), config.sha256)
    try:
        # The Pillow processor on every machine, since torchvision's resizes with other rounding.
        processor = processors.from_pretrained(folder, backend="pil", **options)
        network, report = networks.from_pretrained(folder, dtype=getattr(torch, config.dtype), output_loading_info=True)
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        raise ValueError(explain(what, config.model, error)) from error
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{config.model}: expected all tensors of a {what}, missing {', '.join(missing[:5])}")
    return processor, network


def tokenizer_folder(model: str) -> Path:
    """Return the local folder of a tokenizer; a hub name is downloaded first, without the weights beside it.

    Raises:
        ValueError: There is no such folder, and no such hub name that this machine can reach.
    """
    return model_folder("tokenizer", model, weights=False)


def load_tokenizer(model: str) -> Any:
    """Return a tokenizer of transformers.

    Raises:
        ValueError: There is no tokenizer.
    """
    # Imported here: transformers takes seconds to import.
    from transformers import AutoTokenizer

    folder = tokenizer_folder(model)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        raise ValueError(explain("tokenizer", model, error)) from error


def build(
    kind: Any,
    config: Any,
    tensors: Mapping[str, Tensor],
    where: str,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Any:
    """Return a network of transformers with exactly the given tensors.

    Args:
        tensors: Tensors by the network's names.
        where: Name of their source in error messages.
        dtype: Data type of the network.

    Raises:
        ValueError: Tensors are missing, unknown or of other shapes.
    """
    try:
        network, report = kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), dtype=dtype, output_loading_info=True, **options
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{where}: these tensors are not those of a {kind.__name__}: {error}") from error
    weights = {name for name, _ in network.named_parameters()}
    if missing := sorted(weights & set(report["missing_keys"])):
        raise ValueError(f"{where}: a {kind.__name__} has {len(missing)} tensors more: {', '.join(missing[:5])}")
    if unknown := sorted(report["unexpected_keys"]):
        raise ValueError(f"{where}: a {kind.__name__} has no {', '.join(unknown[:5])} ({len(unknown)} unknown)")
    return network


def shape_of(tensors: Mapping[str, Tensor], name: str, num_axes: int, where: str) -> tuple[int, ...]:
    """Return the shape of a tensor that must exist.

    Raises:
        ValueError: The tensor is missing or has another number of axes.
    """
    if name not in tensors:
        some = ", ".join(sorted(tensors)[:5]) or "none"
        raise ValueError(f"{where}: expected a tensor {name}, found none among {len(tensors)} ({some}, ...)")
    shape = tuple(tensors[name].shape)
    if len(shape) != num_axes:
        raise ValueError(f"{where}: expected {num_axes} axes of {name}, found the shape {shape}")
    return shape


def explain(what: str, model: str, error: Exception) -> str:
    """Return the error message for a network that could not be loaded."""
    place = "folder" if Path(model).is_dir() else "hub name (or a folder that does not exist)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"no {what} could be loaded from the {place} {model!r}: {reason}. Expected a folder with config.json, "
        "model.safetensors and the files of its processor, or a hub name that this machine can reach"
    )
