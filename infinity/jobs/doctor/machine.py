"""This machine: versions, devices, memory, limits, and optional programs."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from infinity.jobs.doctor.finding import Finding, Setup, fault, good, note

PACKAGE = "infinity-t2i"
PYTHONS = ((3, 11), (3, 14))
OPEN_FILES = 1024
"""Open files that a driver with a few workers and a data loader needs."""
SHARED_MEMORY_BYTES = 200 * 2**20
"""Object store of a local Ray; where /dev/shm is smaller, Ray writes to a disk and is slow."""


def versions(setup: Setup) -> Iterator[Finding]:
    """Compare Python and every package with the bounds that this package declares."""
    low, high = PYTHONS
    here = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    if not low <= here < high:
        yield fault("python", f"found Python {text}, expected 3.11 to 3.13", "make the environment with another Python")
    else:
        yield good("python", f"Python {text}")
    wrong = list(unmet(required()))
    for name, expected, found in wrong:
        yield fault("packages", f"{name}: expected {expected}, found {found}", "run `make setup` again")
    if not wrong:
        yield good("packages", f"{len(required())} required packages within their bounds")


def required() -> list[str]:
    """Return the requirements that this package declares, without those of its extras."""
    try:
        declared = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    return [line for line in declared if "extra ==" not in line]


def unmet(requirements: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, expected and found version of every requirement that the environment does not meet."""
    from packaging.requirements import Requirement

    for line in requirements:
        requirement = Requirement(line)
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found == "none" or not requirement.specifier.contains(found, prereleases=True):
            yield requirement.name, str(requirement.specifier) or "any version", found


def devices(setup: Setup) -> Iterator[Finding]:
    """Compare the machine's GPUs with the build of torch."""
    import torch

    listed = _gpus(setup.environment.get("PATH"))
    build = f"torch {torch.__version__}"
    if not listed:
        yield good("gpu", f"no NVIDIA GPU; {build} computes on {os.cpu_count()} CPUs")
    elif not torch.cuda.is_available():
        yield fault(
            "gpu",
            f"the driver lists {len(listed)} GPUs ({listed[0]}), but {build} cannot use them",
            "install the CUDA build: `make setup` without TORCH_INDEX_URL in a new environment",
        )
    else:
        yield good("gpu", f"{torch.cuda.device_count()} GPUs ({listed[0]}), {build}")


def _gpus(path: str | None) -> list[str]:
    program = shutil.which("nvidia-smi", path=path)
    if program is None:
        return []
    try:
        answer = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def limits(setup: Setup) -> Iterator[Finding]:
    """Look at open files, shared memory and the folder for temporary files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < OPEN_FILES:
        yield fault("open files", f"at most {soft} files may be open, expected {OPEN_FILES}", "`ulimit -n 4096`")
    else:
        yield good("open files", f"{soft} allowed")
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < SHARED_MEMORY_BYTES:
        yield fault(
            "shared memory",
            f"/dev/shm has {size / 1e6:.0f} MB, Ray's object store wants {SHARED_MEMORY_BYTES / 1e6:.0f} MB",
            "start the container with --shm-size=2g, or mount a larger tmpfs there",
        )
    else:
        yield good("shared memory", "room for the object store")


def forking(setup: Setup) -> Iterator[Finding]:
    """Look for settings with which processes that were forked or started side by side disturb each other."""
    threads = setup.environment.get("OMP_NUM_THREADS", "")
    cores = os.cpu_count() or 1
    if threads and (not threads.isdecimal() or not 1 <= int(threads) <= cores):
        yield fault(
            "threads",
            f"OMP_NUM_THREADS={threads}, expected a number from 1 to the {cores} cores of this machine",
            "unset it, or set it to 1: recipes say how many threads a worker has",
        )
    elif setup.environment.get("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0") not in ("0", "", "false"):
        yield note("threads", "RAY_ENABLE_UV_RUN_RUNTIME_ENV makes workers install packages", "unset it")
    else:
        yield good("threads", "threads of workers as the recipes say")
    if "libjemalloc" in setup.environment.get("LD_PRELOAD", ""):
        yield fault("fork", "LD_PRELOAD loads jemalloc, which may hang in forked processes of Ray", "unset LD_PRELOAD")
    else:
        yield good("fork", "nothing is loaded into every process")


def optional(setup: Setup) -> Iterator[Finding]:
    """Look for a browser and fonts, which only some tests and captions need."""
    for program, use in (("chromium", "tests of pages"), ("fc-list", "finding fonts of captions")):
        if shutil.which(program, path=setup.environment.get("PATH")) is None:
            yield note(program, f"not installed; {use} will be skipped", f"`apt-get install {_PACKAGES[program]}`")
        else:
            yield good(program, "installed")


_PACKAGES = {"chromium": "chromium chromium-driver", "fc-list": "fontconfig fonts-dejavu-core"}
