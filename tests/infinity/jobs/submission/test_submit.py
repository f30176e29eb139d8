"""A stage as a Ray job on a running cluster: started once, found again, stopped with its state, and never orphaned."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from infinity.jobs.spec import JobSpec, is_done
from infinity.jobs.submission.client import JobState, SubmissionError, is_job_address
from infinity.jobs.submission.files import MAY_PASS, JobFiles, submission_id
from infinity.jobs.submission.submit import _failure
from infinity.jobs.watching import ClusterLostError
from infinity.recipes.runs import EndToEnd, end_to_end
from tests.fixtures.faults.killing import REPOSITORY, Victim, newest_step
from tests.fixtures.limits import AGES_S, wait_until
from tests.fixtures.servers.ray_head import RayHead, ray_head

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NEVER = 90_000
Start = Callable[..., Victim]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    with ray_head(tmp_path_factory.mktemp("head"), INFINITY_JOB_UNWATCHED_S="25") as started:
        yield started


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EndToEnd:
    """The stages of a small run, whose folder is shared by all tests."""
    plan = end_to_end("mini", source=None, output=str(tmp_path_factory.mktemp("runs") / "mini"))
    loop = plan.tokenizer.loop.replace(num_steps=NEVER, save_every_steps=NEVER)
    return plan.replace(tokenizer=plan.tokenizer.replace(loop=loop))


@pytest.fixture
def start(head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    started: list[Victim] = []
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def start(spec: JobSpec, run: str, **variables: str) -> Victim:
        file = tmp_path / f"{len(started)}.json"
        file.write_text(json.dumps(spec.to_file()))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (head.variables | variables).items():
                patch.setenv(name, value)
            victim = Victim(
                ["tests.fixtures.jobs.job_driver", str(file), head.address, run], tmp_path / f"{file.stem}.log"
            )
        started.append(victim)
        return victim

    yield start
    for victim in started:
        victim.end()


def said(victim: Victim) -> list[str]:
    return victim.log.read_text("utf-8").splitlines()


def ended(victim: Victim) -> int:
    wait_until(lambda: victim.has_ended, "the end of the driver", period_s=0.2)
    return victim.process.wait(timeout=AGES_S)


def says(victim: Victim, words: str) -> str:
    """The first line with these words, once it is there."""

    def line() -> str | None:
        if victim.has_ended and not any(words in each for each in said(victim)):
            pytest.fail(f"ended without {words!r}: {said(victim)[-5:]}")
        return next((each for each in said(victim) if words in each), None)

    return str(wait_until(line, words, period_s=0.2))


def jobs(head: RayHead, spec: JobSpec) -> list[dict[str, Any]]:
    """The jobs of a stage that the cluster knows."""
    token = Path(head.variables["RAY_AUTH_TOKEN_PATH"]).read_text()
    answer = httpx.get(
        f"{head.address}/api/jobs/", headers={"authorization": f"Bearer {token}"}, timeout=AGES_S, trust_env=False
    )
    return [job for job in answer.json() if job["submission_id"] == submission_id(spec)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("12:00:01 error: /runs/t: no space left on the disk", "/runs/t: no space left on the disk"),
        (
            '{"time": "1", "level": "ERROR", "logger": "e", "message": "error: a: b", "run": "demo", "stage": "t"}',
            "a: b",
        ),
        ('{"time": "1", "level": "ERROR", "logger": "e", "message": "error: a"}', "a"),
    ],
    ids=["text", "JSON of a run", "JSON"],
)
@pytest.mark.parametrize(("code", "kind"), [(1, SubmissionError), (MAY_PASS, ClusterLostError)])
def test_a_job_whose_folder_takes_no_last_word_is_heard_in_its_log(
    tmp_path: Path, line: str, said: str, code: int, kind: type[Exception]
) -> None:
    """As on a full disk. Another job has left its own word there."""
    spec = end_to_end("mini", source=None, output=str(tmp_path)).dataset
    files, message = JobFiles.of(spec), f"failed with exit code {code}:\n12:00:00 a\n{line}\nbye"
    state = JobState("FAILED", message, code, {})
    files.end("another", "a word of an earlier job", may_retry=False)
    error = _failure(SimpleNamespace(address="", page=str), files, spec, state)  # type: ignore[arg-type]
    assert type(error) is kind
    assert str(error) == said
    for silent in (JobState("FAILED", "killed\nby something", code, {}), JobState("FAILED", line, 137, {})):
        error = _failure(SimpleNamespace(address="", page=str), files, spec, silent)  # type: ignore[arg-type]
        assert type(error) is ClusterLostError
        assert "died (" in str(error)


@pytest.mark.parametrize("address", ["http://head:8265", "https://ray.example.com"])
def test_an_address_of_the_web_means_jobs(address: str) -> None:
    assert is_job_address(address)


@pytest.mark.parametrize("address", [None, "local", "head:6379", "ray://head:10001", "127.0.0.1:6379"])
def test_other_addresses_mean_the_process_of_the_flow(address: str | None) -> None:
    assert not is_job_address(address)


def test_the_id_of_a_job_follows_from_what_is_done_and_where(tmp_path: Path) -> None:
    here, there = (end_to_end("mini", source=None, output=str(tmp_path / name)) for name in ("here", "there"))
    assert submission_id(here.dataset) == submission_id(here.dataset.replace(output=f"{tmp_path}/here"))
    assert len({submission_id(spec) for spec in (here.dataset, here.pretrain, there.dataset)}) == 3


def test_a_stage_runs_as_a_job_once_and_who_shows_no_token_is_refused(
    head: RayHead, plan: EndToEnd, start: Start
) -> None:
    spec = plan.dataset
    refused = start(spec, "run-0", RAY_AUTH_MODE="disabled")
    first, second = start(spec, "run-1"), start(spec, "run-2")
    assert ended(first) == 0, said(first)
    assert ended(second) == 0, said(second)
    assert is_done(spec)
    (job,) = jobs(head, spec)
    assert job["status"] == "SUCCEEDED"
    begun = [
        victim for victim in (first, second) if any(line.startswith("started the Ray job") for line in said(victim))
    ]
    assert [job["metadata"]["run"]] == [{first: "run-1", second: "run-2"}[victim] for victim in begun]
    assert any(" 1.000 " in f" {line} " for line in said(first))
    assert ended(refused) == 1
    assert any("asks for a token" in line for line in said(refused)), said(refused)
    assert not list(Path(spec.folder, "job").glob("submission-*"))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare, for a mount")
def test_a_folder_that_the_cluster_does_not_see_is_refused_with_a_sentence(
    head: RayHead, plan: EndToEnd, start: Start, tmp_path: Path
) -> None:
    """Driver and cluster have different disks at the place of the outputs, as two machines have."""
    spec = plan.dataset.replace(output=str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(json.dumps(spec.to_file()))
    hide = f'mount -t tmpfs none {tmp_path / "mine"} && exec "$@"'
    driver = [sys.executable, "-m", "tests.fixtures.jobs.job_driver", str(spec_file), head.address, "run-1"]
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", *driver],
        env=os.environ | head.variables, cwd=REPOSITORY, capture_output=True, text=True, timeout=AGES_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"does not see the folder {spec.folder}" in ended.stdout.splitlines()[-1], ended.stdout + ended.stderr


@pytest.fixture
def tokenizer(plan: EndToEnd, head: RayHead, start: Start, request: pytest.FixtureRequest) -> Any:
    if not request.config.getoption("--exhaustive"):
        pytest.skip("a minute each; --exhaustive runs it")
    if not is_done(plan.dataset):
        assert ended(start(plan.dataset, "run-0")) == 0
    return plan.tokenizer


def test_a_second_start_attaches_a_cancel_of_it_detaches_and_a_cancel_of_the_first_stores_the_step(
    head: RayHead, tokenizer: Any, start: Start
) -> None:
    first = start(tokenizer, "run-1")
    says(first, " step ")
    second = start(tokenizer, "run-2")
    says(second, "attached to the Ray job")
    says(second, " step ")
    second.signal_group(signal.SIGTERM)
    assert ended(second) == 1
    assert "goes on for run run-1" in said(second)[-1]
    assert [job["status"] for job in jobs(head, tokenizer)] == ["RUNNING"]
    before = newest_step(tokenizer)
    first.signal_group(signal.SIGTERM)
    third = start(tokenizer, "run-3", CANCELLED_RUNS="run-1")  # at once, while the job of the first stores its step
    assert ended(first) == 1
    assert "StoppedError: asked to end" in said(first)[-1]
    says(third, "started the Ray job")
    stored, told = newest_step(tokenizer), len(said(third))
    assert stored > before
    line = wait_until(lambda: next((each for each in said(third)[told:] if " step " in each), None), "steps")
    assert int(line.partition(" step ")[2].split()[0]) > stored
    assert [job["metadata"]["run"] for job in jobs(head, tokenizer)] == ["run-3"]
    third.signal_group(signal.SIGTERM)
    assert ended(third) == 1
    wait_until(lambda: [job["status"] for job in jobs(head, tokenizer)] == ["STOPPED"], "the end of the job")


def test_a_restarted_driver_finds_its_job_and_a_job_without_a_driver_stores_the_step_and_ends(
    head: RayHead, tokenizer: Any, start: Start
) -> None:
    first = start(tokenizer, "run-1")
    says(first, " step ")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(timeout=AGES_S)
    again = start(tokenizer, "run-1")
    says(again, "attached to the Ray job")
    assert len(jobs(head, tokenizer)) == 1
    says(again, " step ")
    before = newest_step(tokenizer)
    os.kill(again.process.pid, signal.SIGKILL)
    again.process.wait(timeout=AGES_S)
    wait_until(lambda: [job["status"] for job in jobs(head, tokenizer)] == ["FAILED"], "the end of the job")
    assert newest_step(tokenizer) > before
    third = start(tokenizer, "run-3")
    says(third, "started the Ray job")
    step = int(says(third, " step ").partition(" step ")[2].split()[0])
    assert step > before
    third.signal_group(signal.SIGTERM)
    assert ended(third) == 1
