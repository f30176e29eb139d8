"""A summary of a run as tests draw it."""

import json
from pathlib import Path

from PIL import Image

from infinity.evaluation.score import Score
from infinity.reporting.summary import DatasetSummary, RunSummary, Sheet, StageSummary, TrainingSummary


def picture(path: Path) -> str:
    Image.new("RGB", (24, 16), (200, 30, 30)).save(path)
    return str(path)


def example_summary(folder: Path) -> RunSummary:
    """Of three logged steps, with the files it names in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"step": step, "loss": 1 / step, "bit_accuracy": 0.5 + step / 40, "bit_accuracy.scale_0": 0.6}
        for step in (1, 2, 9)
    ]
    metrics = folder / "metrics.jsonl"
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
            thumbnails=picture(folder / "thumbnails.png"),
        ),
        trainings=(
            TrainingSummary(
                stage="pretrain",
                title="Pretraining of the transformer",
                metrics=str(metrics),
                final={"loss": 0.1},
                samples=(Sheet(image=picture(folder / "s1.png"), title="step 9", captions=("a blue star",)),),
                num_parameters=1234,
                num_steps=9,
            ),
        ),
        scores=(
            Score.share("scene_geneval.overall", 30, 40, protocol="scene-GenEval 1"),
            Score(metric="reconstruction.psnr_db", value=28.25, unit="dB", n=7, protocol="uint8 RGB"),
            Score.not_measured("rfid", "", protocol="TF-2015 Inception", reason="no Inception weights were given"),
        ),
        pictures={"samples": Sheet(image=picture(folder / "d.png"), title="Drawings", captions=("a red cube",))},
        notes=("A sentence.",),
    )
