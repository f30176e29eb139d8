"""Streams of pixels: the same for every number of ranks, workers and prefetched steps, from any step, or an error."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading import stored as stored_module
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.batches import BatchIds, BatchPlan, load_images
from infinity.data.loading.shuffle import OrderConfig
from infinity.data.loading.stored import ReadingConfig, StoredPictures
from infinity.data.loading.stream import PixelLoader
from infinity.storage import StorageError
from infinity.storage.retries import DamagedError, Patience, UnreachableError
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.loaders.pictures import micro_batches
from tests.fixtures.data.stored_sets import SIZES, make_set
from tests.fixtures.limits import AGES_S

BATCH, SEED, NUM_STEPS = 12, 3, 9
ALONE = ProcessGroup()
RANDOM = AugmentConfig(crop="random", flip=0.5)
TOPOLOGIES = [(ranks, workers) for ranks in (1, 2, 3, 4, 6, 12) for workers in (1, 2, 5)]


def size_px(ratio: float) -> tuple[int, int]:
    height, width = SIZES[ratio]
    return height // 2, width // 4 * 2 - 2  # not the pictures' own ratio: there is something to crop


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_set(str(tmp_path_factory.mktemp("set")), {0.5: 14, 1.0: 41, 1.5: 23}, validation=3)


def plan_of(manifest: Manifest) -> BatchPlan:
    return BatchPlan(manifest, "train", BATCH, SEED, OrderConfig(window_pictures=10))


def stream_of(
    manifest: Manifest,
    group: ProcessGroup = ALONE,
    config: ReadingConfig | None = None,
    **options: object,
) -> PixelLoader:
    """This rank's parts of every batch, dealt into as many parts as there are ranks."""
    plan = plan_of(manifest)
    parts: Callable[[int], Sequence[BatchIds]] = lambda step: micro_batches(plan.batch(step), group, group.size)  # noqa: E731
    return PixelLoader(manifest, parts, size_px, config, key=plan.key, **options)  # type: ignore[arg-type]


def whole(manifest: Manifest, ranks: int, config: ReadingConfig, steps: Sequence[int]) -> tuple[str, str]:
    """Hashes of ids and of pixels of the batches that all ranks have together, rank by rank put in their places."""
    ids, pixels = hashlib.sha256(), hashlib.sha256()
    streams = [stream_of(manifest, ProcessGroup(rank=r, size=ranks), config, augment=RANDOM) for r in range(ranks)]
    for step in steps:
        rows = np.empty((BATCH, 2), np.int64)
        images: np.ndarray | None = None
        for rank, stream in enumerate(streams):
            (batch,) = stream(step)
            rows[rank::ranks] = np.array([batch.ids.rows, batch.ids.visits]).T
            images = np.empty((BATCH, *batch.images.shape[1:]), np.uint8) if images is None else images
            images[rank::ranks] = batch.images
        assert images is not None
        ids.update(rows.tobytes())
        pixels.update(str(images.shape).encode() + images.tobytes())
    for stream in streams:
        stream.close()
    return ids.hexdigest(), pixels.hexdigest()


def test_eighteen_topologies_have_the_same_batches(manifest: Manifest) -> None:
    """Ids and pixels, random crops and mirrors included, of more than an epoch with three ratios."""
    steps = range(NUM_STEPS)
    ratios = {plan_of(manifest).batch(step).aspect_ratio for step in steps}
    assert ratios == {0.5, 1.0, 1.5}
    hashes = {
        whole(manifest, ranks, ReadingConfig(num_workers=workers, prefetch_steps=workers % 3), steps)
        for ranks, workers in TOPOLOGIES
    }
    assert len(TOPOLOGIES) == 18
    assert len(hashes) == 1


def test_every_step_of_an_epoch_is_a_place_to_go_on_from(manifest: Manifest) -> None:
    plan = plan_of(manifest)
    number = plan.first_step(2)
    with stream_of(manifest, augment=RANDOM, num_steps=number) as stream:
        told = [(batch.ids, batch.images) for (batch,) in stream.from_step(0)]
    assert len(told) == number
    for start in range(plan.first_step(1) + 1):
        with stream_of(manifest, augment=RANDOM, num_steps=number) as stream:
            for (ids, images), (batch,) in zip(told[start:], stream.from_step(start), strict=True):
                assert batch.ids == ids
                np.testing.assert_array_equal(batch.images, images)


def test_going_on_reads_nothing_of_earlier_steps(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, read = plan_of(manifest), []
    real = StoredPictures.read
    monkeypatch.setattr(StoredPictures, "read", lambda self, row: read.append(row) or real(self, row))
    config = ReadingConfig(num_workers=1, prefetch_steps=0, memory_bytes=0)
    with stream_of(manifest, config=config, num_steps=8) as stream:
        for _ in stream.from_step(5):
            pass
    assert read == [row for step in (5, 6, 7) for row in plan.batch(step).rows]


def test_pixels_are_those_of_plain_loading_and_small_sets_are_read_once(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = StoredPictures.read
    monkeypatch.setattr(StoredPictures, "read", lambda self, row: read.append(row) or real(self, row))
    with stream_of(manifest, config=ReadingConfig(prefetch_steps=0)) as stream:
        for (batch,) in (stream(step) for step in range(30)):
            wanted = load_images(manifest, batch.ids.rows, size_px(batch.ids.aspect_ratio))
            np.testing.assert_array_equal(batch.images, wanted)
    assert sorted(read) == sorted(set(read))


def test_a_bucket_is_read_through_a_small_cache(s3_server: str, tmp_path: Path, manifest: Manifest) -> None:
    remote = make_set(s3_server, {0.5: 14, 1.0: 41, 1.5: 23}, validation=3)
    assert remote.digest == manifest.digest
    most = max(info.num_bytes for info in remote.head.shards)
    steps = range(NUM_STEPS)
    wanted = whole(manifest, 1, ReadingConfig(), steps)
    cached = ReadingConfig(cache_folder=str(tmp_path), cache_bytes=4 * most, num_workers=3)
    assert whole(remote, 2, cached, steps) == wanted
    assert whole(remote, 1, ReadingConfig(num_workers=4), steps) == wanted
    shards = [path.stat().st_size for path in tmp_path.glob("*.tar*")]  # locks hold why a download failed
    assert shards
    assert sum(shards) <= 4 * most


def test_damage_on_the_cache_disk_is_repaired_from_the_store(tmp_path: Path) -> None:
    m = make_set(str(tmp_path / "set"), {1.0: 4})
    pictures = StoredPictures(m, ReadingConfig(cache_folder=str(tmp_path / "cache")))
    data = pictures.read(2)
    (cached,) = (tmp_path / "cache").glob("*.tar")
    cached.write_bytes(bytes(cached.stat().st_size))
    assert pictures.read(2) == data
    storage.write_bytes(m.place(2)[0], bytes(1000))
    with pytest.raises(DamagedError, match=r"are not the picture that .* names in row 2, twice"):
        StoredPictures(m, ReadingConfig()).read(2)


def test_a_store_that_is_down_is_named_by_the_step_that_needs_it(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = make_set(s3_server, {1.0: 30})
    patience = Patience(attempts=2, timeout_s=0.5, pause_s=0.01)
    real, over = storage.read_bytes, threading.Event()

    def hang(uri: str, **where: int) -> bytes:
        if "shards" in uri:
            over.wait(AGES_S)
        return real(uri, **where)

    for folder in (None, str(tmp_path)):
        with monkeypatch.context() as patch:
            patch.setattr(storage, "read_bytes", hang)
            config = ReadingConfig(patience=patience, cache_folder=folder)
            with stream_of(m, config=config) as stream, pytest.raises(UnreachableError) as caught:
                stream(0)
            for words in ("/shards/", "the bucket", "at http://", "2 attempts", "no answer within 0.5 s"):
                assert words in str(caught.value)
    over.set()


def test_a_disk_that_hangs_is_named(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(stored_module.StoredPictures, "read", lambda self, row: over.wait(AGES_S))
    config = ReadingConfig(num_workers=1, patience=Patience(attempts=1, timeout_s=0.05), prefetch_steps=0)
    words = r"pictures of step 4 were not ready within 0\.2 s; they lie in .*shards"
    with stream_of(manifest, config=config) as stream:
        with pytest.raises(StorageError, match=words):
            stream(4)
        over.set()


def test_a_failing_disk_is_asked_again(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = storage.read_bytes, iter([True, True])

    def failing(uri: str, **where: int) -> bytes:
        if next(failures, False):
            raise StorageError("stale file handle")
        return real(uri, **where)

    monkeypatch.setattr(storage, "read_bytes", failing)
    config = ReadingConfig(patience=Patience(pause_s=0.01))
    assert len(StoredPictures(manifest, config).read(3)) > 100


def test_shards_of_the_next_steps_are_fetched_ahead_once_and_again_after_a_jump(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, asked = plan_of(manifest), set[str]()
    stored = StoredPictures(manifest, ReadingConfig())
    read = StoredPictures.read
    monkeypatch.setattr(StoredPictures, "read", lambda self, row: read(stored, row))  # readers fetch nothing themselves
    monkeypatch.setattr(StoredPictures, "fetch", lambda self, uri: asked.add(uri))
    config = ReadingConfig(cache_folder=str(tmp_path), cache_steps=2, prefetch_steps=0)

    def shards(*steps: int) -> set[str]:
        return {uri for step in steps for uri in stored.shards(plan.batch(step).rows)}

    with stream_of(manifest, config=config, num_steps=12) as stream:
        for step, ahead in ((0, (0, 1, 2)), (1, (3,)), (2, (4,)), (8, (8, 9, 10)), (3, (3, 4, 5)), (11, (11,))):
            asked.clear()
            stream(step)
            wait(stream._fetching.values())
            assert asked == shards(*ahead), step


@pytest.mark.parametrize(("num_steps", "prepared"), [(None, [5, 6, 7]), (7, [5, 6]), (5, [])])
def test_the_next_steps_are_prepared_and_none_beyond_the_run(
    manifest: Manifest, num_steps: int | None, prepared: list[int]
) -> None:
    with stream_of(manifest, config=ReadingConfig(prefetch_steps=3), num_steps=num_steps) as stream:
        stream(4)
        assert sorted(stream._pending) == prepared
        stream(3)
        assert sorted(stream._pending) == sorted({4, *prepared} - {7})


def test_a_closed_stream_prepares_nothing_more_and_leaves_no_thread(manifest: Manifest, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with stream_of(manifest, config=ReadingConfig(cache_folder=str(tmp_path))) as stream:
        stream(0)
        mine = {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - before}
    assert mine - {"attempt"} == {"pictures", "shards"}  # a read with a time-out that is under way
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="after shutdown"):
        stream(5)


def test_impossible_settings_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_workers: expected at least 1"):
        ReadingConfig(num_workers=0)
    bare = Manifest(uri=manifest.uri, head=manifest.head.replace(shards=()), table=manifest.table)
    with pytest.raises(ValueError, match="only described shards can be cached"):
        StoredPictures(bare, ReadingConfig(cache_folder=str(tmp_path))).read(0)
