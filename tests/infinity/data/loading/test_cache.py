"""The cache of shards: bounded, checked, whole or absent, one download for all who want a shard at once."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infinity import storage
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.loading import cache as cache_module
from infinity.data.loading.cache import ShardCache
from infinity.storage import FileMissingError, StorageError
from infinity.storage.retries import DamagedError, Patience, UnreachableError
from tests.fixtures.data.stored_sets import _write
from tests.fixtures.limits import AGES_S

QUICK = Patience(attempts=3, timeout_s=AGES_S, pause_s=0.01)


def shard(folder: Path, seed: int, num_bytes: int = 1000) -> tuple[str, ShardInfo]:
    info = _write(str(folder), [bytes([seed]) * num_bytes])
    return storage.join(str(folder), info.path), info


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".tar", ".part"))


def test_a_shard_is_downloaded_once_and_the_oldest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [shard(tmp_path, seed) for seed in range(4)]
    cache, reads = ShardCache(tmp_path / "cache", 3000, QUICK), []
    real = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda uri, **where: reads.append(uri) or real(uri, **where))
    for number in (0, 1, 2, 0, 3, 0, 2, 1):
        with cache.open(*shards[number]) as file:
            assert file.read() == bytes([number]) * 1000
        time.sleep(0.01)
    assert [uri for uri in reads] == [shards[number][0] for number in (0, 1, 2, 3, 1)]
    assert len(names(tmp_path / "cache")) == 3


def test_what_is_open_stays_readable_when_it_makes_room(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 1000, QUICK)
    with cache.open(*shard(tmp_path, 1)) as file:
        cache.open(*shard(tmp_path, 2)).close()
        assert file.read() == bytes([1]) * 1000
    assert len(names(tmp_path / "cache")) == 1


def test_a_larger_shard_than_the_cache_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"has 1,000 bytes, more than the whole cache .* raise cache_bytes"):
        ShardCache(tmp_path / "cache", 999).open(*shard(tmp_path, 1))


def test_damage_in_the_store_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    uri, info = shard(tmp_path, 1)
    storage.write_bytes(uri, bytes(1000))
    with pytest.raises(DamagedError, match=r"expected the checksum .* twice; the shard is damaged in its store"):
        ShardCache(tmp_path / "cache", 5000, QUICK).open(uri, info)
    storage.write_bytes(uri, bytes(10))
    with pytest.raises(UnreachableError, match="expected 1,000 bytes from offset 0, found 10"):
        ShardCache(tmp_path / "cache", 5000, QUICK).open(uri, info)
    storage.delete_tree(uri)
    with pytest.raises(FileMissingError):
        ShardCache(tmp_path / "cache", 5000, QUICK).open(uri, info)
    assert names(tmp_path / "cache") == []


def test_a_failing_store_is_asked_again_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, info = shard(tmp_path, 1)
    real, asked = storage.read_bytes, []

    def failing(times: int, error: Callable[[], None]) -> Callable[..., bytes]:
        def read(uri: str, **where: int) -> bytes:
            asked.append(uri)
            if len(asked) <= times:
                error()
            return real(uri, **where)

        return read

    def refuse() -> None:
        raise StorageError("503 slow down")

    monkeypatch.setattr(storage, "read_bytes", failing(2, refuse))
    ShardCache(tmp_path / "cache", 5000, QUICK).open(uri, info).close()
    assert len(asked) == 3
    asked.clear()
    monkeypatch.setattr(storage, "read_bytes", failing(9, refuse))
    with pytest.raises(UnreachableError) as caught:
        ShardCache(tmp_path / "other", 5000, QUICK).open(uri, info)
    for words in (uri, "a disk of this machine", "3 attempts", "attempts 1 to 3: 503 slow down"):
        assert words in str(caught.value)
    asked.clear()
    over = threading.Event()
    monkeypatch.setattr(storage, "read_bytes", failing(1, lambda: over.wait(60)))
    patience = Patience(attempts=20, timeout_s=0.5, pause_s=0.01)
    ShardCache(tmp_path / "third", 5000, patience).open(uri, info).close()
    assert not over.is_set()  # the call that hangs was left behind
    over.set()


def test_those_who_wait_for_a_download_that_fails_get_its_error_and_do_not_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, info = shard(tmp_path, 1)
    real, real_wait = storage.read_bytes, cache_module._wait_for
    all_wait, failed = threading.Semaphore(0), []

    def refuse(uri: str, **where: int) -> bytes:
        for _ in range(5 if not failed else 0):
            assert all_wait.acquire(timeout=60)
        failed.append(uri)
        raise StorageError("503 slow down")

    def wait(*args: object) -> None:
        all_wait.release()
        real_wait(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "read_bytes", refuse)
    monkeypatch.setattr(cache_module, "_wait_for", wait)
    cache = ShardCache(tmp_path / "cache", 5000, QUICK)
    with ThreadPoolExecutor(6) as pool:
        errors = [task.exception() for task in [pool.submit(cache.open, uri, info) for _ in range(6)]]
    assert len({str(error) for error in errors}) == 1
    assert all(isinstance(error, UnreachableError) and "503 slow down" in str(error) for error in errors)
    assert len(failed) == QUICK.attempts
    monkeypatch.setattr(storage, "read_bytes", real)  # who comes later did not wait, and asks
    with cache.open(uri, info) as file:
        assert file.read() == bytes([1]) * 1000


def test_threads_that_want_the_same_shard_download_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, info = shard(tmp_path, 1)
    real, reads = storage.read_bytes, []

    def slow(uri: str, **where: int) -> bytes:
        reads.append(uri)
        time.sleep(0.1)
        return real(uri, **where)

    monkeypatch.setattr(storage, "read_bytes", slow)
    cache = ShardCache(tmp_path / "cache", 5000, QUICK)

    def read(_: int) -> bytes:
        with cache.open(uri, info) as file:
            return file.read()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {bytes([1]) * 1000}
    assert len(reads) == 1


def _die_in_the_middle(folder: Path, uri: str, info: ShardInfo) -> None:
    real = storage.read_bytes
    cache_module._PIECE_BYTES = 400
    storage.read_bytes = lambda uri, *, start, length: (  # type: ignore[assignment]
        os._exit(9) if start else real(uri, start=start, length=length)
    )
    ShardCache(folder, 1500, QUICK).open(uri, info)


def _go_round(folder: Path, shards: list[tuple[str, ShardInfo]], seed: int) -> None:
    cache = ShardCache(folder, 2500, Patience(attempts=3, timeout_s=AGES_S, pause_s=0.01))
    for turn in range(30):
        number = (turn * (seed + 1) + seed) % len(shards)
        with cache.open(*shards[number]) as file:
            assert file.read() == bytes([number]) * 1000


def test_a_killed_download_leaves_nothing_that_counts(tmp_path: Path) -> None:
    uri, info = shard(tmp_path, 1)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die_in_the_middle, args=(tmp_path / "cache", uri, info))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert names(tmp_path / "cache") == [f"{info.sha256}.part"]
    cache = ShardCache(tmp_path / "cache", 1500, QUICK)
    cache.open(*shard(tmp_path, 2)).close()  # has room, since nobody downloads the other any more
    with cache.open(uri, info) as file:
        assert file.read() == bytes([1]) * 1000


def test_processes_share_a_cache_that_is_too_small_for_them(tmp_path: Path) -> None:
    shards = [shard(tmp_path, seed) for seed in range(5)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_go_round, args=(tmp_path / "cache", shards, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        assert process.exitcode == 0
    assert len(names(tmp_path / "cache")) <= 2
