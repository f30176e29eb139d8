"""What all networks from transformers share when they are loaded: checked weights, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

from infinity import storage

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def check_weights(model: str, sha256: str | None) -> None:
    """Compare the weights of a local folder with the checksum that is expected.

    Args:
        model: The folder.
        sha256: First 8 to 64 hexadecimal digits; None checks nothing.

    Raises:
        ValueError: Other weights, or a name that is no local folder, whose file cannot be looked at before loading.
    """
    if sha256 is None:
        return
    files = [path for name in _WEIGHTS if (path := Path(model) / name).is_file()]
    if not files:
        raise ValueError(
            f"{model}: expected a local folder with {' or '.join(_WEIGHTS)}, whose sha256 was to be {sha256}; "
            "download the model first, or leave the checksum out"
        )
    found = storage.sha256(str(files[0]))
    if not found.startswith(sha256):
        raise ValueError(f"{files[0]}: expected sha256 {sha256}, found {found}; the file is damaged or another model's")


def explain(what: str, model: str, error: Exception) -> str:
    """The sentence for a network that could not be loaded."""
    place = "folder" if Path(model).is_dir() else "hub name (or a folder that does not exist)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"no {what} could be loaded from the {place} {model!r}: {reason}. Expected a folder with config.json, "
        "model.safetensors and the files of its processor, or a hub name that this machine can reach"
    )
