"""The process of a submitted job ends without a watcher, and in a sentence where its spec cannot be read."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from infinity import storage
from infinity.jobs.progress import Progress
from infinity.jobs.submission import entry, submit
from infinity.jobs.submission.entry import main, watched
from infinity.jobs.submission.files import NOT_SEEN, JobFiles, WatchSign
from infinity.jobs.submission.submit import _ProgressTeller, signing
from tests.fixtures.limits import AGES_S, wait_until

LONGEST_S = 0.6


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_JOB_UNWATCHED_S", str(LONGEST_S))


@dataclass(frozen=True, slots=True)
class SlowFiles(JobFiles):
    """Files in a store that lets every question wait longer than a job may be without a watcher."""

    looks: list[float]

    def watched(self) -> WatchSign:
        self.looks.append(time.monotonic())
        time.sleep(1.5 * LONGEST_S)
        return WatchSign("the same", is_last=False)


def unwatched(files: JobFiles) -> float:
    """Wait until the job is told that nobody watches; the silence that it is told."""
    told, called = list[float](), threading.Event()

    def end(silent_s: float) -> None:
        told.append(silent_s)
        called.set()

    with watched(files, end):
        assert called.wait(AGES_S)
    assert len(told) == 1
    return told[0]


def test_a_job_that_nobody_watches_is_told_so(tmp_path: Path) -> None:
    assert unwatched(JobFiles(str(tmp_path))) > LONGEST_S


def test_waiting_for_a_slow_store_is_no_silence(tmp_path: Path) -> None:
    files = SlowFiles(str(tmp_path), [])
    assert unwatched(files) > LONGEST_S
    assert len(files.looks) >= 3  # one alone lasts longer than the silence that is allowed


def test_signs_of_life_keep_a_job(tmp_path: Path) -> None:
    files, ended = JobFiles(str(tmp_path)), threading.Event()
    looks, look = list[WatchSign](), files.watched

    @dataclass(frozen=True, slots=True)
    class SignedFiles(JobFiles):
        """A watcher gives a sign before every look."""

        def watched(self) -> WatchSign:
            files.watch("run-1", len(looks))
            looks.append(look())
            return looks[-1]

    with watched(SignedFiles(str(tmp_path)), lambda silent_s: ended.set()):
        deadline = time.monotonic() + AGES_S
        while len(looks) < 12 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(looks) >= 12
    assert not ended.is_set()


def test_a_watcher_does_not_wait_for_a_store_that_is_away_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "1", "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    told: list[Progress] = []
    files = JobFiles("s3://nobody/stage/job")
    teller, began = _ProgressTeller(files, "mark", told.append), time.monotonic()
    with storage.patient(2 * AGES_S, lambda _: None), signing(files, "run-1"):
        teller.take_turn()
        teller.take_turn()
    assert time.monotonic() - began < AGES_S
    assert len(told) == 1
    assert "cannot be seen now" in told[0].message


def test_a_watcher_tells_what_is_new_of_its_own_job(tmp_path: Path) -> None:
    told: list[Progress] = []
    files = JobFiles(str(tmp_path))
    files.tell("earlier", Progress(0.9, "step 9 of a job that was stopped"))
    teller = _ProgressTeller(files, "mark", told.append)
    teller.take_turn()
    assert told == []
    files.tell("mark", Progress(0.5, "step 1"))
    teller.take_turn()
    teller.take_turn()
    files.tell("mark", Progress(1.0, "step 2"))
    teller.take_turn()
    assert [(each.fraction, each.message) for each in told] == [(0.5, "step 1"), (0.999, "step 2")]


def test_signs_of_life_come_whatever_the_watching_process_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "SIGN_S", 0.01)
    files = JobFiles(str(tmp_path))
    with signing(files, "run-1"):
        seen = {wait_until(lambda: files.watched() if "run-1" in files.watched().text else None, "a sign").text}
        wait_until(lambda: files.watched().text not in seen, "another sign")


@pytest.mark.parametrize(("dead", "ends"), [("run-1", True), ("run-2", False), ("", False)])
def test_a_job_whose_watcher_was_found_dead_ends_early_unless_another_one_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: str, ends: bool
) -> None:
    monkeypatch.setenv("INFINITY_JOB_UNWATCHED_S", str(2 * AGES_S))
    monkeypatch.setattr(entry, "LEFT_S", 0.3)
    monkeypatch.setattr(entry, "LOOK_S", 0.05)
    files, ended = JobFiles(str(tmp_path)), threading.Event()
    files.watch("run-1", 1)
    with watched(files, lambda silent_s: ended.set()):
        files.leave(dead)
        assert files.watched().is_last == ends
        assert ended.wait(AGES_S if ends else 1.0) == ends


def test_a_watcher_that_gives_a_sign_after_another_one_was_found_dead_keeps_the_job(tmp_path: Path) -> None:
    files = JobFiles(str(tmp_path))
    files.leave("run-1")  # of a job that nobody has watched yet
    files.watch("run-1", 1)
    files.leave("run-1")
    files.leave("run-1")
    before = files.watched()
    files.watch("run-2", 2)
    assert before.is_last
    assert not files.watched().is_last
    assert files.watched().text != before.text


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"mark": "mark"}', '{"mark": "mark", "fraction": "x"}'])
def test_progress_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    assert JobFiles(str(tmp_path)).progress("mark") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"kind": "none", "spec": {}}', b'{"kind": 7}', b"\xff\xfe\x00", b"[" * 10**5],
)
def test_a_damaged_spec_is_one_sentence_and_a_code_of_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    file = tmp_path / "submitted.json"
    file.write_bytes(content)
    with caplog.at_level(logging.INFO):
        assert main([str(file), "mark"]) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("error: ")
    assert str(file) in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


def test_a_spec_that_is_not_visible_here_is_told_by_a_code_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([str(tmp_path / "none.json"), "mark"]) == NOT_SEEN
    assert "there is no such file" in caplog.text
