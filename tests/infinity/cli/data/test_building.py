"""A data set is built from the command line, with the paper's filters in one word."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infinity.cli import app
from infinity.data.curation.filters import PAPER_FILTERS, FilterConfig
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec
from infinity.perception.scorers import PAPER_SCORERS
from tests.fixtures.pictures_on_disk import good_folder


def build(*arguments: str) -> Result:
    with in_process():
        return CliRunner().invoke(app, ["data", "build", *arguments], env={"COLUMNS": "300"})


def test_a_built_data_set_is_that_of_the_job(tmp_path: Path) -> None:
    source = good_folder(tmp_path / "in", 6)
    done = build(str(source), "--output", str(tmp_path / "out"), "--name", "mine")
    assert done.exit_code == 0, done.output
    assert "6 of 6 pictures kept" in done.output
    made = Manifest.load(done.output.split()[-1])
    assert (len(made), made.head.spec["name"]) == (6, "mine")
    assert FilterConfig.from_json(made.head.spec["filters"]) == FilterConfig()


def test_one_word_takes_the_papers_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[BuildDatasetSpec] = []

    def run(spec: BuildDatasetSpec, **_: object) -> BuildDatasetReport:
        asked.append(spec)
        raise ValueError("asked")  # the networks are not here

    monkeypatch.setattr(build_dataset, "run", run)
    done = build(str(good_folder(tmp_path / "in", 3)), "-o", str(tmp_path / "out"), "--filters", "paper")
    assert done.exit_code == 1
    (spec,) = asked
    assert spec.filters == FilterConfig(models=PAPER_FILTERS)
    assert set(spec.scorers) == set(PAPER_SCORERS)
    assert build(str(tmp_path), "-o", str(tmp_path / "out"), "--filters", "best").exit_code == 2
