"""A data set is built from the command line, with the paper's filters in one word."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infinity.cli import app
from infinity.cli.console import following
from infinity.data.curation.filters import PAPER_FILTERS, FilterConfig
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.verify import verify
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec
from infinity.jobs.progress import Progress
from infinity.perception.scorers import PAPER_SCORERS
from tests.fixtures.data.pictures_on_disk import good_folder


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


def test_several_captions_reach_the_training_and_what_is_not_read_is_told(tmp_path: Path) -> None:
    rows = [{"file_name": f"images/{i:03d}.png", "text": f"{word} {i}"} for word in ("a", "the") for i in range(6)]
    source = good_folder(tmp_path / "in", 6)
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source / "README.md").write_text("about")
    done = build(
        str(source), "-o", str(tmp_path / "out"), "--set", "samples_per_shard=2", "--set", "validation_share=0"
    )
    assert done.exit_code == 0, done.output
    assert "6 further captions in rows of their own" in done.output
    assert "not read: 1 .md files" in done.output
    made = Manifest.load(done.output.split()[-1])
    assert len(made.head.shards) == 3
    number = {row: name[-7:-4] for row, name in enumerate(made.values("source", range(6)))}
    assert [texts for texts in made.further(range(6))] == [[f"the {int(number[row])}"] for row in range(6)]
    assert verify(made) == ()
    draw = CaptionDraw(made, CaptionConfig(), 0, len, 99)
    assert {text.split()[0] for text in draw((0,) * 20, tuple(range(20)))} == {"a", "the"}


def test_a_version_of_a_set_with_several_captions_keeps_its_shards(tmp_path: Path) -> None:
    source = good_folder(tmp_path / "in", 6)
    rows = [{"file_name": f"images/{i:03d}.png", "text": [f"a {i}", f"the {i}"]} for i in range(6)]
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ("-o", str(tmp_path / "out"), "--set", "samples_per_shard=2", "--set", "validation_share=0")
    first = Manifest.load(build(str(source), *small).output.split()[-1])
    more = good_folder(tmp_path / "more", 8)
    done = build(str(more), *small, "--parent", first.uri, "--set", "filters.duplicates=keep")
    second = Manifest.load(done.output.split()[-1])
    assert {shard.path for shard in first.head.shards} <= {shard.path for shard in second.head.shards}
    assert sorted(texts for texts in second.further(range(len(second))) if texts) == [[f"the {i}"] for i in range(6)]
    assert verify(second) == ()


def test_without_a_terminal_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with following("building", pause_s=0.0) as show:
        show(Progress(0.5, "checked 1 of 2 slices"))
    assert "building: 50%, checked 1 of 2 slices, about 0 min left" in capsys.readouterr().err
    with following("building") as show:
        show(Progress(0.5, "too soon"))
    assert capsys.readouterr().err == ""
