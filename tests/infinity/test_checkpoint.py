"""Checkpoint folders: whole or not at all."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from infinity import storage
from infinity.checkpoint import (
    CheckpointError,
    build,
    is_committed,
    load_checkpoint,
    load_weights,
    read_kind_and_config,
    save_checkpoint,
    writing,
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


DTYPES = list(writing._DTYPES)


@pytest.mark.parametrize("shift", range(len(DTYPES)))
def test_files_are_those_of_the_safetensors_library(shift: int) -> None:
    values = {}
    for number, shape in enumerate([(3, 4), (), (0, 5), (7,), (2, 1, 3)]):
        dtype = DTYPES[(3 * number + shift) % len(DTYPES)]
        values[f'"é{number * 7 % 5}.w'] = (torch.rand(shape) * 5).to(dtype)
    values["rows"] = torch.rand(6, 4)[2:4]
    assert b"".join(writing.serialized(values)) == safetensors.torch.save({n: t.clone() for n, t in values.items()})


def test_a_type_that_the_format_lacks_is_named() -> None:
    with pytest.raises(CheckpointError, match="phase: expected a data type of safetensors, found"):
        b"".join(writing.serialized({"phase": torch.zeros(2, dtype=torch.complex128)}))


def test_a_large_file_is_written_tensor_by_tensor_and_is_the_same(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = save(place)
    monkeypatch.setattr(writing, "STREAMED_FROM_BYTES", 0)
    assert save(place) == digest
    assert load_checkpoint(place).digest == digest


def test_a_large_file_that_cannot_be_written_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "STREAMED_FROM_BYTES", 0)
    monkeypatch.setattr(writing, "serialized", lambda tensors: iter([b"head", None]))
    with pytest.raises(TypeError):
        save(str(tmp_path / "one"))
    assert not is_committed(str(tmp_path / "one"))
    assert [path.name for path in (tmp_path / "one").iterdir()] == []


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

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    def test_weights_that_are_not_finite_are_named(self, dtype: torch.dtype, number: float) -> None:
        if dtype == torch.float8_e4m3fn:
            number = float("nan")  # it has no infinity
        bias = torch.zeros(4)
        bias[2] = number
        with pytest.raises(CheckpointError, match=r"model\.pth: .*found NaN or infinity in bias"):
            load_weights(nn.Linear(8, 4), {"weight": torch.zeros(4, 8), "bias": bias.to(dtype)}, where="model.pth")

    def test_a_module_gets_memory_only_when_its_tensors_fit(self) -> None:
        made: list[torch.device] = []

        def make() -> nn.Linear:
            module = nn.Linear(8, 4)
            made.append(module.weight.device)
            return module

        with pytest.raises(CheckpointError, match="missing bias"):
            build(make, {"weight": torch.zeros(4, 8)}, where="test")
        assert made == [torch.device("meta")]
        built = build(make, {"weight": torch.ones(4, 8), "bias": torch.zeros(4)}, where="x")
        assert float(built.weight.detach().sum()) == 32.0


GOOD = {"format": 1, "kind": "toy", "config": {"num_bits": 8}, "extra": {}}
PIECE = {"dtype": "float32", "shape": [4, 8], "places": [["model.safetensors", 0, 4]]}


def write_folder(folder: Path, about: Any, files: Any = None) -> None:
    """A folder with right checksums, whatever it says."""
    data = {
        "config.json": about if isinstance(about, bytes) else json.dumps(about).encode(),
        "model.safetensors": safetensors.torch.save({"weight": torch.ones(4, 8)}),
    }
    listed = {name: {"sha256": hashlib.sha256(each).hexdigest(), "bytes": len(each)} for name, each in data.items()}
    data["checksums.json"] = json.dumps({"files": listed} if files is None else files(listed)).encode()
    data["COMMITTED"] = hashlib.sha256(data["checksums.json"]).hexdigest()[:16].encode()
    for name, each in data.items():
        (folder / name).write_bytes(each)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (GOOD | {"kind": 7}, "expected a text under 'kind', found int 7"),
        (GOOD | {"kind": None}, "expected a text under 'kind'"),
        (GOOD | {"config": []}, "expected an object under 'config', found list"),
        (GOOD | {"extra": None}, "expected an object under 'extra', found NoneType None"),
        (GOOD | {"format": True}, "expected checkpoint format 1 or 2, found True"),
        (GOOD | {"format": "1"}, "expected checkpoint format 1 or 2"),
        (GOOD | {"format": 2}, "expected an object under 'pieces', found nothing"),
        (GOOD | {"format": 2, "pieces": {"weight": 3}}, "tensor 'weight': expected a shape"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"shape": [-1]}}}, "expected a shape"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"dtype": "nn"}}}, "expected one of the types"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"dtype": [1]}}}, "expected one of the types"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"places": []}}}, "expected the places of its rows"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"places": [[0, 1]]}}}, r"expected places \[file"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"places": [["x.safetensors", 0, 4]]}}}, "one of the files"),
        (GOOD | {"format": 2, "pieces": {"weight": PIECE | {"places": [["model.safetensors", 0, 2]]}}}, "of all rows"),
        (GOOD | {"format": 2, "pieces": {"gain": PIECE}}, "expected the tensor 'gain' in model.safetensors"),
        ([1], "expected an object that describes a checkpoint"),
        (b"[" * 100_000, "at most 100 brackets"),
        (b'{"format": NaN}', "found NaN"),
    ],
)
def test_an_odd_description_is_one_sentence_that_names_the_place(tmp_path: Path, about: Any, message: str) -> None:
    write_folder(tmp_path, about)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (lambda listed: [], "expected an object whose 'files' list"),
        (lambda listed: {"files": 3}, "expected an object whose 'files' list"),
        (lambda listed: {"files": {}}, "expected an object whose 'files' list config.json"),
        (lambda listed: {"files": listed | {"../x.safetensors": listed["config.json"]}}, "names of files in the same"),
        (
            lambda listed: {"files": listed | {"/etc/x.safetensors": listed["config.json"]}},
            "names of files in the same",
        ),
        (lambda listed: {"files": listed | {"config.json": None}}, "expected a sha256 of 'config.json'"),
        (lambda listed: {"files": listed | {"config.json": {"sha256": 3}}}, "expected a sha256"),
    ],
)
def test_an_odd_list_of_files_is_one_sentence(tmp_path: Path, files: Any, message: str) -> None:
    write_folder(tmp_path, GOOD, files)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(tmp_path))
