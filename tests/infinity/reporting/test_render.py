"""The page of a run and of one training: charts of what was logged, verdicts in words, texts that stay texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infinity.evaluation.score import Score
from infinity.reporting.plots.bands import BANDS
from infinity.reporting.render import judged, render_page, render_training
from infinity.reporting.summary import DatasetSummary, RunSummary, Sheet, TrainingSummary
from infinity.storage import FileMissingError
from tests.fixtures.jobs.run_summaries import example_summary
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed


@pytest.fixture
def run(tmp_path: Path) -> RunSummary:
    return example_summary(tmp_path)


def training(folder: Path, *rows: dict[str, float], **changes: object) -> TrainingSummary:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values: dict[str, object] = {
        "stage": "pretrain", "title": "Training", "metrics": str(path), "final": {}, "samples": (),
        "num_parameters": 1200, "num_steps": len(rows),
    }  # fmt: skip
    return TrainingSummary(**(values | changes))  # type: ignore[arg-type]


def test_the_page_of_a_run_is_well_formed_and_loads_nothing(run: RunSummary) -> None:
    texts = check_page(render_page(run), num_scripts=1)
    for words in ("make demo", "infinity run x", '"a": 1', "tiny.png (3 px)", "a blue star", "0123456789abcdef"):
        assert words in texts


def test_hostile_texts_stay_texts_everywhere(run: RunSummary) -> None:
    sheet = Sheet(image=run.pictures["samples"].image, title=HOSTILE, captions=(HOSTILE,))
    score = Score(metric="m", value=1.0, unit=HOSTILE, n=1, protocol=HOSTILE, note=HOSTILE)
    hostile = run.replace(
        title=HOSTILE,
        command=HOSTILE,
        stages=tuple(stage.replace(title=HOSTILE, folder=HOSTILE, command=HOSTILE) for stage in run.stages),
        dataset=run.dataset.replace(
            counts={"read": 1, "kept": 1, f"dropped_{HOSTILE}": 1},
            examples={HOSTILE: (HOSTILE,)},
            caption_examples=(HOSTILE,),
            splits={HOSTILE: 1},
            ratios={HOSTILE: 1},
        ),
        trainings=tuple(each.replace(title=HOSTILE, samples=(sheet,), rows=(HOSTILE,)) for each in run.trainings),
        scores=(score,),
        pictures={"samples": sheet},
        notes=(HOSTILE,),
    )
    assert check_page(render_page(hostile), num_scripts=1).count(squeezed(HOSTILE)) >= 20


def test_the_funnel_adds_up_and_falls(run: RunSummary) -> None:
    counts = {
        "read": 2000,
        "kept": 1200,
        "unreadable": 100,
        "dropped_blur": 300,
        "dropped_small": 400,
        "dropped_none": 0,
    }
    texts = check_page(render_page(run.replace(dataset=run.dataset.replace(counts=counts))), num_scripts=1)
    assert "read = kept + dropped + unreadable: 2,000 = 1,200 + 700 + 100." in texts
    assert texts.index("dropped: small") < texts.index("dropped: blur")
    assert "dropped: none" not in texts
    assert "60.0 %" in texts


def test_a_data_set_without_its_two_counts_is_refused(run: RunSummary) -> None:
    with pytest.raises(ValueError, match="missing kept"):
        DatasetSummary.from_json(run.dataset.to_json() | {"counts": {"read": 3}})


def test_a_chart_is_drawn_for_what_was_logged_and_for_nothing_else(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1.0, "bit_accuracy.scale_0": 0.6, "bit_accuracy.scale_1": 0.7} for step in (1, 2)]
    html = render_training(training(tmp_path, *rows), "From a test.")
    texts = check_page(html, num_scripts=1)
    assert html.count('<figure class="chart">') == 2
    assert "bit accuracy by scale" in texts
    assert "scale 1" in texts
    assert "scale 2" in texts
    assert "gradient norm" not in texts


def test_a_loss_of_zero_is_drawn_on_a_plain_axis(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1.0 - step / 2} for step in (0, 1, 2)]
    html = render_training(training(tmp_path, *rows), "")
    assert "&#34;log&#34;: false" in html
    positive = [{"step": step, "loss": 1.0 + step} for step in (0, 1, 2)]
    assert "&#34;log&#34;: true" in render_training(training(tmp_path, *positive), "")


def test_notes_and_verdicts_of_a_training_are_told(tmp_path: Path) -> None:
    made = training(tmp_path, {"step": 1, "loss": 1.0}, final={"bit_accuracy": 0.8, "loss": 0.3})
    texts = check_page(render_training(made, "From a test.", ["Two batches were left out."]), num_scripts=1)
    assert "Two batches were left out." in texts
    assert "bit accuracy 0.8 good as in good runs" in texts
    assert "1,200 parameters" in texts


@pytest.mark.parametrize("metric", sorted(BANDS))
def test_every_band_of_a_metric_is_told_by_its_own_words(metric: str) -> None:
    for band in BANDS[metric]:
        value = band.start if band.start > float("-inf") else BANDS[metric][1].start - 1e-3
        (row,) = judged({metric: value, "no_such_metric": 1.0})
        assert (row["verdict"], row["text"]) == (band.verdict, band.text)
        assert row["metric"] == metric.replace("_", " ")


def test_a_training_log_that_is_gone_is_named(run: RunSummary, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(FileMissingError, match=r"metrics\.jsonl"):
        render_page(run)
