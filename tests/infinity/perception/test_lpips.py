"""LPIPS: laws of a distance, gradients, published names, and what is refused."""

import hashlib
from pathlib import Path

import pytest
import torch

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
