"""FID and rFID of a small model, with a small feature network in the place of Inception."""

from functools import reduce
from operator import add
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.benchmark import EvalContext
from infinity.evaluation.fid.distribution import METRICS, DistributionMeasure
from infinity.evaluation.fid.feature_distances import KidConfig
from infinity.evaluation.fid.inception import InceptionFeatures
from tests.fixtures.small_world import subject, write_data, write_model


def small_network(images: torch.Tensor) -> InceptionFeatures:
    """Mean colours of six places as the features that FID reads."""
    assert images.shape[1:] == (3, 299, 299)
    features = F.adaptive_avg_pool2d(images, (2, 1)).flatten(1)
    return InceptionFeatures(features, features, features, features, features, features)


def test_fid_and_rfid_compare_with_the_same_pictures_and_carry_their_protocol(tmp_path: Path) -> None:
    material = EvalContext(
        subject(write_model(tmp_path), write_data(tmp_path / "data", num_validation=4), batch_size=2)
    )
    material.__dict__["inception"] = small_network  # what the cached property holds after reading a weights file
    measure = DistributionMeasure(kid=KidConfig(subsets=3, subset_size=3), splits=2, neighbours=1)
    states = [part.compute(material) for part in measure.parts(material.subject, material.manifest)]
    scores = {score.metric: score for score in measure.outcome(reduce(add, states)).scores}
    assert set(scores) == set(METRICS)
    for name, score in scores.items():
        assert score.value is not None
        assert score.n == 4
        assert score.protocol.startswith(f"{name}/2")
        assert "TensorFlow-1 bilinear" in score.protocol
    for name in ("rfid", "fid"):
        assert scores[name].value > 0
        assert "biased" in scores[name].note


def test_too_few_pictures_leave_a_gap_that_says_so(tmp_path: Path) -> None:
    material = EvalContext(
        subject(write_model(tmp_path), write_data(tmp_path / "data", num_validation=2), batch_size=2)
    )
    material.__dict__["inception"] = small_network
    measure = DistributionMeasure()
    (part,) = measure.parts(material.subject, material.manifest)
    scores = {score.metric: score for score in measure.outcome(part.compute(material)).scores}
    for name, words in {"kid": "fewer than a subset", "inception_score": "10 splits", "recall": "3 neighbours"}.items():
        assert scores[name].value is None
        assert words in scores[name].note


def test_a_single_picture_has_no_distribution(tmp_path: Path) -> None:
    manifest = Manifest.load(write_data(tmp_path, num_validation=1))
    with pytest.raises(ValueError, match="at least 2 pictures"):
        DistributionMeasure().parts(subject("model", manifest.uri), manifest)
