"""Inception features equal those of torch-fidelity for the same weights."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from infinity.checkpoint import CheckpointError
from infinity.evaluation.fid.inception import Inception
from infinity.evaluation.fid.inception_weights import InceptionWeights, WeightsError, load_inception
from infinity.evaluation.fid.preparation import PREPARATIONS, resize_tf1
from tests.fixtures.models.inception_recipe import recipe_tensors


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "goldens/eval/fid"


@pytest.fixture(scope="module")
def golden(folder: Path) -> Any:
    return np.load(folder / "inception_features.npz")


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return recipe_tensors()


def picture(folder: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(folder / "images" / name).convert("RGB")))[None]


@pytest.mark.reference
def test_every_parameter_has_the_published_name_and_the_recipes_values(
    folder: Path, tensors: dict[str, torch.Tensor]
) -> None:
    checks = json.loads((folder / "weight_checks.json").read_text())
    assert {name for name in tensors if not name.endswith("num_batches_tracked")} == set(checks)
    for name, check in checks.items():
        assert list(tensors[name].shape) == check["shape"], name
        assert zlib.crc32(tensors[name].numpy().astype("<f4").tobytes()) == check["crc32"], name


@pytest.mark.reference
def test_resize_equals_tensorflow_1(folder: Path, golden: Any) -> None:
    for row, name in enumerate(golden["names"]):
        resized = resize_tf1(picture(folder, name).permute(0, 3, 1, 2).float(), 299)
        probe = resized[0][:, golden["probe_rows"]][:, :, golden["probe_cols"]].numpy()
        np.testing.assert_allclose(probe, golden["tf1_probe"][row], atol=2e-5, err_msg=name)


@pytest.mark.reference
def test_features_equal_torch_fidelity(folder: Path, golden: Any, tensors: dict[str, torch.Tensor]) -> None:
    network = Inception()
    network.load_state_dict(tensors)
    for row in (3, 4, 5):  # the small, the grey and the transparent picture: the rest takes the same path
        with torch.no_grad():
            found = network(PREPARATIONS["tf1"](picture(folder, golden["names"][row])))
        pairs = {
            "64": found.features_64,
            "192": found.features_192,
            "768": found.features_768,
            "2048": found.features_2048,
            "logits": found.logits,
            "logits_unbiased": found.logits_without_bias,
        }
        for name, value in pairs.items():
            expected = golden[f"tf1_fp64_{name}"][row]
            error = np.abs(value[0].numpy() - expected).max() / np.abs(expected).max()
            assert error < 1e-5, (name, golden["names"][row])


def test_resize_to_the_same_size_changes_nothing() -> None:
    image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resize_tf1(image, 20), image, rtol=0, atol=0)


def test_weights_file_is_loaded_when_its_checksum_agrees(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    without_counters = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "weights.pth"
    torch.save(without_counters, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load_inception(InceptionWeights(uri=str(path), sha256=digest))
    assert not loaded.training
    torch.testing.assert_close(loaded.fc.weight.detach(), tensors["fc.weight"])
    with pytest.raises(WeightsError, match="expected sha256 00000000"):
        load_inception(InceptionWeights(uri=str(path), sha256="0" * 8))
    torch.save({k: v for k, v in without_counters.items() if k != "fc.bias"}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    with pytest.raises(CheckpointError, match=r"fc\.bias"):
        load_inception(InceptionWeights(uri=str(path), sha256=digest))


def test_something_else_than_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not a PyTorch file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match="PyTorch file"):
        load_inception(InceptionWeights(uri=str(path), sha256=digest))
    with pytest.raises(ValueError, match="hexadecimal"):
        InceptionWeights(uri=str(path), sha256="ABC")


def test_missing_download_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(method: str, url: str, **kwargs: Any) -> None:
        raise httpx.ConnectError("no route to host")

    monkeypatch.setattr(httpx, "stream", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match="give its path instead"):
        load_inception(InceptionWeights())
