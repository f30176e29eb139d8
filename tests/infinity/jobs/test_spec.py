"""Specs and reports: found again by content, finished when the report is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from infinity import storage
from infinity.config import ConfigError
from infinity.jobs.spec import JobReport, JobSpec, begin, commit, is_done, load_report


@dataclass(frozen=True, kw_only=True, slots=True)
class CountSpec(JobSpec):
    kind: ClassVar[str] = "count"
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CountReport(JobReport):
    total: int


def test_the_folder_depends_on_what_is_asked_not_on_where(tmp_path: Path) -> None:
    here = CountSpec(output=str(tmp_path / "a"), limit=3)
    there = here.replace(output=str(tmp_path / "b"))
    assert here.digest() == there.digest()
    assert here.folder != there.folder
    assert here.digest() != here.replace(limit=4).digest()


def test_a_spec_is_done_when_its_report_is_written(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)
    assert not is_done(spec)
    folder = begin(spec)
    assert not is_done(spec)
    commit(spec, CountReport(total=6))
    assert is_done(spec)
    assert load_report(spec, CountReport) == CountReport(total=6)
    assert '"kind": "count"' in storage.read_text(storage.join(folder, "spec.json"))


def test_a_foreign_report_and_an_empty_output_are_refused(tmp_path: Path) -> None:
    spec = CountSpec(output=str(tmp_path), limit=3)
    storage.write_text(storage.join(spec.folder, "report.json"), '{"sum": 1}')
    with pytest.raises(ConfigError, match="unknown 'sum'"):
        load_report(spec, CountReport)
    with pytest.raises(ValueError, match="output: expected a path"):
        CountSpec(output="", limit=1)
