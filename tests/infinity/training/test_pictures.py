"""Feeds give every worker its part of the same batches, whatever is prepared ahead."""

import time
from pathlib import Path

import pytest
import torch

from infinity.data.batches import BatchPlan
from infinity.data.manifest import Manifest
from infinity.training.parallel import Team
from infinity.training.pictures import Ahead, PictureFeed
from tests.infinity.training.pictures import RESOLUTION, SIZE_PX, make_data


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.load(make_data(tmp_path_factory.mktemp("data")))


def feed(manifest: Manifest, team: Team, num_parts: int = 1) -> PictureFeed:
    plan = BatchPlan(manifest, "train", 8, seed=1)
    return PictureFeed(manifest, plan, RESOLUTION, 4, team=team, num_parts=num_parts)


def test_workers_and_parts_together_have_the_batch_of_one(manifest: Manifest) -> None:
    (whole,) = feed(manifest, Team())(5)
    parts = [part for rank in (0, 1) for part in feed(manifest, Team(rank=rank, size=2), 2)(5)]
    assert sorted(key for part in parts for key in part.keys) == sorted(whole.keys)
    assert whole.images_BHWC.shape == (8, SIZE_PX, SIZE_PX, 3)
    assert whole.images_BHWC.dtype == torch.uint8


def test_steps_prepared_ahead_are_those_of_the_feed_from_any_start() -> None:
    asked: list[int] = []

    def slow(step: int) -> int:
        asked.append(step)
        time.sleep(0.001)
        return step * step

    ahead = Ahead(slow, num_steps=7, depth=2)
    assert [ahead(step) for step in range(3, 7)] == [9, 16, 25, 36]
    assert asked == [3, 4, 5, 6]
    ahead.close()


def test_an_error_of_the_feed_is_raised_at_its_step(tmp_path: Path) -> None:
    def broken(step: int) -> int:
        if step == 2:
            raise OSError("shard is missing")
        return step

    ahead = Ahead(broken, num_steps=5)
    assert [ahead(0), ahead(1)] == [0, 1]
    with pytest.raises(OSError, match="shard is missing"):
        ahead(2)
    ahead.close()
