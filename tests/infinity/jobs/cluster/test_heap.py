"""Processes that train start without the C library's cache of small blocks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infinity.jobs.cluster.heap import ALLOCATOR_VARIABLES, HEAP, SEGMENTS, VARIABLE, expand_segments, heap_of_workers

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


def test_a_gpu_gets_segments_and_a_cpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told_torch: list[str] = []
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told_torch.append)
    for name in ALLOCATOR_VARIABLES:
        monkeypatch.setenv(name, "")
    assert not expand_segments(torch.device("cpu"))
    assert told_torch == []
    assert expand_segments(torch.device("cuda"))
    assert told_torch == [SEGMENTS]
    assert os.environ["PYTORCH_ALLOC_CONF"] == SEGMENTS
    assert not expand_segments(torch.device("cuda")), "it is set already"


@pytest.mark.parametrize("name", ALLOCATOR_VARIABLES)
def test_a_setting_of_the_allocator_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "max_split_size_mb:512")
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", lambda _: pytest.fail("it was replaced"))
    assert not expand_segments(torch.device("cuda", 0))
    assert [os.environ.get(each) for each in ALLOCATOR_VARIABLES].count(None) == 1


def test_torch_knows_the_setting_and_reads_both_variables() -> None:
    """In a process of its own, since it holds for the whole process."""
    code = (
        "import torch; from infinity.jobs.cluster.heap import expand_segments; "
        "assert expand_segments(torch.device('cuda')); torch.zeros(3); print('set')"
    )
    env = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "set\n", done.stderr
    library = next((Path(torch.__file__).parent / "lib").glob("libc10.*"))
    assert all(name.encode() in library.read_bytes() for name in ALLOCATOR_VARIABLES)
