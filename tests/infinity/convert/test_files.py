"""Published files that are no plain tensors by name are refused in one sentence, and nothing in them is run."""

import errno
import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from infinity import storage
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


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_a_file_of_a_bucket_is_copied_to_a_disk_and_never_held_as_a_whole(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tensors = {"a": torch.arange(3_000_000.0), "b": torch.ones(2, 3)}
    name = "model.safetensors" if kind == "safetensors" else "model.pth"
    data = safetensors.torch.save(tensors) if kind == "safetensors" else saved(tensors, is_zip=kind == "zip")
    storage.write_bytes(f"{s3_server}/{kind}/{name}", data)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(storage, "read_bytes", None)
    found = read_transformer_file(f"{s3_server}/{kind}/{name}").tensors
    assert list(tmp_path.iterdir()) == []
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    with pytest.raises(CheckpointError, match=r"none\.pth: expected a checkpoint file, found nothing there"):
        read_transformer_file(f"{s3_server}/{kind}/none.pth")
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_the_copy_is_one_sentence(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(f"{s3_server}/full/model.pth", saved({"a": torch.zeros(9)}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(storage.StorageError, match=r"[Nn]o space left"):
        read_transformer_file(f"{s3_server}/full/model.pth")
    assert list(tmp_path.iterdir()) == []


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
