"""A process is known by its number and its start, so that a later one with the same number is another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infinity.storage.leases.lease import LeaseRecord
from infinity.storage.leases.look import holder
from infinity.storage.leases.owner import Owner, _status, this_process

LINUX = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells of other processes")


@LINUX
def test_this_process_knows_itself_and_lives() -> None:
    me = this_process()
    assert me.number == os.getpid()
    assert me.machine
    assert me.started > 0
    assert me.is_this_process
    assert not me.is_dead
    assert me.replace(started=me.started + 1).is_dead, "a later process with the same number"


@LINUX
def test_state_and_start_of_a_process_are_read_whatever_its_name() -> None:
    status = _status(os.getpid())
    assert status is not None
    assert status[0] in "RSD"
    assert status[1] == this_process().started


@LINUX
def test_a_process_that_has_ended_is_dead_and_one_of_another_machine_may_live() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    me = this_process()
    assert me.replace(number=ended.pid).is_dead
    assert not me.replace(number=ended.pid, machine="another").is_dead
    assert not Owner(who="?", machine="", number=ended.pid, started=1).is_dead


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63])
def test_a_number_that_no_process_has_is_that_of_a_damaged_lease(number: int, tmp_path: Path) -> None:
    """The system has no such process to ask for; an ``OverflowError`` ended whoever looked before."""
    record = LeaseRecord(token=3, nonce="n", owner=this_process(), since="now", beat=1, silence_s=60.0).to_json()
    record["owner"]["number"] = number
    (tmp_path / ".lease").write_text(json.dumps(record))
    assert holder(str(tmp_path)) is None
