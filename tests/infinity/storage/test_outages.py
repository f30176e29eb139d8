"""A store that is away for a while is waited for where somebody asked for patience, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from infinity import storage
from infinity.storage import outages as patience
from infinity.storage.errors import StorageError, StoreUnreachableError
from infinity.storage.outages import patient, patiently
from tests.fixtures.faults.relay import Relay
from tests.fixtures.limits import AGES_S


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


def back_at(clock: Clock, moment: float) -> Callable[[], str]:
    """A call that cannot reach its store before a moment."""

    @patiently
    def call() -> str:
        if clock.now < moment:
            raise StoreUnreachableError("cannot write s3://bucket/file")
        return "written"

    return call


def test_without_patience_a_store_that_is_away_is_an_error_at_once(clock: Clock) -> None:
    with pytest.raises(StoreUnreachableError, match=r"cannot write s3://bucket/file$"):
        back_at(clock, 1.0)()
    assert clock.now == 0.0


@pytest.mark.parametrize("away_s", [0.5, 30.0, 60.0, 300.0, 599.0])
def test_a_store_that_is_back_in_time_costs_waiting_and_two_notes(clock: Clock, away_s: float) -> None:
    notes: list[str] = []
    with patient(600.0, notes.append):
        assert back_at(clock, away_s)() == "written"
    assert away_s <= clock.now <= away_s + patience.LONGEST_PAUSE_S
    assert [note.split(";")[0].split(" after")[0] for note in notes] == [
        "cannot write s3://bucket/file",
        "the store answers again",
    ]


def test_after_its_patience_the_error_names_the_file_and_the_time(clock: Clock) -> None:
    with patient(60.0, lambda _: None), pytest.raises(StoreUnreachableError, match=r"s3://bucket/file; waited 60 s"):
        back_at(clock, 61.0)()
    assert clock.now == pytest.approx(60.0)


def test_other_errors_of_a_store_are_not_waited_for(clock: Clock) -> None:
    @patiently
    def refused() -> None:
        raise StorageError("no such bucket")

    with patient(60.0), pytest.raises(StorageError, match="no such bucket"):
        refused()
    assert clock.now == 0.0


def test_the_innermost_patience_counts_and_ends_with_its_block(clock: Clock) -> None:
    with patient(600.0, lambda _: None):
        with patient(0.0), pytest.raises(StoreUnreachableError):
            back_at(clock, 10.0)()
        assert back_at(clock, 10.0)() == "written"
    with pytest.raises(StoreUnreachableError):
        back_at(clock, 1000.0)()


def test_a_process_may_stay_patient_and_a_block_within_counts_before(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience._patience, "stack", [])
    assert storage.patience() == 0.0
    with patient(5.0, lambda _: None):
        storage.stay_patient(600.0)
        assert storage.patience() == 5.0
    assert storage.patience() == 600.0
    assert back_at(clock, 300.0)() == "written"
    with patient(0.0), pytest.raises(StoreUnreachableError):
        back_at(clock, 1000.0)()


@pytest.mark.parametrize("way", ["write", "put once", "create", "draft", "read", "list", "exists", "size", "delete"])
def test_every_way_to_a_bucket_waits_for_an_endpoint_that_refuses_connections(
    s3_server: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.05)
    uri, folder = f"{s3_server}/folder/file", f"{s3_server}/folder"
    storage.write_text(uri, "before")
    notes: list[str] = []
    with Relay(s3_endpoint) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", relay.url)

        def note(text: str) -> None:
            notes.append(text)
            relay.open()

        relay.close()
        with patient(AGES_S, note):
            assert _act(way, uri, folder)
    assert len(notes) == 2
    assert "no connection to the S3 endpoint" in notes[0]
    assert s3_server in notes[0]


def _act(way: str, uri: str, folder: str) -> bool:
    """Do something with a bucket; whether it came out as it should."""
    if way == "write":
        storage.write_text(uri, "after")
        return storage.read_text(uri) == "after"
    if way == "put once":
        return storage.put_once(f"{uri}-new", b"content") and storage.read_bytes(f"{uri}-new") == b"content"
    if way == "create":
        with storage.create(uri) as file:
            file.write(b"in pieces")
        return storage.read_text(uri) == "in pieces"
    if way == "draft":
        with storage.draft(folder) as draft:
            draft.write(b"in a draft")
            return draft.publish("drafted") and storage.read_text(f"{folder}/drafted") == "in a draft"
    if way == "delete":
        storage.delete_tree(folder)
        return not storage.exists(uri)
    return {
        "read": lambda: storage.read_text(uri) == "before",
        "list": lambda: storage.list_files(folder) == (uri,),
        "exists": lambda: storage.exists(uri),
        "size": lambda: storage.size(uri) == len("before"),
    }[way]()


def test_an_endpoint_that_breaks_off_in_the_middle_of_an_answer_is_away_too(
    s3_server: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{s3_server}/large"
    storage.write_bytes(uri, b"x" * 2**20)
    with Relay(s3_endpoint) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", relay.url)
        relay.break_after(2**16)
        began = time.monotonic()

        def note(_text: str) -> None:
            relay.break_after(None)

        with patient(AGES_S, note):
            assert storage.read_bytes(uri) == b"x" * 2**20
        assert time.monotonic() - began < AGES_S
