"""FID and rFID of a small model, with a small feature network in the place of Inception."""

from functools import reduce
from operator import add
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from infinity.data.manifest import Manifest
from infinity.evaluation.drawings import DistributionMeasure
from infinity.evaluation.inception import InceptionFeatures
from infinity.evaluation.measure import Material

from .small_world import subject, write_data, write_model


def small_network(images: torch.Tensor) -> InceptionFeatures:
    """Mean colours of six places as the features that FID reads."""
    assert images.shape[1:] == (3, 299, 299)
    features = F.adaptive_avg_pool2d(images, (2, 1)).flatten(1)
    return InceptionFeatures(features, features, features, features, features, features)


def test_fid_and_rfid_compare_with_the_same_pictures_and_carry_their_protocol(tmp_path: Path) -> None:
    material = Material(subject(write_model(tmp_path), write_data(tmp_path / "data", num_validation=4), batch_size=2))
    material.__dict__["inception"] = small_network  # what the cached property holds after reading a weights file
    measure = DistributionMeasure()
    states = [part.compute(material) for part in measure.parts(material.subject, material.manifest)]
    scores = {score.metric: score for score in measure.outcome(reduce(add, states)).scores}
    assert set(scores) == {"rfid", "fid"}
    for name, score in scores.items():
        assert score.value is not None
        assert score.value > 0
        assert score.n == 4
        assert score.protocol.startswith(f"{name}/1")
        assert "biased" in score.note


def test_a_single_picture_has_no_distribution(tmp_path: Path) -> None:
    manifest = Manifest.load(write_data(tmp_path, num_validation=1))
    with pytest.raises(ValueError, match="at least 2 pictures"):
        DistributionMeasure().parts(subject("model", manifest.uri), manifest)
