"""Times from the environment are seconds within bounds, wherever they are asked for."""

from pathlib import Path

import pytest

from infinity.jobs.seconds import DAY_S, seconds_of
from infinity.jobs.submission.entry import watched
from infinity.jobs.submission.files import JobFiles

VARIABLE = "INFINITY_JOB_UNWATCHED_S"


@pytest.mark.parametrize(("text", "seconds"), [("", 40.0), ("0.5", 0.5), ("25", 25.0), ("86400", DAY_S), (" 7\n", 7.0)])
def test_seconds_are_taken_and_nothing_is_the_default(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert seconds_of(VARIABLE, 40.0, 0.5) == seconds
    monkeypatch.delenv(VARIABLE)
    assert seconds_of(VARIABLE, 40.0, 0.5) == 40.0


@pytest.mark.parametrize("text", ["0.49", "-1", "nan", "inf", "1e400", "86400.1", "soon", "1,5", "é"])
def test_a_job_that_nobody_watches_would_never_end_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    told = f"{VARIABLE}: expected seconds, from 0.5 to a day, got {text!r}"
    with pytest.raises(ValueError, match=f"^{told}$"), watched(JobFiles(str(tmp_path)), lambda _: None):
        pytest.fail("begun")
