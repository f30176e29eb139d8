"""A file of tensors may name a shape that nothing can have, without a byte of content; every reader says so."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infinity.checkpoint import load_checkpoint
from infinity.convert.files import read_transformer_file
from infinity.perception.loading import read_tensors
from infinity.storage.pinned import PinnedFile
from infinity.transformer.adapters.lora_files import load_adapter


def write(folder: Path, shape: list[int]) -> str:
    """A checkpoint folder, whose file of tensors the other readers take by itself."""
    head = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    about = {"format": 1, "kind": "toy", "config": {}, "extra": {}}
    files = {"model.safetensors": struct.pack("<Q", len(head)) + head, "config.json": json.dumps(about).encode()}
    sums = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    files["checksums.json"] = json.dumps({"files": sums}).encode()
    files["COMMITTED"] = (hashlib.sha256(files["checksums.json"]).hexdigest()[:16] + "\n").encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return str(folder)


READERS: dict[str, Callable[[str], Any]] = {
    "checkpoint": load_checkpoint,
    "published": lambda folder: read_transformer_file(f"{folder}/model.safetensors"),
    "network": lambda folder: read_tensors(PinnedFile(uri=f"{folder}/model.safetensors")),
    "adapter": lambda folder: load_adapter(f"{folder}/model.safetensors"),
}


@pytest.mark.parametrize("shape", [[0, 2**63], [0, 2**64 - 1]])
@pytest.mark.parametrize("reader", READERS)
def test_a_shape_beyond_all_numbers_is_one_sentence(reader: str, shape: list[int], tmp_path: Path) -> None:
    folder = write(tmp_path, shape)
    with pytest.raises(ValueError, match=r"model\.safetensors") as error:
        READERS[reader](folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
