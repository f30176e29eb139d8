"""Files of tensors that lie about themselves are refused with a sentence, however right their checksums are."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from infinity.config import Config

ONE: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def safetensors(header: Any, data: bytes = bytes(4), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def with_file(folder: Path, data: bytes, **changes: Any) -> str:
    """A finished checkpoint whose one file of tensors holds these bytes, with right checksums."""
    save_checkpoint(str(folder), kind="toy", config=Config(), tensors={"a": torch.zeros(1)})
    about = json.loads((folder / "config.json").read_bytes()) | changes
    files = {"config.json": json.dumps(about).encode(), "model.safetensors": data}
    listed = {"files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}}
    checksums = json.dumps(listed).encode()
    files |= {"checksums.json": checksums, "COMMITTED": (hashlib.sha256(checksums).hexdigest()[:16] + "\n").encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", safetensors(b""), safetensors(b"{"), safetensors([]), safetensors(b"[" * 100_000),
        safetensors({"a": ONE}, length=2**60), safetensors({"a": ONE}, data=b""),
        safetensors({"a": ONE | {"shape": [-1]}}), safetensors({"a": ONE | {"shape": [2**62, 4]}}),
        safetensors({"a": ONE, "b": ONE | {"data_offsets": [2, 6]}}, bytes(6)),
        safetensors({"a": ONE | {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, bytes(3)),
        safetensors({"a": ONE | {"dtype": "F6_E3M2", "shape": [4], "data_offsets": [0, 3]}}, bytes(3)),
        safetensors({"a": ONE | {"dtype": "float32"}}),
    ],
)  # fmt: skip
def test_a_file_that_is_no_safetensors_file_or_has_types_unknown_to_torch_is_refused(
    tmp_path: Path, data: bytes
) -> None:
    with pytest.raises(CheckpointError, match=r"damaged checkpoint: model.safetensors is not a safetensors file"):
        load_checkpoint(with_file(tmp_path / "a", data))


@pytest.mark.parametrize(
    ("described", "found"),
    [({"shape": [2]}, r"\(1,\)"), ({"shape": [1, 1]}, r"\(1,\)"), ({"dtype": "bfloat16"}, "torch.float32")],
)
@pytest.mark.parametrize("last", [None, "all"])
def test_a_tensor_is_what_its_description_says(
    tmp_path: Path, described: dict[str, Any], found: str, last: str | None
) -> None:
    piece: dict[str, Any] = {"dtype": "float32", "shape": [1]} | described
    pieces = {"a": {**piece, "places": [["model.safetensors", 0, None if last is None else piece["shape"][0]]]}}
    uri = with_file(tmp_path / "a", safetensors({"a": ONE}), format=2, pieces=pieces)
    with pytest.raises(CheckpointError, match=rf"'a' in model.safetensors.*found .*{found}|not all there"):
        load_checkpoint(uri)
