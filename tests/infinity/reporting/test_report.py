"""The report: complete, self-contained, and with the keys that scripts ask for."""

import json
import re
from pathlib import Path

import pytest

from infinity import storage
from infinity.reporting.render import render_page
from infinity.reporting.summary import RunSummary
from infinity.reporting.write import figures, write_report
from tests.fixtures.jobs.run_summaries import example_summary


@pytest.fixture
def run(tmp_path: Path) -> RunSummary:
    return example_summary(tmp_path)


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
