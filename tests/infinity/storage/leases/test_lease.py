"""One owner of a folder: who it is, when another takes over, and that who lost the folder writes nothing more."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infinity import storage
from infinity.storage import LeaseHeldError, LeaseLostError, StorageError
from infinity.storage.errors import FileChangedError
from infinity.storage.fences import fenced
from infinity.storage.leases import lease, lease_file
from infinity.storage.leases.lease import LeaseFence, LeaseRecord, Waiting, acquire, parsed
from infinity.storage.leases.owner import Owner, this_process
from infinity.storage.names import LEASE_FILE
from tests.fixtures.faults.storage_faults import in_a_dying_process
from tests.fixtures.limits import AGES_S, wait_until

REPOSITORY = Path(__file__).parents[4]
NEVER_S = 3600.0
"""Silence after which nobody takes over while a test runs."""


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet."""
    root = str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_server")
    return storage.join(root, "job")


@pytest.fixture
def owners() -> Iterator[Callable[..., lease.Lease]]:
    """Makes owners, whose heart-beats end with the test."""
    made: list[lease.Lease] = []

    def make(folder: str, **options: float) -> lease.Lease:
        made.append(acquire(folder, **{"silence_s": NEVER_S, **options}))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def record_of(folder: str) -> LeaseRecord:
    found = lease_file.lease_file(folder, storage.local_path(folder)).read()
    assert found is not None
    return parsed(found)


def usurp(folder: str) -> None:
    """Give the folder to a process of another machine, as one does that saw no sign of life."""
    file = lease_file.lease_file(folder, storage.local_path(folder))
    other = Owner(who="somebody on elsewhere, process 7", machine="another", number=7, started=1)
    for _ in range(10):
        found = file.read()
        assert found is not None
        now = parsed(found)
        try:
            file.swap(found[1], now.replace(token=now.token + 1, nonce="other", owner=other, note="step 5 of 9").data())
            return
        except FileChangedError as error:
            refused = error  # a heart-beat came between
    raise refused


def test_the_second_one_is_told_who_since_when_and_what_to_do(folder: str, owners: Callable[..., lease.Lease]) -> None:
    owner = owners(folder, silence_s=0.6)
    owner.note("step 3 of 9")
    wait_until(lambda: record_of(folder).note == "step 3 of 9", "a heart-beat")
    with pytest.raises(
        LeaseHeldError, match=rf"process {os.getpid()}, since 20..-.*\(step 3 of 9\); wait for its end, or"
    ):
        acquire(folder, silence_s=NEVER_S, wait=False)


def test_a_token_rises_with_every_owner_until_the_work_is_finished(folder: str) -> None:
    tokens = []
    for finished in (False, False, True, False):
        owner = acquire(folder, silence_s=NEVER_S)
        tokens.append(owner.fence.token)
        owner.release(finished=finished)
    assert tokens == [1, 2, 3, 1]


def test_a_lease_is_no_content_and_goes_with_the_work(folder: str, tmp_path: Path) -> None:
    owner = acquire(folder, silence_s=NEVER_S)
    storage.write_text(storage.join(folder, "x"), "content")
    assert storage.list_files(folder) == (storage.join(folder, "x"),)
    storage.download_folder(folder, tmp_path / "copy")
    assert os.listdir(tmp_path / "copy") == ["x"]
    owner.release(finished=True)
    assert not storage.exists(storage.join(folder, LEASE_FILE))


def test_who_did_nothing_leaves_nothing(folder: str) -> None:
    acquire(folder, silence_s=NEVER_S).release(finished=False, empty=True)
    assert not storage.exists(folder)


def test_who_lost_the_folder_writes_and_deletes_nothing_in_it(folder: str, owners: Callable[..., lease.Lease]) -> None:
    kept, outside = storage.join(folder, "kept"), storage.join(storage.parent(folder), "outside")
    owner = owners(folder)
    (source := Path(os.environ.get("TMPDIR", "/tmp")) / f"lease-{os.getpid()}").mkdir(exist_ok=True)
    (source / "copied").write_text("x")
    with fenced(owner.fence):
        storage.write_text(kept, "mine")
        usurp(folder)

        def create() -> None:
            with storage.create(storage.join(folder, "created")) as file:
                file.write(b"x")

        def draft() -> None:
            with storage.draft(folder) as file:
                file.write(b"x")
                file.publish("drafted")

        acts: list[Callable[[], object]] = [
            lambda: storage.write_text(kept, "other"),
            lambda: storage.write_text(storage.join(folder, "deep", "new"), "other"),
            lambda: storage.put_once(storage.join(folder, "once"), b"x"),
            lambda: storage.upload_folder(source, folder),
            lambda: storage.delete_tree(kept),
            lambda: storage.delete_tree(folder),
            create,
            draft,
        ]
        for act in acts:
            with pytest.raises(
                LeaseLostError, match=r"token 1.*somebody on elsewhere.*step 5 of 9.*start again to wait"
            ):
                act()
        storage.write_text(outside, "free")
    assert storage.list_files(folder) == (kept,)
    assert storage.read_text(kept) == "mine"
    (source / "copied").unlink()
    source.rmdir()


def test_the_pass_of_an_owner_is_checked_in_its_workers(folder: str, owners: Callable[..., lease.Lease]) -> None:
    owner = owners(folder)
    travelled = LeaseFence(owner.fence.folder, owner.fence.file, owner.fence.token, owner.fence.nonce)

    def work() -> None:
        with fenced(travelled):
            storage.write_text(storage.join(folder, "x"), "worker")

    work()
    usurp(folder)
    with pytest.raises(LeaseLostError):
        work()


def test_an_owner_finds_out_by_its_heart_beat(folder: str, owners: Callable[..., lease.Lease]) -> None:
    owner = owners(folder, silence_s=0.6)
    usurp(folder)
    assert owner.lost.wait(AGES_S)


def test_a_dead_process_of_this_machine_is_followed_at_once(folder: str) -> None:
    def die() -> None:
        acquire(folder, silence_s=NEVER_S)
        os._exit(9)

    assert in_a_dying_process(die) == 9
    owner = acquire(folder, silence_s=NEVER_S)
    assert owner.fence.token == 2
    owner.release(finished=True)


def test_a_number_that_a_new_process_has_is_not_the_old_process() -> None:
    ours = this_process()
    assert not ours.is_dead
    assert ours.replace(started=ours.started - 1).is_dead
    assert not ours.replace(machine="another", number=2**22).is_dead, "of another machine nothing is known"
    assert not ours.replace(machine="", number=2**22).is_dead
    with subprocess.Popen(["sleep", "60"]) as other:
        started = int(Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19])
        theirs = ours.replace(number=other.pid, started=started)
        assert not theirs.is_dead
        other.send_signal(signal.SIGSTOP)
        assert not theirs.is_dead, "stopped is not dead"
        other.kill()
        wait_until(lambda: theirs.is_dead, "the death of a process")  # also before its parent has looked
    assert theirs.is_dead


def record(**changes: object) -> LeaseRecord:
    other = Owner(who="somebody", machine="another", number=7, started=1)
    plain = LeaseRecord(token=3, nonce="n", owner=other, since="now", beat=0, silence_s=60.0)
    return plain.replace(**changes)


def look(waiting: Waiting, what: LeaseRecord, at: float, patch: pytest.MonkeyPatch) -> bool:
    patch.setattr(lease.time, "monotonic", lambda: at)
    return waiting.is_over((what.data(), str(what.beat)), at)


def test_silence_is_what_the_one_who_waits_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting()
    assert [look(waiting, record(), at, monkeypatch) for at in (1000.0, 1030.0)] == [False, False]
    seen = [look(waiting, record(), 1030.0 + 2.0 * number, monkeypatch) for number in range(1, 40)]
    # Of the 30 seconds in which it did not look 4 count: two pauses.
    assert seen.index(True) == (60 - 4) // 2 - 1


def test_one_heart_beat_is_a_sign_of_life_whatever_the_clocks_say(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, beats = Waiting(), 0
    for number in range(1000):
        beats += number % 25 == 0  # every 50 of 60 seconds
        since = f"{number % 7}"  # a clock that jumps
        monkeypatch.setattr(time, "time", lambda number=number: (number % 3 - 1) * 3600.0)
        assert not look(waiting, record(beat=beats, since=since), 2.0 * number, monkeypatch)


def test_an_owner_that_promised_more_time_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting()
    seen = [look(waiting, record(silence_s=600.0), 20.0 * number, monkeypatch) for number in range(40)]
    assert seen.index(True) == 30


def test_a_damaged_lease_is_taken_over_when_nobody_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LEASE_FILE).write_bytes(b"\xff{half")
    monkeypatch.setattr(lease, "UNREADABLE", lease.UNREADABLE.replace(silence_s=0.5))
    with pytest.raises(LeaseHeldError, match="an unknown time"):
        acquire(str(tmp_path), silence_s=NEVER_S, wait=False)
    owner = acquire(str(tmp_path), silence_s=NEVER_S)
    owner.release(finished=False)


def test_nobody_takes_over_between_the_look_and_the_write(
    tmp_path: Path, owners: Callable[..., lease.Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped right there still holds the lease, however long it is silent."""
    monkeypatch.setitem(lease_file._PATIENCE_S, fcntl.LOCK_EX, 0.05)
    owner = owners(str(tmp_path))
    owner.stop()
    gate = owner.fence.passing()
    next(gate)
    with pytest.raises(StorageError, match="holds this file"):
        usurp(str(tmp_path))
    next(gate, None)
    usurp(str(tmp_path))
    with pytest.raises(LeaseLostError):
        next(owner.fence.passing())


def test_two_threads_of_one_process_take_turns(folder: str) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        owner = acquire(folder, silence_s=30.0)
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        owner.release(finished=False)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert record_of(folder).token == 5


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_many_processes_with_signals_at_random_moments_have_one_committer(
    request: pytest.FixtureRequest, tmp_path: Path, exhaustive: bool, place: str
) -> None:
    """SIGSTOP, SIGCONT, SIGKILL of the owner, jumps of the clock by an hour; see ``lease_schedules``."""
    root = str(tmp_path) if place == "disk" else request.getfixturevalue("s3_server")
    last = {"disk": 199 if exhaustive else 7, "s3": 59 if exhaustive else 1}[place]
    module = "tests.fixtures.faults.lease_schedules"
    done = subprocess.run(
        [sys.executable, "-m", module, root, "0", str(last)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=4 * AGES_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{last + 1} schedules")
    print(json.dumps(done.stdout.strip()))


def test_an_owner_that_forgets_the_folder_does_not_live_on_for_it(
    folder: str, owners: Callable[..., lease.Lease]
) -> None:
    """Python waits at its end for all threads but daemons, and a heart-beat never ends by itself."""
    owner = owners(folder, silence_s=60.0)
    assert owner._thread.is_alive()
    assert owner._thread.daemon
