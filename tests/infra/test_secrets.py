"""Secrets are in nothing that a run leaves; and the search for them finds what there is."""

from __future__ import annotations

import base64
import gzip
import random
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from infinity import storage
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.registry import run_spec
from infinity.jobs.submission.submit import _variables
from infra.settings import Settings
from tests.fixtures.jobs.small_jobs import spec_of
from tests.fixtures.limits import wait_until
from tests.fixtures.operations.canaries import KINDS, Canary, Search, canaries, listed
from tests.fixtures.operations.measure_secrets import measure

VARIABLES = {
    "s3_access_key": "AWS_ACCESS_KEY_ID", "s3_secret_key": "AWS_SECRET_ACCESS_KEY", "ray_token": "RAY_AUTH_TOKEN",
    "prefect_auth": "PREFECT_API_AUTH_STRING", "database_password": "INFINITY_DATABASE", "hub_token": "HF_TOKEN",
    "judge_key": "OPENAI_API_KEY",
}  # fmt: skip


@pytest.mark.parametrize("before", range(7))
def test_a_secret_is_found_whatever_stands_before_it_and_however_it_is_written(before: int) -> None:
    secret = canaries()["judge_key"]
    text = "x" * before + secret
    canary = Canary(secret)
    for data in (
        text.encode(), base64.b64encode(text.encode()), text.encode("utf-16-le"), text.encode().hex().encode(),
        text[-14:].encode(), text[: before + 20].encode(),
    ):  # fmt: skip
        assert canary.is_in(b"some bytes " + data + b" and more"), data


def test_what_is_no_secret_is_not_found() -> None:
    canary, draw = Canary(canaries()["judge_key"]), random.Random(0)
    assert not canary.is_in(b"")
    for _ in range(100):
        assert not canary.is_in(draw.randbytes(2000).hex().encode())
    assert not canary.is_in(base64.b64encode(secrets.token_bytes(10_000)))


def test_files_are_searched_by_name_and_content_also_packed_ones_except_where_secrets_are_kept(tmp_path: Path) -> None:
    wanted = {"a": canaries()["judge_key"], "b": canaries()["hub_token"]}
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name, data in (
        ("deep/er/plain", wanted["a"].encode()), ("packed.gz", gzip.compress(wanted["b"].encode())),
        (f"named-{wanted['a']}", b""), ("kept", wanted["b"].encode()), ("clean", b"nothing"),
        ("broken.gz", b"\x1f\x8bx"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    found = Search(wanted, exempt=(tmp_path / "kept",)).files(tmp_path)
    assert {Path(path).name[:6]: kinds for path, kinds in found.items()} == {
        "plain": {"a"}, "packed": {"b"}, "named-": {"a"},
    }  # fmt: skip


def test_command_lines_of_processes_are_gathered() -> None:
    mark = f"mark-{secrets.token_hex(8)}"
    with listed() as lines:
        process = subprocess.Popen([sys.executable, "-c", "input()", mark], stdin=subprocess.PIPE)
        wait_until(lambda: any(mark.encode() in line for line in list(lines)), "the line of the process")
        process.communicate(b"\n")


def test_a_job_leaves_no_secret_of_its_environment_in_its_bucket(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = canaries()
    for kind in KINDS:
        monkeypatch.setenv(VARIABLES[kind], given[kind])
    with in_process():
        run_spec(spec_of("dataset", tmp_path).replace(output=s3_server))
    uris = storage.list_files(s3_server)
    assert any(uri.endswith("report.json") for uri in uris)
    search = Search(given)
    assert search.named((uri, storage.read_bytes(uri)) for uri in uris) == {}
    assert search.files(tmp_path) == {}


def test_neither_settings_as_text_nor_the_environment_of_a_ray_job_hold_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everybody who sees the dashboard reads the environment of a job."""
    given = canaries()
    for kind in KINDS:
        monkeypatch.setenv(VARIABLES[kind], given[kind])
    shown = f"{Settings()!r} {Settings()} {_variables()}"
    assert Search(given).look(shown.encode()) == set()


@pytest.mark.ray
@pytest.mark.prefect
@pytest.mark.slow
def test_one_run_with_a_canary_of_every_kind_leaves_none_anywhere(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("minutes; --exhaustive runs it")
    assert measure(tmp_path) == {kind: {} for kind in KINDS}
