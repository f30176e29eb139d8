"""The discriminator is the published network, sees patches of its size, and learns by the published losses."""

import pytest
import torch
from torch import nn

from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.tokenizer.discriminator import AdversarialConfig, PatchDiscriminator

RATE = OptimizerConfig(learning_rate=1e-3)
CONFIG = AdversarialConfig(optimizer=RATE, num_layers=2, base_width=16)


def discriminator(config: AdversarialConfig = CONFIG) -> PatchDiscriminator:
    made = PatchDiscriminator(config)
    made.init_weights(torch.Generator().manual_seed(0))
    return made


def pictures(seed: int, side: int = 32, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_defaults_are_the_published_recipe() -> None:
    assert AdversarialConfig(optimizer=RATE) == AdversarialConfig(
        optimizer=RATE, from_step=0, weight=0.3, num_layers=3, base_width=128, norm="batch", lecam=0.05,
        lecam_margin=0.1, lecam_decay=None,
    )  # fmt: skip


def test_the_default_is_the_published_network() -> None:
    network = PatchDiscriminator(AdversarialConfig(optimizer=RATE))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [128, 256, 512, 1024, 1]
    assert [module.stride[0] for module in convolutions] == [2, 2, 2, 1, 1]
    assert all(module.kernel_size == (4, 4) for module in convolutions)
    assert [module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d)] == [
        256,
        512,
        1024,
    ]
    assert {module.negative_slope for module in network.modules() if isinstance(module, nn.LeakyReLU)} == {0.2}


def test_kernels_and_norms_begin_as_published() -> None:
    network = PatchDiscriminator(AdversarialConfig(optimizer=RATE, base_width=32))
    network.init_weights(torch.Generator().manual_seed(3))
    kinds = {nn.Conv2d: 0.0, nn.BatchNorm2d: 1.0}
    for kind, mean in kinds.items():
        weights = torch.cat([m.weight.detach().flatten() for m in network.modules() if isinstance(m, kind)])
        assert weights.mean() == pytest.approx(mean, abs=0.004)
        assert weights.std() == pytest.approx(0.02, rel=0.1)
    biases = [m.bias for m in network.modules() if isinstance(m, tuple(kinds)) and m.bias is not None]
    assert len(biases) >= 4
    assert all((bias == 0).all() for bias in biases)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_patch_has_the_size_that_is_said(num_layers: int) -> None:
    """A pixel outside of the patch of an answer does not change it; one at its border does."""
    network = discriminator(CONFIG.replace(num_layers=num_layers, norm="group")).double()
    for module in network.modules():  # a norm looks at the whole picture
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda x: x  # type: ignore[method-assign]
    images = pictures(0, side=128, count=1).double().requires_grad_()
    answers = network(images)
    middle = answers.shape[-1] // 2
    answers[0, 0, middle, middle].backward()
    assert images.grad is not None
    touched = images.grad[0].abs().sum(dim=0).nonzero()
    extent = touched.max(dim=0).values - touched.min(dim=0).values + 1
    assert extent.tolist() == [9 * 2**num_layers - 2] * 2


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_the_smallest_picture_leaves_four_answers_and_a_smaller_one_is_refused(num_layers: int) -> None:
    network = discriminator(CONFIG.replace(num_layers=num_layers))
    assert network(pictures(0, side=network.least_px, count=1)).shape[-2:] == (2, 2)
    with pytest.raises(ValueError, match=rf"{num_layers} layers need pictures of at least {network.least_px} px"):
        network(pictures(0, side=network.least_px - 1))


def test_it_learns_to_tell_pictures_from_noise() -> None:
    network, optimizer = discriminator(), None
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    smooth = pictures(1, side=4, count=8)
    real = torch.nn.functional.interpolate(smooth, size=32, mode="bilinear")
    first = network.discriminator_loss(real, pictures(2, count=8)).loss.item()
    for step in range(30):
        optimizer.zero_grad()
        network.discriminator_loss(real, pictures(3 + step, count=8)).loss.backward()
        optimizer.step()
    last = network.discriminator_loss(real, pictures(99, count=8))
    assert last.loss.item() < 0.3 * first
    assert last.seen[0] > 0.5 > -0.5 > last.seen[1]


def test_both_regularisers_pull_where_they_should() -> None:
    real, fake = torch.tensor([3.0, 1.0]), torch.tensor([-0.5, 0.0])
    published = discriminator(CONFIG.replace(lecam_margin=0.1))
    assert published._regulariser(real, fake).item() == pytest.approx(1.9**2 + 0.15**2)
    original = discriminator(CONFIG.replace(lecam_decay=0.9))
    original.absorb(torch.tensor([2.0, -1.0]))
    assert original.averages.tolist() == pytest.approx([0.2, -0.1])
    expected = ((3.0 + 0.1) ** 2 + (1.0 + 0.1) ** 2) / 2 + ((0.2 + 0.5) ** 2 + 0.2**2) / 2
    assert original._regulariser(real, fake).item() == pytest.approx(expected)
    published.absorb(torch.tensor([2.0, -1.0]))
    assert published.averages.tolist() == [0.0, 0.0], "the published form keeps none"


def test_the_ends_of_what_is_possible_are_possible() -> None:
    config = AdversarialConfig(optimizer=RATE, weight=0.0, lecam=0.0, lecam_margin=0.0, lecam_decay=0.0, num_layers=1)
    assert (config.weight, config.lecam_decay) == (0.0, 0.0)
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match="lecam_decay: expected"):
            AdversarialConfig(optimizer=RATE, lecam_decay=decay)


def test_a_pass_leaves_no_trace_in_it() -> None:
    """A batch that is skipped after it must be as if it had never been."""
    network = discriminator().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.discriminator_loss(pictures(0), pictures(1)).loss.backward()
    network.generator_loss(pictures(2).requires_grad_()).backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 0}, "num_layers: expected at least 1, got 0"),
        ({"from_step": -1}, "from_step: expected at least 0"),
        ({"weight": -0.1}, "weight: expected at least 0"),
        ({"lecam_decay": 1.0}, "lecam_decay: expected 0 to below 1"),
        ({"norm": "group", "base_width": 8}, "base_width: expected a multiple of 16"),
        ({"norm": "layer"}, "expected one of 'batch', 'group'"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialConfig.from_json(CONFIG.to_json() | change)
