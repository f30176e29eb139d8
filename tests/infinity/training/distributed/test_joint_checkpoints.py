"""States that two workers store together, each its own rows: nothing is lost, and any number of workers reads them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from infinity import storage
from infinity.checkpoint import CheckpointError, load_checkpoint, open_checkpoint
from infinity.checkpoint.writing import write_part
from infinity.training import checkpoints
from infinity.training.checkpoints import StateStore
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import assign
from infinity.training.ema import Ema
from infinity.training.state import TrainState
from tests.fixtures.faults.storage_faults import Fault, faulty_disk
from tests.fixtures.limits import AGES_S

FIRST, SECOND = 4, 8


def value_of(name: str, shape: torch.Size, step: int) -> Tensor:
    """What a tensor holds at a step."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(crc32(name.encode()) + step))


def state_at(step: int, *, sharded: bool = False) -> TrainState:
    """A state whose numbers follow from the step; rows that two workers cannot share evenly, and one row for both."""
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    if sharded:
        fully_shard(module, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = TrainState(module=module, optimizer=optimizer, ema=Ema(module, 0.9))
    move_to(state, step)
    return state


def move_to(state: TrainState, step: int) -> None:
    state.step = state.position = step
    with torch.no_grad():
        for name, value in state.held():
            assign(value, value_of(name, value.shape, step).to(value.dtype))


def check(state: TrainState, step: int) -> None:
    """The state is the one of the step, bit for bit, on every worker."""
    assert state.step == step
    for name, value in state.tensors():
        assert torch.equal(value, value_of(name, value.shape, step).to(value.dtype)), name


def two_workers(work: Callable[[int], None], meeting: Path) -> list[int | None]:
    """Exit codes of two forks that work together; 1 is an error, 9 a death."""

    def run(rank: int) -> None:
        code = 1
        try:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
            torch.set_num_threads(1)
            limit = timedelta(seconds=AGES_S)
            dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=limit)
            work(rank)
            dist.barrier()
            code = 0
        except (storage.StorageError, RuntimeError, AssertionError) as error:
            meeting.with_name(f"{meeting.name}-error-{rank}").write_text(repr(error))
        finally:
            os._exit(code)

    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run, args=(rank,)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(AGES_S)
    return [process.exitcode for process in ranks]


def save_twice(uri: str, faults: tuple[Fault, Fault]) -> Callable[[int], None]:
    """Both store the first state, and the second one on disks that fail."""

    def work(rank: int) -> None:
        store = StateStore(uri, writers=ProcessGroup.current())
        state = state_at(FIRST, sharded=True)
        store.save(state)
        store.wait()
        move_to(state, SECOND)
        with faulty_disk(faults[rank]):
            store.save(state)
            move_to(state, 99)  # the training goes on meanwhile
            store.close()
        if local := storage.local_path(uri):
            (local.parent / f"operations-{rank}").write_text(json.dumps(faults[rank].names))

    return work


def newest_here(uri: str) -> TrainState:
    """What one worker that is not sharded goes on from."""
    store, state = StateStore(uri, background=False), state_at(0)
    place, _ = store.newest_place()
    assert place is not None
    store.restore(state, place)
    return state


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two states of two workers, with the operations of either disk beside them."""
    folder = tmp_path_factory.mktemp("joint")
    assert two_workers(save_twice(str(folder / "state"), (Fault(), Fault())), folder / "meeting") == [0, 0]
    return folder


def test_each_worker_writes_its_rows_and_one_worker_reads_all(stored: Path) -> None:
    check(newest_here(str(stored / "state")), SECOND)
    last = stored / "state" / f"step-{SECOND:08d}"
    assert sorted(path.name for path in last.glob("*.safetensors")) == [
        "model-1of2.safetensors",
        "model-2of2.safetensors",
    ]
    whole = load_checkpoint(str(last)).tensors
    assert whole.keys() == dict(state_at(0).tensors()).keys()
    for name, value in whole.items():
        assert torch.equal(value, value_of(name, value.shape, SECOND).to(value.dtype)), name


def test_two_workers_read_what_two_or_one_stored(stored: Path, tmp_path: Path, s3_server: str) -> None:
    """In a bucket: one stores, two go on and store, one goes on."""
    uri = f"{s3_server}/joint"
    StateStore(uri, background=False).save(state_at(FIRST))

    def go_on(rank: int) -> None:
        store, state = StateStore(uri, writers=ProcessGroup.current()), state_at(0, sharded=True)
        store.restore(state, store.folder(FIRST))
        check(state, FIRST)
        move_to(state, SECOND)
        store.save(state)
        store.wait()
        again = state_at(0, sharded=True)
        store.restore(again, store.folder(SECOND))
        check(again, SECOND)
        own = open_checkpoint(store.folder(SECOND))
        assert "weights/0.weight" in own.tensors
        store.close()

    assert two_workers(go_on, tmp_path / "meeting") == [0, 0]
    check(newest_here(uri), SECOND)


def test_whichever_worker_dies_at_whatever_operation_no_finished_state_is_lost(
    stored: Path, tmp_path: Path, exhaustive: bool
) -> None:
    points = [
        (rank, at)
        for rank in (0, 1)
        for at in range(1, 1 + len(json.loads((stored / f"operations-{rank}").read_text())))
    ]
    for rank, at in points if exhaustive else random.Random(0).sample(points, 2):
        folder = tmp_path / f"{rank}-{at}"
        folder.mkdir()
        faults = (Fault("exit", at), Fault()) if rank == 0 else (Fault(), Fault("exit", at))
        codes = two_workers(save_twice(str(folder / "state"), faults), folder / "meeting")
        if codes == [0, 0]:
            # The folders of a state are made by whichever worker comes first, so that a run may have a few operations
            # fewer than the one whose operations were counted; then the last points are never reached.
            assert at > len(json.loads((stored / f"operations-{rank}").read_text())) - 12
            check(newest_here(str(folder / "state")), SECOND)
            continue
        assert codes[rank] == 9
        assert codes[1 - rank] == 1, "the other one learns of it"
        state = newest_here(str(folder / "state"))
        check(state, state.step)
        assert state.step in (FIRST, SECOND)


def test_a_full_disk_of_one_worker_is_told_to_both_and_keeps_what_was(stored: Path, tmp_path: Path) -> None:
    at = 1 + json.loads((stored / "operations-1").read_text()).index("write")
    codes = two_workers(save_twice(str(tmp_path / "state"), (Fault(), Fault("no space", at))), tmp_path / "meeting")
    assert codes == [1, 1]
    assert "worker 1 could not store its part" in (tmp_path / "meeting-error-0").read_text()
    assert "no space" in (tmp_path / "meeting-error-1").read_text().lower()
    check(newest_here(str(tmp_path / "state")), FIRST)


def test_a_damaged_part_is_found_and_the_state_before_is_taken(stored: Path, tmp_path: Path) -> None:
    for name in ("model-1of2.safetensors", "model-2of2.safetensors"):
        copy = tmp_path / name
        storage.download_folder(str(stored / "state"), copy)
        damaged = copy / f"step-{SECOND:08d}" / name
        data = bytearray(damaged.read_bytes())
        data[-1] ^= 1
        damaged.write_bytes(data)
        with pytest.raises(CheckpointError, match=f"damaged checkpoint: {name}"):
            load_checkpoint(str(damaged.parent))
        place, notes = StateStore(str(copy), background=False).newest_place()
        assert place is not None
        assert place.endswith(f"{FIRST:08d}")
        assert name in notes[0]
        check(newest_here(str(copy)), FIRST)


def test_a_damaged_part_is_refused_before_anything_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The many files of a large joint state are opened one by one while it is read; all are looked at before."""
    monkeypatch.setattr(checkpoints, "write_part", partial(write_part, max_file_bytes=60))
    faults = (Fault(), Fault())
    assert two_workers(save_twice(str(tmp_path / "state"), faults), tmp_path / "meeting") == [0, 0]
    files = sorted((tmp_path / "state" / f"step-{SECOND:08d}").glob("*.safetensors"))
    assert len(files) > 4, files
    for file in (files[0], files[len(files) // 2], files[-1]):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        state = state_at(FIRST)
        with pytest.raises(CheckpointError, match=file.name):
            StateStore(str(tmp_path / "state"), background=False).restore(state, str(file.parent))
        check(state, FIRST)
        file.write_bytes(content)


def test_a_worker_alone_does_not_store_a_part_as_the_whole(tmp_path: Path) -> None:
    def alone(rank: int) -> None:
        with pytest.raises(ValueError, match="among 2 workers cannot be stored by 1"):
            StateStore(str(tmp_path / f"state-{rank}"), background=False).save(state_at(FIRST, sharded=True))

    assert two_workers(alone, tmp_path / "meeting") == [0, 0]
