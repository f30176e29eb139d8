"""Pauses of a patient reader double up to its time-out, and the worst wait is known before."""

from pathlib import Path

import pytest

from infinity.storage import FileMissingError, StorageError
from infinity.storage.retries import Patience, UnreachableError, store_of, within


def test_pauses_double_with_every_failure_up_to_the_time_out() -> None:
    patience = Patience(attempts=6, timeout_s=5.0, pause_s=0.5)
    assert [patience.pause(failures) for failures in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_longest_wait_is_that_of_all_attempts_and_the_pauses_between_them() -> None:
    assert Patience(attempts=3, timeout_s=2.0, pause_s=0.25).total_s == 3 * 2.0 + 0.25 + 0.5
    assert Patience(attempts=1, timeout_s=2.0, pause_s=9.0).total_s == 2.0


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_a_read_is_tried_as_often_as_is_said(attempts: int, tmp_path: Path) -> None:
    asked = []

    def fails() -> bytes:
        asked.append(len(asked))
        raise StorageError(f"failure {len(asked)}")

    patience = Patience(attempts=attempts, timeout_s=60.0, pause_s=0.0)
    with pytest.raises(
        UnreachableError, match=rf"from a disk of this machine: {attempts} attempts.*failure {attempts}"
    ):
        patience.read(str(tmp_path / "a"), "a row", fails)
    assert len(asked) == attempts


def test_a_missing_file_is_not_asked_for_again(tmp_path: Path) -> None:
    asked = []

    def missing() -> bytes:
        asked.append(1)
        raise FileMissingError("not there")

    with pytest.raises(FileMissingError):
        Patience(pause_s=0.0).read(str(tmp_path / "a"), "a row", missing)
    assert asked == [1]


def test_a_read_that_works_again_is_answered(tmp_path: Path) -> None:
    answers = iter([StorageError("busy"), StorageError("busy"), b"bytes"])

    def reads() -> bytes:
        answer = next(answers)
        if isinstance(answer, StorageError):
            raise answer
        return answer

    assert Patience(attempts=3, pause_s=0.0).read(str(tmp_path / "a"), "a row", reads) == b"bytes"


@pytest.mark.parametrize("fields", [{"attempts": 0}, {"timeout_s": 0.0}, {"pause_s": -0.1}])
def test_a_patience_that_never_reads_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"Patience.{next(iter(fields))}: expected (at least|above) "):
        Patience(**fields)  # type: ignore[arg-type]


def test_an_error_of_the_call_is_the_callers() -> None:
    assert within(60.0, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(60.0, lambda: {}["a"])


def test_a_store_has_a_name_for_people(tmp_path: Path, s3_server: str) -> None:
    assert store_of(str(tmp_path)) == "a disk of this machine"
    assert store_of(f"{s3_server}/a").startswith("the bucket '")
