"""Processes that train start without the C library's cache of small blocks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infinity.jobs.cluster.heap import HEAP, VARIABLE, heap_of_workers

CODE = "import os; print(os.environ.get('GLIBC_TUNABLES'))"


def told() -> str:
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.strip()


def test_only_processes_that_start_inside_the_block_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with heap_of_workers():
        assert told() == HEAP[VARIABLE]
    assert VARIABLE not in os.environ
    assert told() == "None"


def test_an_error_inside_the_block_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(RuntimeError), heap_of_workers():
        raise RuntimeError
    assert VARIABLE not in os.environ


def test_a_setting_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "glibc.malloc.arena_max=4")
    with heap_of_workers():
        assert told() == "glibc.malloc.arena_max=4"
    assert os.environ[VARIABLE] == "glibc.malloc.arena_max=4"


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's own programs answer")
def test_the_c_library_takes_the_setting() -> None:
    """Its loader lists settings and their values as it has read them."""
    loader = next(
        (each for each in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if os.path.exists(each)), ""
    )
    if not loader:
        pytest.skip("no loader of the GNU C library where it usually lies")
    done = subprocess.run([loader, "--list-tunables"], env={**os.environ, **HEAP}, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this C library does not list its settings")
    line = next(each for each in done.stdout.splitlines() if "glibc.malloc.tcache_count" in each)
    assert line.split()[1] == "0x0"
