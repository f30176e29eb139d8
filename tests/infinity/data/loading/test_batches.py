"""Laws of the batch plan, and pixels that are what the shard holds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchPlan, ImageCache, load_images
from infinity.data.loading.draws import key_of, uniform_at
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.infinity.data.dataset.test_manifest import manifest

RATIOS = st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=1, max_size=40).map(tuple)


def plan(ratios: tuple[float, ...], batch_size: int, seed: int = 0) -> BatchPlan:
    return BatchPlan(manifest("m", ratios, validation=()), "train", batch_size, seed)


@settings(max_examples=40)
@given(RATIOS, st.integers(1, 9), st.integers(0, 3), st.lists(st.integers(0, 3000), min_size=1, max_size=5))
def test_a_step_is_the_same_whatever_was_asked_before(
    ratios: tuple[float, ...], size: int, seed: int, steps: list[int]
) -> None:
    used = plan(ratios, size, seed)
    for step in steps:
        assert used.batch(step) == plan(ratios, size, seed).batch(step)


@settings(max_examples=40)
@given(RATIOS, st.integers(1, 9))
def test_a_batch_is_full_and_holds_one_ratio(ratios: tuple[float, ...], size: int) -> None:
    p = plan(ratios, size)
    for step in range(20):
        ids = p.batch(step)
        assert len(ids.rows) == size
        assert {ratios[row] for row in ids.rows} == {ids.aspect_ratio}


@settings(max_examples=20)
@given(RATIOS, st.integers(1, 5))
def test_every_picture_is_seen_about_equally_often(ratios: tuple[float, ...], size: int) -> None:
    p, rounds = plan(ratios, size), 10
    steps = round(rounds * len(ratios) / size)
    seen = Counter(row for step in range(steps) for row in p.batch(step).rows)
    for ratio in set(ratios):
        counts = [seen[row] for row, other in enumerate(ratios) if other == ratio]
        assert max(counts) - min(counts) <= 1
        # The turns of the ratios are dealt evenly: never more than a few batches ahead or behind.
        assert abs(sum(counts) - rounds * len(counts)) <= 4 * size


def test_a_round_is_a_new_shuffle() -> None:
    p = plan((1.0,) * 12, 4)
    first, second = ([row for step in steps for row in p.batch(step).rows] for steps in (range(3), range(3, 6)))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert first != [row for step in range(3) for row in plan((1.0,) * 12, 4, seed=1).batch(step).rows]


def test_few_pictures_repeat_within_a_batch() -> None:
    assert Counter(plan((1.0,) * 3, 6).batch(0).rows) == {0: 2, 1: 2, 2: 2}


def test_only_the_asked_split_is_used() -> None:
    p = BatchPlan(manifest("m"), "validation", 2)
    assert {row for step in range(9) for row in p.batch(step).rows} == {1, 4}


def test_impossible_plans_are_clear_errors() -> None:
    with pytest.raises(ValueError, match="expected pictures in the split 'validation', found none"):
        BatchPlan(manifest("m", validation=()), "validation", 2)
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        BatchPlan(manifest("m"), "train", 0)
    with pytest.raises(ValueError, match="expected at least 0, got -1"):
        BatchPlan(manifest("m"), "train", 1).batch(-1)


@pytest.fixture
def pictures(tmp_path: Path) -> Manifest:
    """Five pictures of 40 x 40 in a file that stands for a shard."""
    return _pictures(str(tmp_path))


def _pictures(folder: str) -> Manifest:
    files = [encoded(noise(seed=seed)) for seed in range(5)]
    storage.write_bytes(storage.join(folder, "shards/a.tar"), b"".join(files))
    m = manifest(storage.join(folder, "m.parquet"))
    offsets = np.cumsum([0, *map(len, files)])[:-1].tolist()
    table = m.table.set_column(2, "offset", [offsets]).set_column(3, "num_bytes", [[len(file) for file in files]])
    return Manifest(uri=m.uri, head=m.head, table=table)


def test_pictures_of_the_right_size_come_back_pixel_for_pixel(pictures: Manifest) -> None:
    images = load_images(pictures, [3, 0], (40, 40))
    np.testing.assert_array_equal(images, np.stack([noise(seed=3), noise(seed=0)]))
    assert load_images(pictures, [], (40, 40)).shape == (0, 40, 40, 3)


def test_pictures_in_s3_equal_local_ones(pictures: Manifest, s3_server: str) -> None:
    rows = [4, 1, 1]
    np.testing.assert_array_equal(
        load_images(_pictures(s3_server), rows, (16, 24)), load_images(pictures, rows, (16, 24))
    )


def test_cache_gives_back_what_was_kept_and_forgets_the_least_recently_used() -> None:
    images = np.stack([noise(8, 8, seed=seed) for seed in range(3)])
    cache = ImageCache(max_bytes=2 * 8 * 8 * 3)
    for row in (0, 1):
        cache.keep(row, (8, 8), images[row])
    np.testing.assert_array_equal(cache.find([0, 0], (8, 8))[0], images[0])
    assert cache.find([1], (4, 4)) == {}
    assert cache.find([0], (8, 8))  # now 1 is the one that was not used for longer
    cache.keep(2, (8, 8), images[2])
    assert sorted(cache.find([0, 1, 2], (8, 8))) == [0, 2]
    cache.keep(7, (16, 16), np.zeros((16, 16, 3), np.uint8))
    assert cache.find([7], (16, 16)) == {}


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from([0.5, 1.0, 1.5]), st.integers(1, 25), min_size=1), st.integers(1, 6))
def test_epochs_hold_every_picture_once_up_to_the_rest_of_a_ratio(counts: dict[float, int], size: int) -> None:
    """The rest comes at the beginning of the next epoch; nothing is dropped, nothing repeated to fill a batch."""
    ratios = tuple(ratio for ratio, number in sorted(counts.items()) for _ in range(number))
    p = plan(ratios, size)
    for epoch in range(4):
        first, last = p.first_step(epoch), p.first_step(epoch + 1)
        steps = [p.batch(step) for step in range(first, last)]
        assert [p.epoch(step) for step in range(first, last)] == [epoch] * len(steps)
        for ratio, number in counts.items():
            batches = [ids for ids in steps if ids.aspect_ratio == ratio]
            assert len(batches) == (epoch + 1) * number // size - epoch * number // size
            visits = [visit for ids in batches for visit in ids.visits]
            assert visits == sorted(visits)
            if number >= size:
                assert set(visits) <= {epoch - 1, epoch}
                assert visits.count(epoch - 1) == epoch * number % size
    seen = Counter((row, visit) for step in range(p.first_step(4)) for row, visit in _visits(p, step))
    assert set(seen.values()) <= {1}


def _visits(p: BatchPlan, step: int) -> list[tuple[int, int]]:
    ids = p.batch(step)
    return list(zip(ids.rows, ids.visits, strict=True))


def test_the_order_belongs_to_the_digest_of_the_manifest() -> None:
    ratios = (1.0,) * 30
    m = manifest("m", ratios, validation=())
    moved = Manifest(uri="elsewhere", head=m.head, table=m.table)
    other = Manifest(uri="m", head=m.head.replace(code_version="2"), table=m.table)
    first, second, third = ([BatchPlan(each, "train", 4).batch(s) for s in range(9)] for each in (m, moved, other))
    assert first == second
    assert first != third


@settings(max_examples=25)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any), st.integers(0, 5))
def test_turns_of_an_epoch_are_those_of_their_times(numbers: list[int], epoch: int) -> None:
    """The k-th turn is found directly; here all of them are written down and sorted."""
    p, counts = plan((1.0, 1.5), 1), np.array(numbers)
    phases = uniform_at(key_of(p.key, "turns", epoch), np.arange(len(numbers)))
    times = [
        ((turn + phases[which]) / number, which, turn) for which, number in enumerate(numbers) for turn in range(number)
    ]
    assert [p._turn(epoch, counts, place) for place in range(sum(numbers))] == [
        tuple(each[1:]) for each in sorted(times)
    ]
