"""What all networks from transformers share when they are loaded: checked weights, and errors that say what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from infinity import storage

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")


def check_weights(model: str, sha256: str | None) -> None:
    """Compare the weights of a local folder with the checksum that is expected.

    Args:
        model: The folder.
        sha256: First 8 to 64 hexadecimal digits of the checksum of its weights file; of several files, that of the
            lines which ``sha256sum *.safetensors`` prints. None checks nothing.

    Raises:
        ValueError: Other weights, or a name that is no local folder, whose file cannot be looked at before loading.
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


def model_folder(what: str, model: str, revision: str | None = None) -> Path:
    """The local folder of a model; a hub name is downloaded to the hub's own cache first.

    Args:
        what: Kind of model, for messages.
        model: A local folder or a hub name.
        revision: Commit, tag or branch of a hub name; None for the newest. A local folder has none.

    Raises:
        ValueError: No such folder, and no such name that this machine can reach.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{model}: a local folder has no revision, got {revision!r}; leave it out")
        return folder
    # Imported here: only hub names need it.
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(model, revision=revision, allow_patterns=[*_SETTINGS, _WEIGHTS[0]]))
        if not _weights_of(found):
            found = Path(snapshot_download(model, revision=revision, allow_patterns=[*_SETTINGS, _WEIGHTS[1]]))
    except (OSError, ValueError) as error:
        raise ValueError(explain(what, model, error)) from error
    return found


def folder_digest(folder: Path) -> str:
    """16 hexadecimal digits over everything in a model's folder that decides its answers: weights and settings."""
    files = {file for pattern in _SETTINGS for file in folder.glob(pattern)} | set(_weights_of(folder))
    total = hashlib.sha256()
    for file in sorted(files):
        about = file.stat()
        total.update(f"{file.name} {_sha256(str(file), about.st_size, about.st_mtime_ns)}\n".encode())
    return total.hexdigest()[:16]


@cache
def _sha256(path: str, num_bytes: int, changed_ns: int) -> str:
    return storage.sha256(path)


def _weights_of(folder: Path) -> list[Path]:
    """The files that transformers would load: safetensors where there are some."""
    found: list[Path] = []
    for pattern in _WEIGHTS:
        found = found or sorted(file for file in folder.glob(pattern) if file.is_file())
    return found


def check_complete(network: Any, report: Mapping[str, Any], model: str) -> None:
    """Compare what was loaded with what the network has.

    Args:
        network: Loaded with ``output_loading_info``.
        report: What came with it.
        model: Name in the error message.

    Raises:
        ValueError: A weight that no file had, which transformers fills with random numbers. Constants that a network
            computes itself may be absent: old files lack some.
    """
    weights = {name for name, _ in network.named_parameters()}
    if missing := sorted(weights & set(report["missing_keys"])):
        raise ValueError(
            f"{model}: expected all weights of a {type(network).__name__}, missing {len(missing)}: "
            f"{', '.join(missing[:5])}; the folder holds another kind of model, or part of one"
        )


def explain(what: str, model: str, error: Exception) -> str:
    """The sentence for a network that could not be loaded."""
    place = "folder" if Path(model).is_dir() else "hub name (or a folder that does not exist)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"no {what} could be loaded from the {place} {model!r}: {reason}. Expected a folder with config.json, "
        "model.safetensors and the files of its processor, or a hub name that this machine can reach"
    )
