"""A finished evaluation is read back only if what it judged is still what lies there, by content."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from infinity.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneDetector
from infinity.evaluation.preference.benchmark import ClipScoreBenchmark
from infinity.evaluation.prompts.benchmark import PictureFolder
from infinity.evaluation.prompts.lists import PromptList
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.text_rendering.benchmark import TextRenderingBenchmark
from infinity.generation.pipeline import ModelConfig
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.evaluation import evaluate
from infinity.jobs.evaluation.evaluate import run
from infinity.jobs.evaluation.results import below, load
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.spec import is_done
from infinity.perception.clip import ClipConfig
from infinity.perception.language.vqa import VqaConfig
from infinity.scenes.drawing import SceneObject, render
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import write_data, write_model
from tests.fixtures.models.tiny_networks import write_clip, write_vilt
from tests.infinity.evaluation.dpg.test_scoring import HEADER

SHAPES = ("star", "heart")


def spec_of(output: Path, **changes: object) -> EvaluateSpec:
    base = EvaluateSpec(
        output=str(output), model="", pictures_of="flux", reconstruction=None, validation=None, samples=None,
        geneval=GenevalBenchmark(detector=SceneDetector(), pictures=PictureFolder(uri="x")),
        workers=WorkersConfig(num_workers=1, threads=1),
    )  # fmt: skip
    return base.replace(**changes)


def draw(path: Path, shape: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render([SceneObject(shape=shape, color="red", center_px=(24.0, 24.0), size_px=17.5)], 48)).save(
        path
    )


def write_prompts(file: Path, shapes: tuple[str, ...] = SHAPES) -> PinnedFile:
    lines = [
        {"tag": "single_object", "include": [{"class": shape, "count": 1}], "prompt": f"a photo of a {shape}"}
        for shape in shapes
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return PinnedFile(uri=str(file))


@pytest.fixture
def geneval(tmp_path: Path) -> EvaluateSpec:
    for number, shape in enumerate(SHAPES):
        for sample in range(4):
            draw(tmp_path / f"flux/{number:05d}/samples/{sample}.png", shape)
    benchmark = GenevalBenchmark(
        prompts=write_prompts(tmp_path / "prompts.jsonl"), detector=SceneDetector(),
        pictures=PictureFolder(uri=str(tmp_path / "flux")),
    )  # fmt: skip
    return spec_of(tmp_path / "out", geneval=benchmark)


def scored(spec: EvaluateSpec) -> EvaluateReport:
    with in_process():
        return run(spec)


def overall(report: EvaluateReport) -> float | None:
    return next(score.value for score in report.scores if score.metric.endswith(".overall"))


def test_pictures_of_another_content_but_the_same_size_and_time_are_scored_anew_and_both_figures_stay(
    geneval: EvaluateSpec, tmp_path: Path
) -> None:
    first = scored(geneval)
    assert overall(first) == 1.0
    file = tmp_path / "flux/00000/samples/2.png"
    before = file.read_bytes()
    other = (tmp_path / "flux/00001/samples/2.png").read_bytes()
    other += b"\0" * max(0, len(before) - len(other))
    about = file.stat()
    file.write_bytes(other)
    os.truncate(file, max(len(other), len(before)))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    second = scored(geneval)
    assert overall(second) == pytest.approx(7 / 8)
    folders = below(str(tmp_path / "out"))
    assert len(folders) == 2
    assert sorted(str(overall(load(folder).report)) for folder in folders) == ["0.875", "1.0"]
    file.write_bytes(before)
    assert scored(geneval) == first, "the old content is found again, not computed"
    assert len(below(str(tmp_path / "out"))) == 2


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "metadata"])
def test_a_folder_that_gained_lost_or_renamed_a_file_is_another(
    geneval: EvaluateSpec, tmp_path: Path, change: str
) -> None:
    scored(geneval)
    assert is_done(geneval.located())
    last = tmp_path / "flux/00001/samples/3.png"
    if change == "added":
        draw(tmp_path / "flux/00001/samples/4.png", "circle")
    elif change == "removed":
        last.unlink()
    elif change == "renamed":
        last.rename(last.with_name("9.png"))
    else:
        (tmp_path / "flux/00001/metadata.jsonl").write_text('{"prompt": "a photo of a heart"}')
    assert not is_done(geneval.located())


def test_what_plays_no_part_leaves_it_done(geneval: EvaluateSpec, tmp_path: Path) -> None:
    scored(geneval)
    (tmp_path / "flux/notes.txt").write_text("x")
    os.utime(tmp_path / "flux/00000/samples/0.png", ns=(1, 1))
    assert is_done(geneval.located())
    assert geneval.located() == geneval


def test_pictures_that_change_while_they_are_judged_are_no_figure(
    geneval: EvaluateSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = evaluate.compute

    def slow(*args: object) -> object:
        found = compute(*args)  # type: ignore[arg-type]
        draw(tmp_path / "flux/00000/samples/0.png", "circle")
        return found

    monkeypatch.setattr(evaluate, "compute", slow)
    with pytest.raises(ValueError, match=r"geneval.pictures.files: changed while flux was evaluated"):
        scored(geneval)
    assert below(str(tmp_path / "out")) == ()


def write_dpg(folder: Path) -> DpgBenchmark:
    (folder / "prompts").mkdir()
    (folder / "prompts/7.txt").write_text("A red cup")
    with (folder / "q.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*HEADER.split(",")])
        rows.writerow(["lost", "", "", 1, "0", "", "", "entity - whole (x)", "x ?"])
        rows.writerow(["7", "", "", 1, "0", "", "", "entity - whole (cup)", "is there a cup ?"])
    (folder / "grids").mkdir()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "grids/7.png")
    return DpgBenchmark(
        prompts=str(folder / "prompts"), questions=PinnedFile(uri=str(folder / "q.csv")),
        vqa=VqaConfig(model=write_vilt(folder / "vilt")), pictures=PictureFolder(uri=str(folder / "grids")),
    )  # fmt: skip


@pytest.mark.parametrize("replaced", ["prompts/7.txt", "q.csv", "vilt/model.safetensors", "grids/7.png"])
def test_every_input_of_dpg_counts_the_weights_of_who_answers_too(tmp_path: Path, replaced: str) -> None:
    spec = spec_of(tmp_path / "out", geneval=None, dpg=write_dpg(tmp_path))
    scored(spec)
    assert is_done(spec.located())
    verdicts = len(list((tmp_path / "out/store/verdicts").rglob("*.json")))
    file = tmp_path / replaced
    if replaced.endswith(".png"):
        Image.new("RGB", (64, 64), (20, 130, 30)).save(file)
    elif replaced.endswith(".safetensors"):
        data = bytearray(file.read_bytes())
        data[-2] ^= 0x40
        file.write_bytes(bytes(data))
    else:
        file.write_text(file.read_text().replace("cup", "dog"))
    again = spec.located()
    assert not is_done(again)
    assert again.folder != spec.folder
    scored(spec)
    assert is_done(spec.located())
    assert len(list((tmp_path / "out/store/verdicts").rglob("*.json"))) == verdicts + 1, "no verdict of before is taken"


def test_a_checksum_in_the_spec_is_the_identity_and_nothing_is_read(tmp_path: Path) -> None:
    dpg = write_dpg(tmp_path)
    pinned = dpg.replace(
        questions=dpg.questions.replace(sha256="0" * 64), vqa=dpg.vqa.replace(sha256="0" * 64)
    )  # fmt: skip
    assert set(spec_of(tmp_path, geneval=None, dpg=pinned).contents()) == {"dpg.prompts", "dpg.pictures.files"}


def write_another_checkpoint(model: str) -> None:
    """Other weights in the same folder."""
    checkpoint = load_checkpoint(model)
    tensors = {name: value.flip(0) for name, value in checkpoint.tensors.items()}
    save_checkpoint(model, kind=checkpoint.kind, config=ModelConfig.from_json(checkpoint.config), tensors=tensors)


def test_another_checkpoint_or_data_set_at_the_same_place_is_scored_anew(tmp_path: Path) -> None:
    model, manifest = write_model(tmp_path), write_data(tmp_path / "data", num_validation=3)
    spec = EvaluateSpec(
        output=str(tmp_path / "out"), model=model, manifest=manifest, validation=None, samples=None,
        reconstruction=ReconstructionBenchmark(num_shown=1), workers=WorkersConfig(num_workers=1, threads=1),
    )  # fmt: skip
    first = scored(spec)
    assert spec.located() == spec
    write_another_checkpoint(model)
    assert not is_done(spec.located())
    second = scored(spec)
    assert second.model_digest != first.model_digest
    Path(manifest).unlink()
    write_data(tmp_path / "data", num_validation=4)
    assert not is_done(spec.located())
    assert next(iter(scored(spec).scores)).n == 4
    assert len(below(str(tmp_path / "out"))) == 3


def test_prompts_and_weights_of_clip_score_count_and_a_hidden_file_does_not(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "list.txt").write_text("a red cup\n")
    (tmp_path / "loose").mkdir()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "loose/00000.webp")
    benchmark = ClipScoreBenchmark(
        clip=ClipConfig(model=write_clip(tmp_path / "clip")), pictures_per_prompt=1,
        prompts=(PromptList(file=PinnedFile(uri=str(tmp_path / "list.txt"))),),
        pictures=PictureFolder(uri=str(tmp_path / "loose")),
    )  # fmt: skip
    spec = spec_of(tmp_path / "out", geneval=None, clip_score=benchmark)
    scored(spec)
    (tmp_path / "loose/._00000.webp").write_bytes(b"x")
    assert is_done(spec.located())
    (tmp_path / "list.txt").write_text("a green cup\n")
    assert not is_done(spec.located())
    (tmp_path / "list.txt").write_text("a red cup\n")
    assert is_done(spec.located())
    settings = tmp_path / "clip/preprocessor_config.json"
    settings.write_text(settings.read_text() + " ")
    assert not is_done(spec.located())


def test_evaluations_of_a_run_by_an_earlier_version_are_still_done(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    model_folder, data = run_folder / f"transformer-{'a' * 16}", run_folder / f"dataset-{'b' * 16}"
    model_folder.mkdir(parents=True)
    model, manifest = write_model(model_folder), write_data(data, num_validation=3)
    spec = EvaluateSpec(
        output=str(run_folder), model=model, manifest=manifest, validation=None, samples=None,
        reconstruction=ReconstructionBenchmark(num_shown=1), workers=WorkersConfig(num_workers=1, threads=1),
    )  # fmt: skip
    scored(spec)
    file = Path(spec.folder) / "report.json"
    report = json.loads(file.read_text())
    for field in ("inputs", "origins"):  # as it was written before
        del report[field]
    file.write_text(json.dumps(report))
    assert spec.located() == spec
    write_another_checkpoint(model)
    assert spec.located() != spec
    elsewhere = spec.replace(manifest=write_data(tmp_path / "loose", num_validation=3), model=model)
    assert not is_done(elsewhere.located())


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/model.safetensors", "tokenizer/config.json"])
def test_weights_that_were_replaced_behind_an_old_digest_are_refused(tmp_path: Path, name: str) -> None:
    model, manifest = write_model(tmp_path), write_data(tmp_path / "data", num_validation=3)
    spec = spec_of(
        tmp_path / "out", model=model, pictures_of="", manifest=manifest, geneval=None,
        reconstruction=ReconstructionBenchmark(num_pictures=2),
    )  # fmt: skip
    first = scored(spec)
    file = Path(model) / name
    before, about = file.read_bytes(), file.stat()
    file.write_bytes(before[:-2] + bytes(byte ^ 1 for byte in before[-2:]))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(CheckpointError, match=f"{name}: expected the file that was evaluated, found another content"):
        scored(spec)
    file.write_bytes(before)
    assert scored(spec) == first


def test_text_rendering_is_read_anew_by_another_version_of_the_ocr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signs.txt").write_text('a sign that says "open"\n')
    spec = spec_of(
        tmp_path, geneval=None,
        text_rendering=TextRenderingBenchmark(
            prompts=PinnedFile(uri=str(tmp_path / "signs.txt")), pictures=PictureFolder(uri=str(tmp_path / "pictures"))
        ),
    )  # fmt: skip
    found = []
    for version in ("3.4.0", "3.5.0"):
        monkeypatch.setattr("infinity.perception.detection.ocr.version", lambda name, version=version: version)
        found.append(spec.contents()["text_rendering.ocr.package"])
    assert found[0] != found[1]
