"""No stored state is lost or believed wrongly, whatever happens to its files."""

import errno
import logging
import random
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity import storage
from infinity.checkpoint import CheckpointError
from infinity.checkpoint.writing import write_part
from infinity.training import checkpoints
from infinity.training.checkpoints import LostStateError, StateStore
from infinity.training.learner import LoopConfig
from infinity.training.state import TrainState
from tests.fixtures.faults.storage_faults import LOCAL_KINDS, Fault, KilledError, Kind, faulty_disk
from tests.fixtures.jobs.toy_training import BATCH, Regression, assert_same, new_state, run

CONFIG = LoopConfig(
    num_steps=12, batch_size=BATCH, log_every_steps=5, save_every_steps=4, sample_every_steps=100, ema_decay=0.9
)
logger = logging.getLogger(__name__)
Harm = Callable[[Path, random.Random], None]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States of steps 4, 8 and 12, of which a store keeps the last two."""
    folder = tmp_path_factory.mktemp("stored")
    store = StateStore(str(folder), background=False)
    run(CONFIG, save=store.save)
    return folder


def test_the_newest_two_are_kept(stored: Path) -> None:
    assert sorted(path.name for path in stored.iterdir()) == ["step-00000008", "step-00000012"]


def flip(file: Path, draw: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def delete(file: Path, draw: random.Random) -> None:
    file.unlink()


def replace_by_garbage(file: Path, draw: random.Random) -> None:
    file.write_bytes(draw.randbytes(draw.randrange(2000)))


HARMS: tuple[Harm, ...] = (flip, truncate, delete, replace_by_garbage)


def newest(folder: Path) -> tuple[TrainState, tuple[str, ...]]:
    store = StateStore(str(folder), background=False)
    found, notes = store.newest()
    assert found is not None
    state = new_state(Regression(), CONFIG)
    store.restore(state, found.uri)
    return state, notes


def test_any_damage_to_the_newest_state_costs_one_interval_and_is_said(
    stored: Path, tmp_path: Path, exhaustive: bool
) -> None:
    whole = run(CONFIG)
    good, _ = newest(stored)
    assert_same(good, whole)
    for trial in range(2000 if exhaustive else 60):
        draw = random.Random(trial)
        shutil.copytree(stored, tmp_path / "harmed")
        harmed = draw.choice(sorted((tmp_path / "harmed" / "step-00000012").iterdir()))
        draw.choice(HARMS)(harmed, draw)
        if harmed.is_file() and harmed.read_bytes() == (stored / "step-00000012" / harmed.name).read_bytes():
            shutil.rmtree(tmp_path / "harmed")
            continue
        state, notes = newest(tmp_path / "harmed")
        if state.step == 12:  # the line end behind the digest was cut off: nothing is missing
            assert harmed.name == "COMMITTED"
            assert_same(state, whole)
        else:
            assert state.step == 8, harmed.name
            assert "step 12" in notes[0]
        shutil.rmtree(tmp_path / "harmed")


def test_a_damaged_state_is_refused_before_anything_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its files it is, and also where no reader of tensors would notice: in a bit of a number."""
    monkeypatch.setattr(checkpoints, "write_part", partial(write_part, max_file_bytes=300))
    store = StateStore(str(tmp_path), background=False)
    store.save(run(CONFIG))
    files = sorted((tmp_path / "step-00000012").glob("*.safetensors"))
    assert len(files) > 1, files
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        state, untouched = (new_state(Regression(), CONFIG) for _ in range(2))
        with pytest.raises(CheckpointError, match=file.name):
            store.restore(state, store.folder(12))
        assert_same(state, untouched)
        file.write_bytes(content)


def test_the_newest_state_is_the_one_whose_save_is_still_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looked = StateStore(str(tmp_path), background=True), threading.Event()
    write = store._write
    monkeypatch.setattr(store, "_write", lambda *what: (looked.wait(0.3), write(*what)))
    store.save(run(CONFIG))
    found, notes = store.newest()
    assert found is not None
    assert (found.uri, notes) == (store.folder(12), ())
    store.close()


def test_a_run_goes_on_from_the_older_state_and_ends_equal(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path / "harmed")
    flip(tmp_path / "harmed" / "step-00000012" / "model.safetensors", random.Random(0))
    store = StateStore(str(tmp_path / "harmed"), background=False)
    found, _ = store.newest()
    assert found is not None
    resumed = run(CONFIG, resume=Path(found.uri), save=store.save)
    assert_same(resumed, run(CONFIG))
    again, notes = newest(tmp_path / "harmed")
    assert (again.step, notes) == (12, ()), "the damaged folder was written anew"


def test_a_run_never_begins_again_in_silence(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path / "harmed")
    for folder in (tmp_path / "harmed").iterdir():
        flip(folder / "model.safetensors", random.Random(1))
    with pytest.raises(LostStateError, match=r"done 12 steps.*step 12 is damaged.*step 8 is damaged.*on purpose"):
        StateStore(str(tmp_path / "harmed"), background=False).newest()


def test_states_that_another_worker_drops_while_they_are_looked_at_are_not_lost(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose driver died, and that still trains while the job begins again."""
    shutil.copytree(stored / "step-00000008", tmp_path / "step-00000008")
    load = checkpoints.load_checkpoint

    def gets_on(uri: str, **options: Any) -> Any:
        if not (tmp_path / "step-00000012").exists():
            shutil.copytree(stored / "step-00000012", tmp_path / "step-00000012")
            shutil.rmtree(tmp_path / "step-00000008")
        return load(uri, **options)

    monkeypatch.setattr(checkpoints, "load_checkpoint", gets_on)
    found, notes = StateStore(str(tmp_path), background=False).newest()
    assert found is not None
    assert found.extra["step"] == 12
    assert notes == ()


def test_nothing_stored_is_a_new_run(tmp_path: Path) -> None:
    assert StateStore(str(tmp_path / "none"), background=False).newest() == (None, ())


def test_a_cut_at_any_file_of_a_save_leaves_the_state_before(stored: Path, tmp_path: Path) -> None:
    """As a kill does: the files of a folder appear in order, the marker last."""
    files = ["config.json", "model.safetensors", "checksums.json", "COMMITTED"]
    assert sorted(files) == sorted(path.name for path in (stored / "step-00000012").iterdir())
    for number in range(len(files)):
        shutil.copytree(stored, tmp_path / "cut")
        for name in files[number:]:
            (tmp_path / "cut" / "step-00000012" / name).unlink()
        assert newest(tmp_path / "cut")[0].step == 8
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_stops_with_its_reason_and_keeps_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    store = StateStore(str(tmp_path), background=background)
    write, calls = storage.write_bytes, 0

    def full(uri: str, data: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise storage.StorageError(f"cannot write {uri}: no space left on device") from OSError(errno.ENOSPC, "")
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", full)

    def run_and_wait() -> None:
        run(CONFIG, save=store.save)
        store.wait()

    with pytest.raises(storage.StorageError, match="no space left"):
        run_and_wait()
    monkeypatch.undo()
    state, _ = newest(tmp_path)
    assert state.step in (4, 8)
    assert_same(run(CONFIG, resume=tmp_path / f"step-{state.step:08d}"), run(CONFIG))


def test_a_save_in_the_background_stores_the_moment_it_was_asked(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path), background=True)
    state = run(CONFIG)
    store.save(state)
    with torch.no_grad():
        for weight in state.module.parameters():
            weight.zero_()
    store.close()
    assert_same(newest(tmp_path)[0], run(CONFIG))


def test_a_save_that_failed_in_the_background_ends_the_run_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, steps = StateStore(str(tmp_path), background=True), 0

    def save(state: TrainState) -> None:
        if state.step == 4:
            monkeypatch.setattr(storage, "write_bytes", full)
        store.save(state)

    def full(uri: str, data: Any, **options: Any) -> None:
        raise storage.StorageError(f"cannot write {uri}: no space left on device")

    def stop() -> bool:
        nonlocal steps
        steps += 1
        assert store._pool is not None
        store._pool.submit(lambda: None).result()  # behind the save: it has come to its end
        return store.has_failed

    with pytest.raises(storage.StorageError, match="no space left"):
        run(CONFIG, save=save, stop=stop)
    assert steps == 5
    assert newest(tmp_path)[0].step == 0


def test_one_stored_state_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        StateStore("anywhere", keep=1)


def saved_through(folder: Path, fault: Fault) -> tuple[list[int], BaseException | None]:
    """A run on a disk that fails once: steps whose save came to its end, and what ended the run."""
    store, done = StateStore(str(folder), background=False), []

    def save(state: TrainState) -> None:
        store.save(state)
        done.append(state.step)

    try:
        with faulty_disk(fault):
            run(CONFIG, save=save)
    except (storage.StorageError, KilledError) as error:
        return done, error
    return done, None


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_whatever_operation_of_a_save_fails_or_is_the_last_no_finished_state_is_lost(
    kind: Kind, tmp_path: Path, exhaustive: bool
) -> None:
    """Killed, the disk full, an error, a time-out or a short write at every call of the system that saves make."""
    whole = run(CONFIG)
    quiet = Fault()
    assert saved_through(tmp_path / "quiet", quiet) == ([0, 4, 8, 12], None)
    every = range(1, quiet.count + 1)
    failed = 0
    for at in every if exhaustive else random.Random(kind).sample(every, 4):
        folder = tmp_path / str(at)
        done, error = saved_through(folder, Fault(kind, at))
        failed += error is not None
        found, _ = StateStore(str(folder), background=False).newest()
        assert found is not None or not done, f"{kind} at operation {at}"
        if found is not None:
            assert found.extra["step"] >= max(done, default=0), f"{kind} at operation {at}"
        store = StateStore(str(folder), background=False)
        resumed = run(CONFIG, resume=None if found is None else Path(found.uri), save=store.save)
        assert_same(resumed, whole)
        assert newest(folder)[0].step == 12
        shutil.rmtree(folder)
    if kind == "kill":
        assert failed == (len(every) if exhaustive else 4)
    logger.warning(
        "%s: %d of %d operations, %d ended the run", kind, len(every) if exhaustive else 4, len(every), failed
    )
