"""LPIPS: laws of a distance, gradients, published names, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from infinity.checkpoint import CheckpointError
from infinity.perception.lpips import PUBLISHED, Lpips, LpipsConfig, Trunk, load_lpips
from infinity.storage.pinned import PinnedFile, PinnedFileError

SIZES: dict[Trunk, int] = {"vgg16": 16, "alexnet": 31}


def random_tensors(trunk: Trunk) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """As torchvision and LPIPS name them, with layers of the classifier that are not used."""
    network, generator = Lpips(trunk), torch.Generator().manual_seed(0)
    found = []
    for part in (network.trunk, network.linear):
        tensors = {name: torch.randn(value.shape, generator=generator) for name, value in part.state_dict().items()}
        for value in tensors.values():
            value.mul_(2**0.5 / value[0].numel() ** 0.5 if value.ndim > 1 else 0.1)
        found.append(tensors)
    judgements = {name: value.abs() for name, value in found[1].items()}
    return {**found[0], "classifier.0.weight": torch.zeros(2, 2)}, judgements


def pinned(tensors: object, path: Path) -> PinnedFile:
    torch.save(tensors, path)
    return PinnedFile(uri=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module", params=["alexnet", "vgg16"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LpipsConfig:
    folder = tmp_path_factory.mktemp("lpips")
    trunk, linear = random_tensors(request.param)
    return LpipsConfig(
        trunk=request.param,
        trunk_weights=pinned(trunk, folder / "trunk.pth"),
        linear_weights=pinned(linear, folder / "linear.pth"),
    )


def pictures(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_zero_of_equals_symmetric_and_grows_with_the_difference(config: LpipsConfig) -> None:
    network = load_lpips(config)
    a, noise = pictures(2, SIZES[config.trunk], 0), pictures(2, SIZES[config.trunk], 1)
    assert network(a, a).tolist() == [0.0, 0.0]
    little, much = network(a, a + 0.05 * noise), network(a, a + 0.5 * noise)
    assert (little > 0).all()
    assert (little < much).all()
    torch.testing.assert_close(network(a, noise), network(noise, a))


PLANS = {
    "vgg16": "64 64 tap pool 128 128 tap pool 256 256 256 tap pool 512 512 512 tap pool 512 512 512 tap",
    "alexnet": "64 tap pool 192 tap pool 384 tap 256 tap 256 tap",
}


def test_distances_are_those_of_the_formula_written_out_in_float64(config: LpipsConfig) -> None:
    """As the LPIPS paper has it, layer by layer; arXiv:1801.03924, equation 1."""
    trunk, linear = random_tensors(config.trunk)
    convolutions = [name[:-7] for name in trunk if name.startswith("features.") and name.endswith(".weight")]
    shapes = {1: (11, 4, 2), 2: (5, 1, 2)} if config.trunk == "alexnet" else {}

    def features(picture: np.ndarray) -> list[np.ndarray]:
        mean, deviation = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
        x = (picture - mean[:, None, None]) / deviation[:, None, None]
        found, number = [], 0
        for word in PLANS[config.trunk].split():
            if word == "tap":
                found.append(x)
            elif word == "pool":
                side = 2 if config.trunk == "vgg16" else 3
                windows = sliding_window_view(x, (side, side), axis=(1, 2))[:, ::2, ::2]
                x = windows.max(axis=(3, 4))
            else:
                name, number = convolutions[number], number + 1
                weight, bias = (trunk[f"{name}.{kind}"].double().numpy() for kind in ("weight", "bias"))
                kernel, stride, padding = shapes.get(number, (3, 1, 1))
                padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
                windows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
                x = np.maximum(np.einsum("cyxij,ocij->oyx", windows, weight, optimize=True) + bias[:, None, None], 0)
                assert len(x) == int(word)
        return found

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for place, (left, right) in enumerate(zip(features(a), features(b), strict=True)):
            units = [x / (np.sqrt((x**2).sum(axis=0, keepdims=True)) + 1e-10) for x in (left, right)]
            weights = linear[f"lin{place}.model.1.weight"].double().numpy()[0, :, 0, 0]
            total += float(np.tensordot(weights, (units[0] - units[1]) ** 2, axes=1).mean())
        return total

    a, b = pictures(2, SIZES[config.trunk] + 5, 3), pictures(2, SIZES[config.trunk] + 5, 4)
    wanted = [distance(*pair) for pair in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    torch.testing.assert_close(load_lpips(config)(a, b).double(), torch.tensor(wanted).double(), rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_pictures_and_are_finite_also_where_features_are_zero(config: LpipsConfig) -> None:
    network = load_lpips(config)
    a = torch.zeros(1, 3, 32, 32, requires_grad=True)
    network(a, pictures(1, 32, 2)).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_small_and_unlike_pictures_are_refused() -> None:
    network = Lpips("alexnet")
    with pytest.raises(ValueError, match="at least 31 px, got 30 x 40"):
        network(torch.zeros(1, 3, 30, 40), torch.zeros(1, 3, 30, 40))
    with pytest.raises(ValueError, match="two equal shapes"):
        network(torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 40, 41))


def test_wrong_files_are_refused(config: LpipsConfig, tmp_path: Path) -> None:
    assert config.trunk_weights is not None
    other = PinnedFile(uri=config.trunk_weights.uri, sha256="0" * 8)
    with pytest.raises(PinnedFileError, match="expected sha256 00000000"):
        load_lpips(config.replace(trunk_weights=other))
    with pytest.raises(CheckpointError, match=r"missing .*features\.0\.bias"):
        load_lpips(config.replace(trunk_weights=pinned({"classifier.0.weight": torch.zeros(1)}, tmp_path / "a")))
    (tmp_path / "b").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="PyTorch file"):
        load_lpips(config.replace(linear_weights=PinnedFile(uri=str(tmp_path / "b"))))


def test_published_files_carry_checksums() -> None:
    assert all(file.sha256 for files in PUBLISHED.values() for file in files)
