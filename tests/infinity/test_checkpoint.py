"""Checkpoint folders: whole or not at all."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from infinity import storage
from infinity.checkpoint import (
    CheckpointError,
    is_committed,
    load_checkpoint,
    load_weights,
    read_kind_and_config,
    save_checkpoint,
)
from infinity.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyConfig(Config):
    """Configuration of the toy model of these tests."""

    num_bits: int = 8


def tensors(num_bits: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, num_bits, generator=generator)
    return {"weight": weight, "bias": torch.arange(4.0).bfloat16(), "counter": torch.tensor(3)}


def save(uri: str) -> str:
    return save_checkpoint(uri, kind="toy", config=ToyConfig(), tensors=tensors(), extra={"step": 7})


@pytest.fixture(params=["local", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_server')}/models/one"
    return str(tmp_path / "one") if request.param == "local" else (tmp_path / "one").as_uri()


def test_loading_gives_back_what_was_saved(place: str) -> None:
    digest = save(place)
    checkpoint = load_checkpoint(place, kind="toy")
    assert (checkpoint.kind, checkpoint.extra, checkpoint.digest) == ("toy", {"step": 7}, digest)
    assert ToyConfig.from_json(checkpoint.config) == ToyConfig()
    assert checkpoint.tensors.keys() == tensors().keys()
    for name, value in tensors().items():
        assert checkpoint.tensors[name].dtype == value.dtype
        assert torch.equal(checkpoint.tensors[name], value)
    assert read_kind_and_config(place) == ("toy", {"num_bits": 8})


def test_equal_content_has_equal_digests_and_other_content_another(tmp_path: Path) -> None:
    first, second = save(str(tmp_path / "a")), save(str(tmp_path / "b"))
    changed = tensors() | {"counter": torch.tensor(4)}
    third = save_checkpoint(str(tmp_path / "c"), kind="toy", config=ToyConfig(), tensors=changed, extra={"step": 7})
    assert first == second != third


def test_tensors_may_fill_several_files(tmp_path: Path) -> None:
    uri = str(tmp_path / "one")
    save_checkpoint(uri, kind="toy", config=ToyConfig(), tensors=tensors(), max_file_bytes=100)
    assert sum(file.endswith(".safetensors") for file in storage.list_files(uri)) == 2
    assert torch.equal(load_checkpoint(uri).tensors["weight"], tensors()["weight"])


def test_views_of_one_memory_are_saved_apart(tmp_path: Path) -> None:
    memory = torch.arange(6.0)
    views = {"a": memory[:3], "b": memory[2:], "whole": memory, "turned": memory.view(2, 3).T}
    save_checkpoint(str(tmp_path), kind="toy", config=ToyConfig(), tensors=views)
    loaded = load_checkpoint(str(tmp_path)).tensors
    assert all(torch.equal(loaded[name], value) for name, value in views.items())


def test_the_marker_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write_bytes = storage.write_bytes

    def record(uri: str, data: bytes, **options: bool) -> None:
        written.append(uri)
        write_bytes(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", record)
    save(str(tmp_path))
    assert written[-1].endswith("COMMITTED")
    assert len(written) == 4


@pytest.mark.parametrize("broken_file", ["config.json", "model.safetensors", "checksums.json", "COMMITTED"])
def test_an_interrupted_save_leaves_no_finished_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_file: str
) -> None:
    save(str(tmp_path))  # an older one is there; it must not be taken for the new one either
    write_bytes = storage.write_bytes

    def fail(uri: str, data: bytes) -> None:
        if uri.endswith(broken_file):
            raise storage.StorageError("no space left on device")
        write_bytes(uri, data)

    monkeypatch.setattr(storage, "write_bytes", fail)
    monkeypatch.setattr(storage, "write_text", lambda uri, text: fail(uri, text.encode()))
    with pytest.raises(storage.StorageError, match="no space left"):
        save(str(tmp_path))
    assert not is_committed(str(tmp_path))
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        load_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "checksums.json"])
def test_a_changed_byte_is_a_clear_error(place: str, name: str) -> None:
    save(place)
    file = storage.join(place, name)
    data = bytearray(storage.read_bytes(file))
    data[len(data) // 2] ^= 1
    storage.write_bytes(file, bytes(data))
    with pytest.raises(CheckpointError, match=f"damaged checkpoint: {name}"):
        load_checkpoint(place)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "checksums.json"])
def test_a_missing_or_truncated_file_is_a_clear_error(tmp_path: Path, name: str) -> None:
    save(str(tmp_path))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match=f"damaged checkpoint: {name}"):
        load_checkpoint(str(tmp_path))
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"damaged checkpoint: {name} is missing"):
        load_checkpoint(str(tmp_path))


def test_nothing_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found nothing there"):
        load_checkpoint(str(tmp_path / "nowhere"))


def test_another_kind_is_a_clear_error(tmp_path: Path) -> None:
    save(str(tmp_path))
    with pytest.raises(CheckpointError, match="kind 'tokenizer', found 'toy'"):
        load_checkpoint(str(tmp_path), kind="tokenizer")


def test_another_format_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity.checkpoint.writing.FORMAT", 3)
    save(str(tmp_path))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 1 or 2, found 3"):
        load_checkpoint(str(tmp_path))


def test_a_copied_folder_is_a_checkpoint(tmp_path: Path, s3_server: str) -> None:
    digest = save(str(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    storage.upload_folder(tmp_path / "two", f"{s3_server}/three")
    assert load_checkpoint(f"{s3_server}/three").digest == load_checkpoint(str(tmp_path / "two")).digest == digest


def test_the_description_is_readable(tmp_path: Path) -> None:
    save(str(tmp_path))
    about = json.loads((tmp_path / "config.json").read_text())
    assert about == {"format": 1, "kind": "toy", "config": {"num_bits": 8}, "extra": {"step": 7}}


class TestLoadWeights:
    """Into a module, strictly."""

    def test_values_are_copied_and_types_kept(self) -> None:
        module = nn.Linear(8, 4)
        values = {"weight": torch.randn(4, 8).bfloat16(), "bias": torch.ones(4)}
        load_weights(module, values, where="test")
        assert module.weight.dtype == torch.float32
        assert torch.equal(module.weight, values["weight"].float())

    def test_missing_and_unknown_tensors_are_all_named(self) -> None:
        with pytest.raises(CheckpointError, match=r"model\.pth: .*missing bias; unknown gain, other"):
            load_weights(
                nn.Linear(8, 4),
                {"weight": torch.zeros(4, 8), "other": torch.zeros(1), "gain": torch.zeros(1)},
                where="model.pth",
            )

    def test_another_bit_width_names_both_shapes(self) -> None:
        with pytest.raises(CheckpointError, match=r"weight of shape \(4, 16\), expected \(4, 8\).*bit width"):
            load_weights(nn.Linear(8, 4), {"weight": torch.zeros(4, 16), "bias": torch.zeros(4)}, where="model.pth")

    def test_nothing_is_changed_by_a_refused_load(self) -> None:
        module = nn.Linear(8, 4)
        before = module.weight.detach().clone()
        with pytest.raises(CheckpointError):
            load_weights(module, {"weight": torch.zeros(4, 8)}, where="test")
        assert torch.equal(module.weight, before)

    def test_a_long_list_of_names_is_shortened(self) -> None:
        with pytest.raises(CheckpointError, match="and 28 more"):
            load_weights(nn.Sequential(*(nn.Linear(1, 1) for _ in range(20))), {}, where="test")
