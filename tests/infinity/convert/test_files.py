"""Published files that are no plain tensors by name are refused in one sentence, and nothing in them is run."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity.checkpoint import CheckpointError
from infinity.convert.files import read_tokenizer_file, read_transformer_file


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.touched),)


def saved(content: Any, *, is_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("where", ["alone", "vae", "key"])
def test_a_pickle_that_would_run_a_command_is_refused_without_running_it(
    tmp_path: Path, where: str, is_zip: bool
) -> None:
    evil = Hostile(tmp_path / "touched")
    content = {"alone": evil, "vae": {"vae": {"a": evil}}, "key": {"vae": torch.zeros(1), "b": [evil]}}[where]
    for number, data in enumerate((saved(content, is_zip=is_zip), pickle.dumps(content))):
        file = tmp_path / f"{number}.pth"
        file.write_bytes(data)
        for read in (read_tokenizer_file, read_transformer_file):
            with pytest.raises(CheckpointError, match=str(file)):
                read(str(file))
    assert not (tmp_path / "touched").exists()


CUT = b"\x80\x02"


@pytest.mark.parametrize(
    "data",
    [b"", b".", b"hello", CUT + b"h\x05.", CUT + b"(" * 100_000 + b".", CUT + b"\x8b\xff\xff\xff\x7f",
     CUT + b"0.", b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",
     saved({"a": torch.zeros(9)})[:-40], saved({"vae": 1}, is_zip=False)[:-3]],
)  # fmt: skip
def test_damaged_pickles_of_any_kind_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"a\.pth: .*(damaged|not a file of tensors)"):
        read_tokenizer_file(str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({1: torch.zeros(1)}, "other keys than texts: 1"),
        ({("a",): torch.zeros(1)}, "other keys than texts"),
        ({"a": 3}, "other values under a"),
        ({"a": torch.zeros(2, 2).to_sparse()}, r"a \(sparse\)"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, r"a \(complex\)"),
        ({"a": torch.zeros(2, device="meta")}, r"a \(without content\)"),
    ],
)
def test_only_plain_tensors_by_name_are_weights(tmp_path: Path, tensors: dict[Any, Any], found: str) -> None:
    torch.save(tensors, tmp_path / "model.pth")
    torch.save({"vae": tensors}, tmp_path / "vae.pth")
    with pytest.raises(CheckpointError, match=found):
        read_transformer_file(str(tmp_path / "model.pth"))
    with pytest.raises(CheckpointError, match=found):
        read_tokenizer_file(str(tmp_path / "vae.pth"))
