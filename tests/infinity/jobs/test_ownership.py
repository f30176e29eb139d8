"""One process works on a job: a second one is told who works, waits, reads the report, or takes over from a dead."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from infinity import storage
from infinity.jobs import ownership
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.ownership import Tenure, once, owned, without_waiting
from infinity.jobs.progress import Progress, silent
from infinity.jobs.registry import KINDS
from infinity.jobs.spec import begin, commit, is_done
from infinity.storage import FileAlreadyThereError, LeaseHeldError, LeaseLostError
from infinity.storage.names import LEASE_FILE
from infinity.training.metrics import TENSORBOARD_FOLDER
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.faults.killing import Victim, newest_step
from tests.fixtures.faults.relay import Relay
from tests.fixtures.jobs.double_starts import NOTES, noted
from tests.fixtures.jobs.small_jobs import spec_of
from tests.fixtures.jobs.training_sessions import LOOP, tokenizer_spec
from tests.fixtures.limits import AGES_S, wait_until
from tests.infinity.jobs.test_spec import CountReport, CountSpec
from tests.infinity.storage.leases.test_lease import usurp

REPOSITORY = Path(__file__).parents[3]
HEAVY = {"evaluation", "savings", "sweep", "tokenizer", "traced"}
"""Kinds whose smallest job takes seconds."""


def work(spec: CountSpec, total: int = 6) -> CountReport:
    begin(spec)
    return commit(spec, CountReport(total=total))


def test_a_finished_job_has_no_lease_and_is_read(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)
    assert once(spec, CountReport, lambda _: work(spec), silent) == CountReport(total=6)
    assert sorted(path.name for path in Path(spec.folder).iterdir()) == ["report.json", "spec.json"]
    assert once(spec, CountReport, lambda _: pytest.fail("was done"), silent) == CountReport(total=6)


def test_a_job_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)
    with pytest.raises(ZeroDivisionError):
        once(spec, CountReport, lambda _: CountReport(total=1 // 0), silent)
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_failed_on_the_way_keeps_its_token(tmp_path: Path) -> None:
    spec, tokens = CountSpec(output=str(tmp_path), limit=3), list[int]()

    def fails(tenure: Tenure) -> CountReport:
        begin(spec)
        tokens.append(tenure.fence.token)
        return CountReport(total=1 // 0)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            once(spec, CountReport, fails, silent)
    assert tokens == [1, 2, 3]


def test_a_second_start_is_told_waits_and_reads_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_LEASE_SILENCE_S", "30")
    spec, told, got = CountSpec(output=str(tmp_path), limit=3), list[Progress](), list[CountReport]()
    waits = threading.Event()

    def listen(progress: Progress) -> None:
        told.append(progress)
        waits.set()

    def second() -> None:
        got.append(once(spec, CountReport, lambda _: pytest.fail("two work"), listen))

    thread = threading.Thread(target=second)
    with owned(spec, silent) as tenure:
        tenure.progress(Progress(0.5, "step 3 of 6"))
        thread.start()
        assert waits.wait(AGES_S)
        work(spec)
    thread.join(AGES_S)
    assert got == [CountReport(total=6)]
    assert "is being worked on by" in told[0].message
    assert "waiting for its end, and taking over if it dies or gives no sign of life for 30 s" in told[0].message


def test_a_second_start_ends_with_a_sentence_where_it_shall_not_wait(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)
    with (
        owned(spec, silent),
        without_waiting(),
        pytest.raises(LeaseHeldError, match=r"process \d+, since .*start again"),
    ):
        once(spec, CountReport, lambda _: work(spec), silent)


def test_what_an_owner_misses_after_it_lost_the_job_is_not_its_error(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)

    def misses(_: object) -> CountReport:
        raise ValueError("found nothing there")

    def loses(tenure: object) -> CountReport:
        usurp(spec.folder)
        return misses(tenure)

    with pytest.raises(ValueError, match="found nothing there"):
        once(spec, CountReport, misses, silent)
    with pytest.raises(LeaseLostError, match="somebody on elsewhere") as told:
        once(spec, CountReport, loses, silent)
    assert isinstance(told.value.__cause__, ValueError)


def test_an_owner_that_lost_the_job_commits_nothing(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)

    def loses(_: object) -> CountReport:
        usurp(spec.folder)
        return work(spec)

    with pytest.raises(LeaseLostError, match="somebody on elsewhere"):
        once(spec, CountReport, loses, silent)
    assert not is_done(spec)


def test_a_report_is_never_replaced(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)
    work(spec)
    work(spec)  # the same again, as after an answer that was lost
    with pytest.raises(FileAlreadyThereError, match="another process has finished this job meanwhile; start again"):
        work(spec, total=7)


def test_a_job_waits_for_a_bucket_that_goes_away_on_the_way_and_tells_so(
    s3_server: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, told = CountSpec(output=s3_server, limit=3), list[Progress]()
    with Relay(s3_endpoint) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", relay.url)

        def listen(now: Progress) -> None:
            told.append(now)
            relay.open()

        def loses_its_bucket(tenure: Tenure) -> CountReport:
            tenure.progress(Progress(0.5, "half"))
            relay.close()
            return work(spec)

        assert once(spec, CountReport, loses_its_bucket, listen) == CountReport(total=6)
    half, waits, back = told
    assert half.message == "half"
    assert "no connection to the S3 endpoint" in waits.message
    assert "waiting for it for up to 600 s" in waits.message
    assert "the store answers again" in back.message
    assert waits.fraction == back.fraction == 0.5
    assert storage.patience() == 0.0


def test_a_job_whose_bucket_never_answered_does_not_wait(
    s3_server: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Relay(s3_endpoint) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", relay.url)
        relay.close()
        told: list[Progress] = []
        with pytest.raises(storage.StoreUnreachableError, match=r"AWS_ENDPOINT_URL_S3"):
            once(CountSpec(output=s3_server, limit=4), CountReport, lambda _: pytest.fail("no bucket"), told.append)
    assert told == []


def test_what_a_thread_of_a_job_waits_for_is_logged_and_not_told_to_the_job(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Progress] = []
    listener = ownership._Listener(told.append)
    thread = threading.Thread(target=listener.note, args=("the store is away",))
    thread.start()
    thread.join()
    assert told == []
    assert [record.message for record in caplog.records] == ["the store is away"]


@pytest.mark.parametrize("text", ["0", "nan", "soon", "1e9"])
def test_a_silence_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("INFINITY_LEASE_SILENCE_S", text)
    with pytest.raises(ValueError, match="INFINITY_LEASE_SILENCE_S: expected seconds"):
        once(
            CountSpec(output=str(tmp_path), limit=3),
            CountReport,
            lambda _: work(CountSpec(output="x", limit=1)),
            silent,
        )


def test_the_stated_time_is_a_minute() -> None:
    assert ownership.SILENCE_S == 60.0


PRELOADING = """
import os, sys, threading
from tests.fixtures.jobs.preloading import preload
name, here = "colorsys", os.getpid()
number = preload(lambda: (__import__(name), threading.Thread(target=lambda: None).start(), os.chdir("/")))
assert name in sys.modules and number >= 1, number
assert preload(lambda: __import__(name)) == 0
assert os.getcwd() != "/" and os.getpid() == here and threading.active_count() == 1
try:
    preload(lambda: 1 / 0)
except RuntimeError as error:
    print(error)
"""


def test_what_a_job_imports_is_imported_before_the_starts_and_nothing_else_stays() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELOADING], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "the rehearsal failed; its traceback is above\n"
    assert "ZeroDivisionError" in done.stderr


def test_schedules_that_were_noted_count_by_kind_and_seed(tmp_path: Path) -> None:
    assert noted(tmp_path, "dataset") == {}
    rows = [
        {"kind": kind, "seed": seed, "killed": seed, "fenced": 0} for kind in ("dataset", "sweep") for seed in (3, 5)
    ]
    (tmp_path / NOTES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {seed: row["killed"] for seed, row in noted(tmp_path, "dataset").items()} == {3: 3, 5: 5}


@pytest.fixture(scope="module")
def double_starts(tmp_path_factory: pytest.TempPathFactory, exhaustive: bool) -> Path:
    """Folder in which double starts have run: one process for all kinds, whose schedules mostly sleep, side by side."""
    folder, last = tmp_path_factory.mktemp("double") / "out", 199 if exhaustive else 0
    kinds = [kind for kind in KINDS if exhaustive or kind not in HEAVY]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fixtures.jobs.double_starts", str(folder), "0", str(last), *kinds],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=(last + 1) * len(kinds) * AGES_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout.strip())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_double_starts_with_signals_end_in_one_report(
    kind: str, request: pytest.FixtureRequest, exhaustive: bool
) -> None:
    """SIGSTOP, SIGCONT and SIGKILL at random moments, clocks that differ and jump by an hour."""
    if kind in HEAVY and not exhaustive:
        pytest.skip("takes longer than the others; run with --exhaustive")
    folder: Path = request.getfixturevalue("double_starts")
    assert sorted(noted(folder, kind)) == list(range(200 if exhaustive else 1))


def test_a_dataset_job_waits_for_another_process_of_this_one(tmp_path: Path) -> None:
    """Two threads of one process, as two flow runs in one worker."""
    spec = spec_of("dataset", tmp_path).replace(output=str(tmp_path / "out"))
    assert isinstance(spec, BuildDatasetSpec)
    reports = []

    def run() -> None:
        with in_process():
            reports.append(build_dataset.run(spec))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(AGES_S)
    assert len(reports) == 3
    assert reports[0] == reports[1] == reports[2], "the job was done once, seconds and all"
    assert not (Path(spec.folder) / LEASE_FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["in the drivers", "on clusters"])
def test_a_training_that_was_stopped_and_taken_over_is_fenced_when_it_wakes(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    """Two drivers: the second waits, takes over, and ends; the first one finds itself fenced."""
    if place == "on clusters" and not exhaustive:
        pytest.skip("two clusters, two minutes; the pass of an owner is checked in workers in test_lease.py")
    monkeypatch.setenv("INFINITY_LEASE_SILENCE_S", "6" if place == "on clusters" else "3")
    loop = LOOP.replace(num_steps=160, save_every_steps=5, log_every_steps=10)
    one = WorkersConfig(num_workers=1, threads=1)
    spec = tokenizer_spec(tmp_path / "out", make_data(tmp_path), loop=loop, workers=one)
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec.to_file()))
    driver = ["tests.fixtures.faults.job_chaos", str(file), *(["--here"] if place == "in the drivers" else [])]
    victims = [Victim(driver, tmp_path / "first.log")]
    try:
        wait_until(lambda: newest_step(spec) > 0, "a stored state")
        victims[0].signal(signal.SIGSTOP)
        victims.append(Victim(driver, tmp_path / "second.log"))
        first, second = victims
        wait_until(lambda: "is being worked on by" in second.log.read_text(), "the second one's word")
        before = newest_step(spec)
        wait_until(lambda: newest_step(spec) > before, "a state of the second one")
        first.signal(signal.SIGCONT)
        wait_until(lambda: first.has_ended, "the end of the first one")
        assert first.process.returncode != 0
        assert "another one took over" in first.log.read_text()
        wait_until(lambda: second.has_ended, "the end of the second one")
        assert second.process.returncode == 0, second.log.read_text()[-3000:]
    finally:
        for victim in victims:
            victim.end()
    assert is_done(spec)
    metrics = storage.read_text(storage.join(spec.folder, "metrics.jsonl")).splitlines()
    assert [json.loads(line)["step"] for line in metrics] == list(range(10, 161, 10))
    assert newest_step(spec) == 160
    names = {path.name for path in Path(spec.folder).iterdir()}
    assert names == {"spec.json", "report.json", "metrics.jsonl", "model", "samples", "state", TENSORBOARD_FOLDER}
