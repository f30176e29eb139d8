"""FID and rFID of a small model, with a small feature network in the place of Inception."""

from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.benchmark import EvalContext
from infinity.evaluation.fid.distribution import DistributionBenchmark
from infinity.evaluation.fid.feature_distances import KidConfig
from infinity.evaluation.fid.inception import InceptionFeatures
from infinity.evaluation.fid.inception_weights import InceptionWeights
from tests.fixtures.data.small_world import eval_target, write_data, write_model


def small_network(images: torch.Tensor) -> InceptionFeatures:
    """Mean colours of six places as the features that FID reads."""
    assert images.shape[1:] == (3, 299, 299)
    features = F.adaptive_avg_pool2d(images, (2, 1)).flatten(1)
    return InceptionFeatures(features, features, features, features, features, features)


def context_with_small_network(folder: Path, num_validation: int) -> EvalContext:
    """A small model and data set, with the small network in the place of Inception's weights."""
    weights = InceptionWeights(uri="small.pth")
    target = eval_target(write_model(folder), write_data(folder / "data", num_validation=num_validation), batch_size=2)
    context = EvalContext(replace(target, inception=weights))
    context.networks.get(weights, lambda _, device: small_network)
    return context


def test_fid_and_rfid_compare_with_the_same_pictures_and_carry_their_protocol(tmp_path: Path) -> None:
    context = context_with_small_network(tmp_path, 4)
    benchmark = DistributionBenchmark(kid=KidConfig(subsets=3, subset_size=3), splits=2, neighbours=1)
    states = [part.compute(context) for part in benchmark.parts(context.target, context.manifest)]
    scores = {score.metric: score for score in benchmark.summarize(reduce(add, states)).scores}
    assert set(scores) == {"rfid", "fid", "rkid", "kid", "inception_score", "precision", "recall"}
    for name, score in scores.items():
        assert score.value is not None
        assert score.n == 4
        assert score.protocol.startswith(f"{name}/2")
        assert "TensorFlow-1 bilinear" in score.protocol
    for name in ("rfid", "fid"):
        assert scores[name].value > 0
        assert "biased" in scores[name].note


def test_too_few_pictures_leave_a_gap_that_says_so(tmp_path: Path) -> None:
    context = context_with_small_network(tmp_path, 2)
    benchmark = DistributionBenchmark()
    (part,) = benchmark.parts(context.target, context.manifest)
    scores = {score.metric: score for score in benchmark.summarize(part.compute(context)).scores}
    for name, words in {"kid": "fewer than a subset", "inception_score": "10 splits", "recall": "3 neighbours"}.items():
        assert scores[name].value is None
        assert words in scores[name].note


def test_a_single_picture_has_no_distribution(tmp_path: Path) -> None:
    manifest = Manifest.load(write_data(tmp_path, num_validation=1))
    with pytest.raises(ValueError, match="at least 2 pictures"):
        DistributionBenchmark().parts(eval_target("model", manifest.uri), manifest)
