"""Inspect the folder of a T5 without loading it, and fingerprint its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from infinity.config import ConfigError, parse_json
from infinity.storage import absolute
from infinity.storage.plain_files import check_plain_files

_HUB_NAMES_WITHOUT_OWNER = ("t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b")
_KINDS = ("t5", "mt5", "umt5")
_TOKENIZER_FILES = ("spiece.model", "tokenizer.json")
_MEANING = ("model_type", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size", "feed_forward_proj")
"""Fields of a T5's configuration that change what its weights compute."""
_SAMPLED_ROWS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundT5:
    """Facts of a T5's folder, found without loading it.

    Attributes:
        folder: Absolute path.
        fingerprint: Digest of the shape and of some rows of all weights, rounded to bfloat16, so that it is the same
            for all data types and places of the files. None where no row can be read.
    """

    folder: str
    channels: int
    fingerprint: str | None


def place_of(model: str) -> str:
    """Return a folder as an absolute path, and a hub name unchanged.

    Args:
        model: Local folder, or hub name such as "google/flan-t5-xl".

    Raises:
        ValueError: There is no folder at the path.
    """
    path = Path(model)
    if path.is_dir():
        return absolute(model)
    parts = model.split("/")
    is_hub_name = len(parts) == 2 and all(parts) and not Path(parts[0]).exists() and parts[0] not in ("~", ".", "..")
    if is_hub_name or model in _HUB_NAMES_WITHOUT_OWNER:
        return model
    raise ValueError(
        f"text model {model!r:.200}: expected a folder with a T5, or a hub name such as 'google/flan-t5-xl', found no "
        "such folder"
    )


def look_at(model: str) -> FoundT5 | None:
    """Inspect a local folder, or a hub name that was downloaded before; None for a hub name that was not.

    Raises:
        ValueError: The folder lacks a T5, its weights or its tokenizer.
    """
    folder = Path(model) if Path(model).is_dir() else _downloaded(model)
    if folder is None:
        return None
    check_plain_files(folder)
    try:
        config = parse_json((folder / "config.json").read_bytes(), where=str(folder / "config.json"))
    except (OSError, ConfigError) as error:
        raise ValueError(f"text model {folder}: expected a config.json of a T5 ({error})") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _KINDS:
        raise ValueError(f"text model {folder}: expected a T5, found a model of type {kind!r:.80}")
    channels = config.get("d_model")
    if type(channels) is not int or channels < 1:
        raise ValueError(f"text model {folder}: expected its channels under d_model, found {channels!r:.80}")
    if not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        raise ValueError(f"text model {folder}: expected weights (*.safetensors or pytorch_model*.bin), found none")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ValueError(f"text model {folder}: expected {' or '.join(_TOKENIZER_FILES)}, found neither")
    return FoundT5(folder=str(folder.absolute()), channels=channels, fingerprint=_fingerprint(folder, config))


def _downloaded(model: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model, "config.json")
    except ValueError:  # not a valid hub name
        return None
    return Path(found).parent if isinstance(found, str) else None


def _fingerprint(folder: Path, config: dict[str, Any]) -> str | None:
    samples = _samples(folder)
    if not samples:
        return None
    about = {name: config.get(name) for name in _MEANING}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, rows in sorted(samples.items()):
        digest.update(name.encode())
        digest.update(rows.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _samples(folder: Path) -> dict[str, torch.Tensor]:
    """Read the first rows of every weight of the encoder; nothing where files cannot be read in part."""
    found: dict[str, torch.Tensor] = {}
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                found |= {name: opened.get_slice(name)[:_SAMPLED_ROWS] for name in opened.keys() if _says(name)}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{file}: expected a safetensors file ({error})") from error
        except (KeyError, TypeError, RuntimeError) as error:  # of types that torch does not have, and of huge shapes
            raise ValueError(f"{file}: expected a safetensors file ({type(error).__name__})") from error
    for file in [] if files else sorted(folder.glob("pytorch_model*.bin")):
        try:
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # of many types: an older format, which cannot be memory-mapped, or no file of tensors
            return {}
        weights = tensors.items() if isinstance(tensors, dict) else ()
        found |= {
            name: weight[:_SAMPLED_ROWS].clone()
            for name, weight in weights
            if _says(name) and isinstance(weight, torch.Tensor)
        }
    return found


def _says(name: object) -> bool:
    """Return whether a weight is the encoder's; files may also hold a decoder, and a second name of the embedding."""
    if not isinstance(name, str):
        return False
    return name == "shared.weight" or (name.startswith("encoder.") and name != "encoder.embed_tokens.weight")
