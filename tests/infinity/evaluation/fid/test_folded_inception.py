"""The network as it runs gives what its layers one by one give, for any number of pictures."""

import torch

from infinity.evaluation.fid.folded_inception import FoldedInception, shrink
from infinity.evaluation.fid.inception import Inception
from tests.fixtures.inception_recipe import recipe_tensors


def test_features_equal_those_of_the_layers_whoever_else_is_in_the_batch() -> None:
    network = Inception()
    network.load_state_dict(recipe_tensors())
    folded = FoldedInception(network)
    images = torch.rand(3, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        together, alone, wanted = folded(images), folded(images[2:]), network(images)
    for name in ("features_64", "features_192", "features_768", "features_2048", "logits", "logits_without_bias"):
        found, expected = getattr(together, name), getattr(wanted, name)
        assert found.shape == expected.shape
        largest = expected.abs().amax(dim=1)
        assert ((found - expected).abs().amax(dim=1) < 2e-6 * largest).all(), name
        assert ((getattr(alone, name) - expected[2:]).abs().amax(dim=1) < 2e-6 * largest[2:]).all(), name


def test_shrinking_is_the_maximum_pool() -> None:
    for height, width in ((9, 9), (8, 11), (3, 4)):
        maps = torch.randn(2, 5, height, width, generator=torch.Generator().manual_seed(0))
        for x in (maps, maps.contiguous(memory_format=torch.channels_last)):
            assert torch.equal(shrink(shrink(x, axis=2), axis=3), torch.nn.functional.max_pool2d(x, 3, stride=2))
