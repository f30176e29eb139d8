"""``infinity run``: what a cluster's manifest calls."""

import json
import logging
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.config import ConfigError
from infinity.data.curation.filters import FilterConfig
from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec
from infinity.jobs.registry import KINDS, job_of, load_spec, parse_spec
from infinity.jobs.spec import load_report
from infinity.scenes.drawing import ScenesConfig


@pytest.fixture
def spec(tmp_path: Path) -> BuildDatasetSpec:
    scenes = ScenesConfig(count=12, size_px=32)
    return BuildDatasetSpec(output=str(tmp_path), scenes=scenes, filters=FilterConfig(min_side_px=32))


def _write(spec: BuildDatasetSpec, folder: Path) -> str:
    path = folder / "spec.json"
    path.write_text(json.dumps(spec.to_file()))
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_spec_a_report_and_a_function(kind: str) -> None:
    job = job_of(kind)
    assert job.spec_type.kind == kind
    assert callable(job.run)


def test_a_spec_file_gives_the_spec_back(spec: BuildDatasetSpec, tmp_path: Path) -> None:
    assert load_spec(_write(spec, tmp_path)) == spec


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "exactly the keys 'kind' and 'spec'"),
        ({"kind": "dataset"}, "exactly the keys 'kind' and 'spec'"),
        ({"kind": "cooking", "spec": {}}, "unknown kind of job 'cooking'; expected one of download, dataset"),
        ({"kind": "dataset", "spec": {"output": "x", "sauce": 1}}, "unknown 'sauce'"),
    ],
)
def test_another_form_is_a_clear_error(data: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_spec(data)


def test_a_broken_or_missing_spec_file_ends_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.json").write_text("{")
    for name, message in (("broken.json", "not valid JSON"), ("missing.json", "missing.json")):
        result = CliRunner().invoke(app, ["run", str(tmp_path / name)])
        assert result.exit_code == 1
        assert message in caplog.records[-1].getMessage()
        assert caplog.records[-1].levelname == "ERROR"


def test_what_a_stage_says_goes_to_the_terminal_with_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = logging.root.level
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a process of its own
    try:
        result = CliRunner().invoke(app, ["run", str(tmp_path / "missing.json")])
    finally:
        logging.root.setLevel(level)
    assert re.search(r"^\d\d:\d\d:\d\d .*missing\.json", result.stderr, re.MULTILINE)


@pytest.mark.ray
def test_a_stage_runs_from_its_spec_file_and_is_not_run_again(
    spec: BuildDatasetSpec, tmp_path: Path, local_ray: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = _write(spec, tmp_path)
    assert CliRunner().invoke(app, ["run", path]).exit_code == 0
    report = load_report(spec, BuildDatasetReport)
    assert report.summary.counts["read"] == 12
    assert CliRunner().invoke(app, ["run", path]).exit_code == 0
    assert caplog.records[-1].getMessage().startswith("done before: ")
    assert load_report(spec, BuildDatasetReport) == report
