"""Benchmarks over prompts through the evaluation job: sharing, going on after a crash, and clear refusals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from infinity.checkpoint import load_checkpoint, save_checkpoint
from infinity.evaluation.geneval.coco_detector import CocoDetectorConfig
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.rewriting import InstructRewriter, RewriteFile
from infinity.generation.pipeline import ModelConfig
from infinity.jobs.evaluation.evaluate import run, run_all
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.progress import Progress
from infinity.jobs.spec import is_done
from infinity.perception.detection.mask2former import Mask2FormerConfig
from infinity.perception.language.instruct import InstructConfig
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.prompt_sets import prompt_sets_spec
from tests.fixtures.models.tiny_networks import write_instruct, write_mask2former
from tests.infinity.jobs.evaluation.test_interrupted_evaluation import files_of

pytestmark = [pytest.mark.ray, pytest.mark.reference]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> EvaluateSpec:
    folder = tmp_path_factory.mktemp("prompts")
    spec = prompt_sets_spec(folder, shared, prompts_per_task=1, num_prompts=3, batch_size=8)
    return spec.replace(workers=spec.workers.replace(num_workers=1))


@pytest.fixture(scope="module")
def reports(local_ray: None, spec: EvaluateSpec) -> tuple[EvaluateReport, ...]:
    """Three evaluations together: of a model, of another one, and of the first with rewritten prompts."""
    folder = Path(spec.model).parent
    checkpoint = load_checkpoint(spec.model)
    tensors = {name: value.flip(0) for name, value in checkpoint.tensors.items()}
    config = ModelConfig.from_json(checkpoint.config)
    save_checkpoint(str(folder / "other"), kind="transformer", config=config, tensors=tensors)
    (folder / "other/tokenizer").symlink_to(folder / "model/tokenizer")
    assert spec.geneval is not None
    instruct = InstructConfig(model=write_instruct(folder / "instruct"), max_new_tokens=6)
    second = spec.replace(output=str(folder / "others"), model=str(folder / "other"), dpg=None)
    third = second.replace(
        model=spec.model, geneval=spec.geneval.replace(rewriter=InstructRewriter(model=instruct), pictures_per_prompt=1)
    )
    return tuple(run_all([spec, second, third]))


@pytest.fixture(scope="module")
def report(reports: tuple[EvaluateReport, ...]) -> EvaluateReport:
    return reports[0]


def kill_workers() -> int:
    """Kill the evaluation workers that descend from this process; how many there were."""
    parents, names = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = status.read_text()
            number = int(status.parent.name)
            names[number] = text.partition("(")[2].rpartition(")")[0]
            parents[number] = int(text.rpartition(")")[2].split()[1])

    def is_ours(number: int) -> bool:
        while number > 1 and number != os.getpid():
            number = parents.get(number, 0)
        return number == os.getpid()

    # The kernel keeps 15 characters of a process's name, ray::_EvaluationActor.compute.
    found = [number for number, name in names.items() if name.startswith("ray::_Evaluatio") and is_ours(number)]
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return len(found)


class Crash(BaseException):  # an error of who watches would end no job
    pass


def test_alone_after_a_crash_and_killed_workers_it_leaves_the_same_files_and_draws_nothing_twice(
    report: EvaluateReport, spec: EvaluateSpec, tmp_path: Path
) -> None:
    again = spec.replace(output=str(tmp_path / "run"))
    killed: list[int] = []

    def crash(progress: Progress) -> None:
        if "drawing" in progress.message and progress.fraction > 0.2:
            raise Crash(progress.message)

    def kill(progress: Progress) -> None:
        if not killed and "drawing" in progress.message:
            killed.append(kill_workers())

    with pytest.raises(Crash):
        run(again, progress=crash)
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/store/pictures").rglob("*.png")}
    assert 0 < len(drawn) < 36
    assert not is_done(again)
    run(again, progress=kill)
    assert killed[0] > 0
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    assert files_of(again) == files_of(spec)


def test_report_names_figures_items_and_pictures(report: EvaluateReport) -> None:
    scores = {score.metric: score for score in report.scores}
    assert scores["geneval.overall"].n == 24
    assert scores["dpg.overall"].n == scores["dpg_corrected.overall"].n == 3
    assert "sha256 5c48e0813e812e3c" in scores["geneval.overall"].protocol
    assert "a part: 1 prompts a task" in scores["geneval.overall"].protocol
    assert "VQA by " in scores["dpg.overall"].protocol
    assert report.drawings is not None
    lines = [json.loads(line) for line in Path(report.drawings).read_text().splitlines()]
    assert {line["benchmark"] for line in lines} == {"geneval", "dpg"}
    assert all(Path(uri).is_file() for line in lines for uri in line["pictures"])
    assert {len(line["pictures"]) for line in lines} == {4}


def test_models_and_rewritten_prompts_are_kept_apart_and_share_judges(
    reports: tuple[EvaluateReport, ...], spec: EvaluateSpec
) -> None:
    first, second, third = reports
    assert first.model_digest == third.model_digest != second.model_digest
    store = Path(spec.output).parent / "others/store"
    assert len(list((store / "pictures").iterdir())) == 2
    assert len(list((store / "verdicts").iterdir())) == 1
    assert len(list((store / "rewritings").rglob("*.json"))) == 6
    assert {score.metric.split(".")[0] for score in third.scores} == {"geneval_rewritten"}
    assert "prompts rewritten by" in third.scores[0].protocol
    lines = [json.loads(line) for line in Path(str(third.drawings)).read_text().splitlines()]
    assert len({line["drawn"] for line in lines}) > 1


def test_what_cannot_work_is_refused(local_ray: None, spec: EvaluateSpec, tmp_path: Path) -> None:
    assert spec.geneval is not None
    assert spec.dpg is not None
    geneval, dpg = spec.geneval, spec.dpg
    broken = tmp_path / "broken.jsonl"
    whole = {"tag": "counting", "include": [{"class": "cup", "count": 1}], "prompt": "x"}
    broken.write_text(json.dumps(whole) + '\n{"tag": "counting"\n')
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    (tmp_path / "no-prompts").mkdir()
    cases = [
        ({"geneval": geneval.replace(prompts=PinnedFile(uri=str(broken)))}, "broken.jsonl, line 2"),
        ({"geneval": geneval.replace(prompts=PinnedFile(uri=str(empty)))}, "found an empty file"),
        ({"geneval": geneval.replace(prompts=geneval.prompts.replace(sha256="0" * 64))}, "expected sha256 000"),
        ({"dpg": dpg.replace(prompts=str(tmp_path / "no-prompts"))}, "files <item id>.txt, found none"),
        ({"dpg": dpg.replace(questions=dpg.questions.replace(git_blob="0" * 40))}, "expected the git blob 000"),
        ({"dpg": dpg.replace(questions=PinnedFile(uri=str(tmp_path / "nowhere.csv")))}, "nowhere.csv"),
        ({"dpg": dpg.replace(rewriter=RewriteFile(file=PinnedFile(uri=str(empty))))}, "empty.jsonl"),
    ]
    for changes, message in cases:
        with pytest.raises((ValueError, OSError), match=message):
            run(spec.replace(output=str(tmp_path / "run"), **changes))
    assert not (tmp_path / "run/store/pictures").exists()


def test_missing_or_other_weights_are_named(spec: EvaluateSpec, tmp_path: Path) -> None:
    assert spec.dpg is not None
    assert spec.geneval is not None
    with pytest.raises(ValueError, match="could be loaded from the hub name"):
        spec.dpg.replace(vqa=spec.dpg.vqa.replace(model=str(tmp_path / "nowhere"))).judge(Networks("cpu"))
    with pytest.raises(ValueError, match="expected sha256 000"):
        spec.dpg.replace(vqa=spec.dpg.vqa.replace(sha256="0" * 64)).judge(Networks("cpu"))
    detector = CocoDetectorConfig(objects=Mask2FormerConfig(model=write_mask2former(tmp_path, num_classes=3)))
    with pytest.raises(ValueError, match="expected a detector of the 80 classes of COCO, found 3"):
        spec.geneval.replace(detector=detector).judge(Networks("cpu"))
