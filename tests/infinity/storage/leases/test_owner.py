"""A process is known by its number and its start, so that a later one with the same number is another."""

import os
import subprocess
import sys

import pytest

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
