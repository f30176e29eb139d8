"""The network as it runs gives what its layers one by one give, for any number of pictures."""

import torch

from infinity.evaluation.fid.fused_inception import FusedInception
from infinity.evaluation.fid.inception import Inception
from tests.fixtures.models.inception_recipe import recipe_tensors


def test_features_equal_those_of_the_layers_whoever_else_is_in_the_batch() -> None:
    network = Inception()
    network.load_state_dict(recipe_tensors())
    fused = FusedInception(network)
    images = torch.rand(3, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        together, alone, wanted = fused(images), fused(images[2:]), network(images)
    for name in ("features_64", "features_192", "features_768", "features_2048", "logits", "logits_without_bias"):
        found, expected = getattr(together, name), getattr(wanted, name)
        assert found.shape == expected.shape
        largest = expected.abs().amax(dim=1)
        assert ((found - expected).abs().amax(dim=1) < 2e-6 * largest).all(), name
        assert ((getattr(alone, name) - expected[2:]).abs().amax(dim=1) < 2e-6 * largest[2:]).all(), name
