"""Where outputs go: can it be written, is there room, does the bucket keep conditions, do the clocks agree?"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from infinity import storage
from infinity.jobs.doctor.finding import Finding, Setup, fault, good, note

CLOCK_S = 60.0
"""Largest difference of two clocks; S3 refuses requests beyond 15 minutes, and logs are hard to compare sooner."""


def outputs(setup: Setup) -> Iterator[Finding]:
    """Write a file into the root of runs, twice under the condition that it is absent, and delete it."""
    folder = storage.absolute(setup.runs)
    probe = storage.join(folder, f"probe-{uuid.uuid4().hex}")
    try:
        storage.put_once(probe, b"one")
        try:
            storage.put_once(probe, b"another")
        except storage.FileAlreadyThereError:
            yield good("outputs", f"{folder} can be written, and keeps the condition that a file is absent")
        else:
            yield fault("outputs", f"{folder} replaces a file that must stay", "choose another disk or S3 server")
    except (storage.StorageError, ValueError) as error:
        yield fault("outputs", f"{folder} cannot be used: {error}", "set INFINITY_RUNS, or mend what the sentence says")
        return
    finally:
        _forget(probe)
    if (path := storage.local_path(folder)) is not None:
        yield from _room(path, setup.free_gigabytes)


def _forget(probe: str) -> None:
    try:
        storage.delete_tree(probe)
    except storage.StorageError:
        return


def _room(path: Path, least: float) -> Iterator[Finding]:
    free = shutil.disk_usage(path).free / 1e9
    if free < least:
        yield fault(
            "disk", f"{path} has {free:.1f} GB free, expected {least:g} GB", "make room, or set INFINITY_RUNS elsewhere"
        )
    else:
        yield good("disk", f"{free:.0f} GB free")


def clocks(setup: Setup) -> Iterator[Finding]:
    """Compare this machine's clock with that of the S3 server, if outputs go there."""
    endpoint = setup.environment.get("AWS_ENDPOINT_URL_S3") or setup.environment.get("AWS_ENDPOINT_URL")
    if "://" not in setup.runs or not endpoint:
        return
    try:
        answer = httpx.get(endpoint, timeout=10.0, trust_env=False)
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError):
        return  # whether it answers is the business of `outputs`
    apart = abs(theirs - time.time())
    if apart > CLOCK_S:
        yield fault("clock", f"the clock of {endpoint} and this one are {apart:.0f} s apart", "set both by NTP")
    else:
        yield good("clock", "agrees with that of the S3 server")


def safety(setup: Setup) -> Iterator[Finding]:
    """Look at settings that keep pickled data of strangers from being run."""
    if setup.environment.get("WDS_SECURE") != "1":
        found = "WDS_SECURE is not 1: where programs read shards of strangers by webdataset itself, pickles are run"
        yield note("webdataset", found, "`source infra/env.sh`, or start through make")
    else:
        yield good("webdataset", "WDS_SECURE=1")


def keys(setup: Setup) -> Iterator[Finding]:
    """Look at who can read files with secrets."""
    folder = setup.state / "secrets"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    named = (setup.environment.get("RAY_AUTH_TOKEN_PATH"), setup.environment.get("AWS_SHARED_CREDENTIALS_FILE"))
    files += [Path(name) for name in named if name and name != os.devnull]
    bad = [finding for path in files if (finding := _of_key(path)) is not None]
    yield from bad
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        yield fault("secrets", f"{folder}: others can look into it", f"`chmod 700 {folder}`, then new secrets")
    elif not bad:
        yield good("secrets", f"{len(files)} files, readable by their owner only" if files else "no files yet")


def _of_key(path: Path) -> Finding | None:
    if not path.is_file():
        return fault("secrets", f"{path} is named, but is not there", "correct the variable that names it")
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        mode = f"{status.st_mode & 0o777:04o}"
        return fault(
            "secrets",
            f"{path}: expected a file that only this user can read, found mode {mode} of user {status.st_uid}",
            "who could read it may know the secret: make a new one, and `chmod 600` it",
        )
    if not path.read_bytes().strip():
        return fault("secrets", f"{path} is empty", "delete it; `make down` and `make up` make a new one")
    return None
