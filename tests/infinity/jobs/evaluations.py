"""Finished evaluations written by hand: what the evaluation job leaves, without a model and without Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from infinity.data.pictures import encode_png
from infinity.evaluation.scene_geneval import SceneMeasure
from infinity.evaluation.score import Score
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.evaluate import EvaluateReport, EvaluateSpec
from infinity.jobs.evaluated import Evaluated, load
from infinity.jobs.spec import begin, commit
from infinity.reporting.summary import Sheet

METRIC = "scene_geneval.overall"


def write_mark(run: Path, name: str) -> tuple[str, str]:
    """The mark of a model ``<run>/transformer-<name>/model``: its URI and its digest."""
    model = run / f"transformer-{name}" / "model"
    model.mkdir(parents=True, exist_ok=True)
    digest = f"{sum(map(ord, name)):016x}"
    (model / "COMMITTED").write_text(digest + "\n")
    return str(model), digest


def spec_of(run: Path, model: str, *, guidance: float = 2.0) -> EvaluateSpec:
    return EvaluateSpec(
        output=str(run),
        model=model,
        reconstruction=None,
        validation=None,
        samples=None,
        scenes=SceneMeasure(pictures_per_prompt=2),
        sampling=SamplingConfig(guidance=guidance),
    )


def write_evaluation(
    run: Path,
    name: str,
    values: Mapping[str, float],
    *,
    guidance: float = 2.0,
    metric: str = METRIC,
    more: Mapping[str, Mapping[str, float]] | None = None,
) -> Evaluated:
    """An evaluation with a value and two pictures for every prompt; the grey of a picture is the model's.

    Args:
        run: Folder of the run.
        name: Of the model.
        values: Of the metric, by prompt.
        guidance: Of the drawing.
        metric: The one with pictures.
        more: Values of other metrics, without pictures.
    """
    model, digest = write_mark(run, name)
    spec = spec_of(run, model, guidance=guidance)
    folder = Path(begin(spec))
    pictures = run / "store" / "pictures" / digest
    pictures.mkdir(parents=True, exist_ok=True)
    drawn, grey = [], sum(map(ord, name)) % 200
    for number, prompt in enumerate(values):
        files = [pictures / f"{number}-{seed}.png" for seed in (0, 1)]
        for file in files:
            file.write_bytes(encode_png(np.full((8, 8, 3), grey, np.uint8)))
        drawn.append({"benchmark": metric.split(".")[0], "id": prompt, "prompt": prompt, "seeds": [0, 1],
                      "pictures": [str(file) for file in files]})  # fmt: skip
    metrics = {metric: values, **(more or {})}
    items = [
        {"metric": name, "id": prompt, "value": value} for name, by in metrics.items() for prompt, value in by.items()
    ]
    for file, lines in (("items.jsonl", items), ("drawings.jsonl", drawn)):
        (folder / file).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    (folder / "sheet.png").write_bytes(encode_png(np.full((8, 8, 3), grey, np.uint8)))
    report = EvaluateReport(
        model_digest=digest,
        scores=(
            *(
                Score(
                    metric=name,
                    value=sum(by.values()) / len(by),
                    unit="share",
                    n=2 * len(by),
                    protocol="scene-geneval/1",
                )
                for name, by in metrics.items()
            ),
            Score.not_measured("rfid", "", protocol="rfid/1", reason="no weights"),
        ),
        pictures={"samples": Sheet(image=str(folder / "sheet.png"), title="Samples", captions=("a <star> | *",))},
        records={},
        items=str(folder / "items.jsonl"),
        drawings=str(folder / "drawings.jsonl"),
        seconds=1.0,
    )
    commit(spec, report)
    return load(str(folder))


def prompts(number: int, value: float) -> dict[str, float]:
    """So many prompts with one value."""
    return {f"a photo of {index} stars": value for index in range(number)}
