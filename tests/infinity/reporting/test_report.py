"""The report: complete, self-contained, and with the keys that scripts ask for."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from infinity import storage
from infinity.evaluation.score import Score
from infinity.reporting.render import render_page
from infinity.reporting.summary import DatasetSummary, RunSummary, Sheet, StageSummary, TrainingSummary
from infinity.reporting.write import figures, write_report


def picture(path: Path) -> str:
    Image.new("RGB", (24, 16), (200, 30, 30)).save(path)
    return str(path)


@pytest.fixture
def run(tmp_path: Path) -> RunSummary:
    rows = [
        {"step": step, "loss": 1 / step, "bit_accuracy": 0.5 + step / 40, "bit_accuracy.scale_0": 0.6}
        for step in (1, 2, 9)
    ]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("\n".join(json.dumps(row) for row in rows))
    return RunSummary(
        title="A <run> & more",
        run_digest="0123456789abcdef",
        command="make demo",
        stages=(
            StageSummary(
                name="dataset", title="Data", folder="f", seconds=1.5, command="infinity run x", settings={"a": 1}
            ),
            StageSummary(name="pretrain", title="Pretraining", folder="g", seconds=2.0, command="y", settings={}),
        ),
        dataset=DatasetSummary(
            counts={"read": 10, "kept": 7, "unreadable": 1, "dropped_small_side": 2},
            ratios={"1.0": 7},
            splits={"train": 6, "validation": 1},
            examples={"small_side": ("tiny.png (3 px)",)},
            caption_examples=("a red cube",),
            num_shards=1,
            num_bytes=1000,
            thumbnails=picture(tmp_path / "thumbnails.png"),
        ),
        trainings=(
            TrainingSummary(
                stage="pretrain",
                title="Pretraining of the transformer",
                metrics=str(metrics),
                final={"loss": 0.1},
                samples=(Sheet(image=picture(tmp_path / "s1.png"), title="step 9", captions=("a blue star",)),),
                num_parameters=1234,
                num_steps=9,
            ),
        ),
        scores=(
            Score.share("scene_geneval.overall", 30, 40, protocol="scene-GenEval 1"),
            Score(metric="reconstruction.psnr_db", value=28.25, unit="dB", n=7, protocol="uint8 RGB"),
            Score.not_measured("rfid", "", protocol="TF-2015 Inception", reason="no Inception weights were given"),
        ),
        pictures={"samples": Sheet(image=picture(tmp_path / "d.png"), title="Drawings", captions=("a red cube",))},
        notes=("A sentence.",),
    )


def test_the_page_asks_nothing_of_the_outside(run: RunSummary) -> None:
    page = render_page(run)
    sources = re.findall(r'(?:src|href)="([^"]{0,60})', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)


def test_the_page_shows_what_the_summary_says(run: RunSummary) -> None:
    page = render_page(run)
    assert "A &lt;run&gt; &amp; more" in page
    assert "10 = 7 + 2 + 1" in page
    assert "dropped: small side" in page
    assert "not measured" in page
    assert "no Inception weights were given" in page
    assert "28.25 dB" in page
    assert page.count("data:image/png;base64,") == 3
    assert "bit accuracy by scale" in page


def test_figures_stand_under_dotted_and_nested_names(run: RunSummary) -> None:
    data = json.loads(json.dumps(figures(run)))
    assert data["scene_geneval.overall"] == data["scene_geneval"]["overall"] == 0.75
    assert data["reconstruction.psnr_db"] == 28.25
    assert data["rfid"] is None
    assert data["dataset.dropped_small_side"] == 2
    assert data["seconds.pretrain"] == data["seconds"]["pretrain"] == 2.0
    assert data["seconds.total"] == 3.5
    assert data["scores"][0]["n"] == 40


def test_the_page_can_be_drawn_again_from_its_summary(run: RunSummary, tmp_path: Path) -> None:
    files = write_report(run, str(tmp_path / "out"))
    again = RunSummary.parse(storage.read_text(files.summary))
    assert again == run
    assert render_page(again) == storage.read_text(files.html)


def test_a_missing_picture_is_named(run: RunSummary, tmp_path: Path) -> None:
    (tmp_path / "d.png").unlink()
    with pytest.raises(OSError, match=r"d\.png"):
        render_page(run)
