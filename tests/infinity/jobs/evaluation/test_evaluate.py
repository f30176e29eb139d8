"""The evaluation job on a local Ray: figures, files, and clear refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.fid.inception_weights import InceptionWeights
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.score import Score
from infinity.evaluation.validation import ValidationBenchmark
from infinity.generation.pipeline import ModelConfig
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.actors import WorkersError
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.evaluation.evaluate import run
from infinity.jobs.evaluation.origins import with_split
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.progress import Progress
from infinity.jobs.registry import load_spec, run_spec
from infinity.jobs.spec import is_done
from infinity.perception.lpips import LpipsConfig
from infinity.scenes.prompts import TASKS
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import TOKENIZER, write_data, write_model

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("evaluate")
    return write_model(folder), write_data(folder / "data")


def spec(inputs: tuple[str, str], output: Path, **changes: Any) -> EvaluateSpec:
    model, manifest = inputs
    base = EvaluateSpec(
        output=str(output),
        model=model,
        manifest=manifest,
        reconstruction=ReconstructionBenchmark(num_shown=2),
        validation=ValidationBenchmark(),
        samples=SampleBenchmark(num_pictures=2),
        scenes=SceneBenchmark(pictures_per_prompt=2, prompts_per_task=2, num_shown=1),
        sampling=SamplingConfig(guidance=2.0),
        batch_size=4,
        workers=WorkersConfig(num_workers=2, threads=1),
    )
    return base.replace(**changes)


@pytest.fixture(scope="module")
def report(local_ray: None, inputs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> EvaluateReport:
    return run(spec(inputs, tmp_path_factory.mktemp("two-workers")))


def test_report_has_every_figure_that_readers_look_for(report: EvaluateReport) -> None:
    scores = {score.metric: score for score in report.scores}
    wanted = {"reconstruction.psnr_db", "reconstruction.ssim", "validation.loss", "bit_accuracy.mean"}
    wanted |= {"bit_accuracy.scale_0", "bit_accuracy.scale_3", "token_accuracy.mean"}
    wanted |= {f"scene_geneval.{name}" for name in ("overall", "prompts", *TASKS)}
    assert wanted <= set(scores)
    assert all(score.protocol for score in report.scores)
    assert not {"fid", "rfid", "kid", "reconstruction.lpips"} & set(scores), "nobody asked for these"
    assert scores["reconstruction.psnr_db"].n == 11
    assert scores["scene_geneval.overall"].n == 24
    assert EvaluateReport.parse(report.dump()) == report


def test_sheets_and_records_are_where_the_report_says(report: EvaluateReport) -> None:
    assert set(report.pictures) == {"reconstructions", "worst", "samples", *(f"samples.{task}" for task in TASKS)}
    for sheet in report.pictures.values():
        assert np.asarray(Image.open(sheet.image)).std() > 0
    lines = Path(report.records["scene_verdicts.jsonl"]).read_text().splitlines()
    assert len(lines) == 24
    assert set(json.loads(lines[0])) == {"id", "tag", "prompt", "number", "picture", "size_px", "correct", "reason"}


def test_drawings_to_look_at_are_listed_with_their_files(report: EvaluateReport, inputs: tuple[str, str]) -> None:
    assert report.drawings is not None
    lines = [json.loads(line) for line in Path(report.drawings).read_text().splitlines()]
    samples = [line for line in lines if line["benchmark"] == "samples"]
    assert tuple(line["prompt"] for line in samples) == report.pictures["samples"].captions
    manifest = Manifest.load(inputs[1])
    rows = {caption: row for row, caption in enumerate(manifest.captions(range(len(manifest))))}
    for line in samples:
        row = rows[line["prompt"]]
        assert line["id"] == manifest.column("sha256")[row].as_py()[:16]
        assert line["seeds"] == [row]
        assert np.asarray(Image.open(line["pictures"][0])).std() > 0
    assert {line["benchmark"] for line in lines} == {"samples", "scene_geneval"}


def test_items_average_to_the_scores_they_stand_for(report: EvaluateReport) -> None:
    assert report.items is not None
    values: dict[str, dict[str, float]] = {}
    for line in Path(report.items).read_text().splitlines():
        item = json.loads(line)
        assert set(item) == {"metric", "id", "value"}
        assert item["id"] not in values.setdefault(item["metric"], {})
        values[item["metric"]][item["id"]] = item["value"]
    scores = {score.metric: score.value for score in report.scores}
    assert set(values) >= {"reconstruction.psnr_db", "validation.loss", "scene_geneval.overall"}
    for metric, by_id in values.items():
        assert np.mean(list(by_id.values())) == pytest.approx(scores[metric], rel=1e-9), metric


def test_one_worker_gives_the_same_figures_and_pictures(
    report: EvaluateReport, inputs: tuple[str, str], tmp_path: Path
) -> None:
    heard: list[Progress] = []
    alone = run(spec(inputs, tmp_path, workers=WorkersConfig(num_workers=1, threads=1)), progress=heard.append)
    assert [step.fraction for step in heard] == sorted(step.fraction for step in heard)
    assert heard[-1].fraction == 1.0
    assert alone.scores == report.scores
    assert Path(alone.items).read_bytes() == Path(report.items).read_bytes()
    for name, sheet in alone.pictures.items():
        assert Path(sheet.image).read_bytes() == Path(report.pictures[name].image).read_bytes()


def test_finished_evaluation_is_read_not_computed(report: EvaluateReport) -> None:
    folder = Path(report.records["scene_verdicts.jsonl"]).parent
    told: list[Progress] = []
    assert run_spec(load_spec(str(folder / "spec.json")), progress=told.append) == report
    assert told == []


def test_training_split_is_used_only_on_purpose_and_named(inputs: tuple[str, str], tmp_path: Path) -> None:
    empty = write_data(tmp_path / "data", num_validation=0)
    with pytest.raises(ValueError, match="'validation', found none"):
        run(spec((inputs[0], empty), tmp_path))
    score = Score(metric="a.b", value=1.0, unit="dB", n=3, protocol="p", note="x")
    assert with_split(score, "train").note == "measured on the training split; x"
    assert with_split(score, "validation") == score


def test_model_of_another_bit_width_is_refused_before_any_worker_starts(
    tmp_path: Path, inputs: tuple[str, str]
) -> None:
    model = write_model(tmp_path)
    checkpoint = load_checkpoint(model)
    config = ModelConfig.from_json(checkpoint.config)
    wide = config.replace(transformer=config.transformer.replace(num_bits=6))
    save_checkpoint(model, kind="transformer", config=wide, tensors=checkpoint.tensors)
    with pytest.raises(CheckpointError, match="6 bits per token, the tokenizer in it has 4"):
        run(spec((model, inputs[1]), tmp_path))


def test_missing_tensor_is_named_without_a_trace_of_internals(
    local_ray: None, inputs: tuple[str, str], tmp_path: Path
) -> None:
    model = write_model(tmp_path, tokenizer=TOKENIZER)
    checkpoint = load_checkpoint(model)
    tensors = {name: value for name, value in checkpoint.tensors.items() if name != "head.weight"}
    config = ModelConfig.from_json(checkpoint.config)
    save_checkpoint(model, kind="transformer", config=config, tensors=tensors)
    alone = WorkersConfig(num_workers=1, threads=1)
    broken = spec((model, inputs[1]), tmp_path, validation=None, samples=None, scenes=None, workers=alone)
    with pytest.raises(CheckpointError, match=r"missing head\.weight") as caught:
        run(broken)
    assert "Traceback" not in str(caught.value)
    assert not is_done(broken)


def test_missing_or_other_checkpoints_are_refused(tmp_path: Path, inputs: tuple[str, str]) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        run(spec((str(tmp_path / "nowhere"), inputs[1]), tmp_path))
    save_checkpoint(str(tmp_path / "other"), kind="tokenizer", config=TOKENIZER, tensors={"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="kind 'transformer'"):
        run(spec((str(tmp_path / "other"), inputs[1]), tmp_path))


def test_more_threads_than_any_machine_has_are_refused_instead_of_waited_for(
    local_ray: None, inputs: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(WorkersError, match="wants 64 CPUs"):
        run(spec(inputs, tmp_path, workers=WorkersConfig(threads=64)))


def test_a_spec_that_measures_nothing_is_refused(tmp_path: Path, inputs: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="at least one benchmark"):
        spec(inputs, tmp_path, reconstruction=None, validation=None, samples=None, scenes=None)
    with pytest.raises(ValueError, match="batch_size"):
        spec(inputs, tmp_path, batch_size=0)


def test_weights_that_cannot_be_had_are_told_before_any_worker_starts(tmp_path: Path, inputs: tuple[str, str]) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"of another network")
    missing = PinnedFile(uri=str(tmp_path / "no-trunk.pth"))
    lpips = LpipsConfig(trunk_weights=missing, linear_weights=missing)
    for changes, message in (
        ({"inception": InceptionWeights(uri=str(tmp_path / "nowhere.pth"))}, r"cannot read .*nowhere\.pth"),
        ({"inception": InceptionWeights(uri=str(other))}, "expected sha256 6726825d"),
        ({"reconstruction": ReconstructionBenchmark(lpips=lpips)}, r"no-trunk\.pth: expected a file, found none"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            run(spec(inputs, tmp_path, workers=WorkersConfig(threads=64), **changes))
