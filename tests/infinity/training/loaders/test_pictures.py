"""Feeds give every worker its part of the same batches, whatever is prepared ahead."""

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.batches import BatchPlan
from infinity.data.loading.shuffle import OrderConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.loaders.pictures import LoaderConfig, PictureLoader, Prefetcher
from tests.fixtures.data.stored_sets import make_set
from tests.fixtures.data.training_pictures import RESOLUTION, SIZE_PX, make_data


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.load(make_data(tmp_path_factory.mktemp("data")))


def loader(manifest: Manifest, group: ProcessGroup, num_parts: int = 1) -> PictureLoader:
    plan = BatchPlan(manifest, "train", 8, seed=1)
    return PictureLoader(
        LoaderConfig(manifest=manifest, plan=plan, resolution=RESOLUTION, group=group, num_parts=num_parts), 4
    )


def test_workers_and_parts_together_have_the_batch_of_one(manifest: Manifest) -> None:
    (whole,) = loader(manifest, ProcessGroup())(5)
    parts = [part for rank in (0, 1) for part in loader(manifest, ProcessGroup(rank=rank, size=2), 2)(5)]
    assert sorted(key for part in parts for key in part.keys) == sorted(whole.keys)
    assert whole.images_BHWC.shape == (8, SIZE_PX, SIZE_PX, 3)
    assert whole.images_BHWC.dtype == torch.uint8


def test_a_worker_alone_has_one_part_of_every_batch(manifest: Manifest) -> None:
    plan = BatchPlan(manifest, "train", 8, seed=1)
    share = LoaderConfig(manifest=manifest, plan=plan, resolution=RESOLUTION, group=ProcessGroup())
    (whole,) = PictureLoader(share, 4)(3)
    assert whole.keys == loader(manifest, ProcessGroup())(3)[0].keys


def test_a_batch_without_some_pictures_has_the_others_with_all_that_is_theirs(manifest: Manifest) -> None:
    (whole,) = loader(manifest, ProcessGroup())(0)
    assert whole.without(frozenset(["of another batch"])) is whole
    left = whole.without(frozenset([whole.keys[0], whole.keys[3]]))
    assert left is not None
    kept = [1, 2, 4, 5, 6, 7]
    assert left.keys == tuple(whole.keys[i] for i in kept)
    assert left.rows == tuple(whole.rows[i] for i in kept)
    assert torch.equal(left.images_BHWC, whole.images_BHWC[kept])
    assert (left.schedule, left.batch_size) == (whole.schedule, 8)
    assert left.num_tokens == 6 * whole.schedule.num_tokens


SEVERAL = {0.5: 30, 1.0: 50, 1.5: 20}
NUM_STEPS = 20


def _read_as_a_rank(rank: int, folder: str, size: int) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{size}", rank=rank, world_size=size)
    group, manifest = ProcessGroup.current(), Manifest.load(f"{folder}/set/manifest.parquet")
    several = loader_of_several(manifest, group)
    mine = []
    for step in range(NUM_STEPS):
        parts = several(step)
        numbers = torch.zeros(4, dtype=torch.int64)
        numbers[list(group.micro_batches(4))] = torch.tensor([part.images_BHWC.long().sum() for part in parts])
        group.sum(numbers)  # a step that the ranks do together, as a training does
        shapes = {shape for each in group.gather([tuple(part.images_BHWC.shape) for part in parts]) for shape in each}
        mine.append((sorted(shapes), numbers.tolist(), group.gather([part.rows for part in parts])))
    several.close()
    if group.leads:
        torch.save(mine, f"{folder}/read-by-{size}")
    dist.barrier()
    dist.destroy_process_group()


def loader_of_several(manifest: Manifest, group: ProcessGroup) -> PictureLoader:
    plan = BatchPlan(manifest, "train", 8, 1, OrderConfig(window_pictures=20))
    augment = AugmentConfig(crop="random", flip=0.5)
    share = LoaderConfig(manifest=manifest, plan=plan, resolution=RESOLUTION, group=group, num_parts=4, augment=augment)
    return PictureLoader(share, 4)


@pytest.mark.slow
def test_two_ranks_read_several_ratios_at_once(tmp_path: Path) -> None:
    """Real processes: every step's batch has one shape on all ranks, and the pictures of a single process."""
    manifest = make_set(str(tmp_path / "set"), SEVERAL)
    mp.spawn(_read_as_a_rank, args=(str(tmp_path), 2), nprocs=2)
    steps = torch.load(tmp_path / "read-by-2")
    alone = loader_of_several(manifest, ProcessGroup())
    seen = set()
    for step, (shapes, sums, rows) in enumerate(steps):
        parts = alone(step)
        assert shapes == [tuple(parts[0].images_BHWC.shape)]
        assert sums == [int(part.images_BHWC.long().sum()) for part in parts]
        assert [rows[0][0], rows[1][0], rows[0][1], rows[1][1]] == [part.rows for part in parts]
        seen.add(shapes[0])
    alone.close()
    assert len(seen) == 3


def test_steps_prepared_ahead_are_those_of_the_loader_from_any_start() -> None:
    asked: list[int] = []

    def slow(step: int) -> int:
        asked.append(step)
        time.sleep(0.001)
        return step * step

    ahead = Prefetcher(slow, num_steps=7, depth=2)
    assert [ahead(step) for step in range(3, 7)] == [9, 16, 25, 36]
    assert asked == [3, 4, 5, 6]
    ahead.close()


def test_an_error_of_the_loader_is_raised_at_its_step(tmp_path: Path) -> None:
    def broken(step: int) -> int:
        if step == 2:
            raise OSError("shard is missing")
        return step

    ahead = Prefetcher(broken, num_steps=5)
    assert [ahead(0), ahead(1)] == [0, 1]
    with pytest.raises(OSError, match="shard is missing"):
        ahead(2)
    ahead.close()
