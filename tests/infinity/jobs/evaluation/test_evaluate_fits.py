"""CLIP score, ImageReward, HPSv2 through the real job in one process: shared pictures, nothing twice, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infinity.evaluation.preference.benchmark import ClipScoreBenchmark, HpsBenchmark, ImageRewardBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.evaluation.evaluate import run
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.perception.clip import ClipConfig
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import write_model
from tests.fixtures.models.published_networks import write_hps, write_image_reward
from tests.fixtures.models.tiny_networks import write_clip


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EvaluateSpec:
    folder = tmp_path_factory.mktemp("fits")
    (folder / "prompts.json").write_text(json.dumps([{"id": "x-1", "prompt": "a red cup"}, {"prompt": "two dogs"}]))
    (folder / "photo.txt").write_text("a red cup\na cat\n")
    prompts = (PromptList(file=PinnedFile(uri=str(folder / "prompts.json"))),)
    photo = (PromptList(file=PinnedFile(uri=str(folder / "photo.txt")), category="photo"),)
    (folder / "clip").mkdir()
    return EvaluateSpec(
        output=str(folder / "run"),
        model=write_model(folder),
        reconstruction=None,
        validation=None,
        samples=None,
        clip_score=ClipScoreBenchmark(
            clip=ClipConfig(model=write_clip(folder / "clip")), prompts=prompts, pictures_per_prompt=3
        ),
        image_reward=ImageRewardBenchmark(
            network=write_image_reward(folder / "reward")[0], prompts=prompts, pictures_per_prompt=2
        ),
        hps=HpsBenchmark(network=write_hps(folder / "hps")[0], prompts=photo),
        sampling=SamplingConfig(guidance=2.0),
        batch_size=4,
        workers=WorkersConfig(num_workers=1, threads=1),
    )


@pytest.fixture(scope="module")
def report(spec: EvaluateSpec) -> EvaluateReport:
    with in_process():
        return run(spec)


def test_benchmarks_share_pictures_and_report_with_passports(report: EvaluateReport, spec: EvaluateSpec) -> None:
    found = {score.metric: score for score in report.scores}
    assert set(found) == {"clip_score.overall", "image_reward.overall", "hps_v21.overall", "hps_v21.photo"}
    assert {name: score.n for name, score in found.items()} == dict.fromkeys(found, 2)
    assert all(score.value is not None and "INCOMPLETE" not in score.note for score in report.scores)
    # Three of a cup, three of dogs, one of a cat: the others are the same drawings.
    assert len(list(Path(spec.output).rglob("pictures/**/*.png"))) == 7
    assert report.drawings is not None
    lines = [json.loads(line) for line in Path(report.drawings).read_text().splitlines()]
    pictures = {(line["benchmark"], line["id"]): line["pictures"] for line in lines}
    assert pictures["image_reward", "x-1"] == pictures["clip_score", "x-1"][:2]
    assert pictures["hps_v21", "photo/00000"] == pictures["clip_score", "x-1"][:1]
    values = [json.loads(line) for line in Path(str(report.items)).read_text().splitlines()]
    assert {line["metric"] for line in values} == set(found) - {"hps_v21.photo"}
    assert set(report.records) == {f"{name}_scores.jsonl" for name in ("clip_score", "image_reward", "hps_v21")}


def test_another_scorer_draws_nothing_and_the_others_are_not_asked_again(
    report: EvaluateReport, spec: EvaluateSpec
) -> None:
    assert spec.hps is not None
    store = Path(spec.output) / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    network = spec.hps.network.replace(antialias=False)
    with in_process():
        again = run(spec.replace(hps=spec.hps.replace(network=network)))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    added = [path for path in store.rglob("*") if path.is_file() and path not in before]
    assert len(added) == 2
    assert all("verdicts" in path.parts for path in added)
    first, second = ({score.metric: score.value for score in each.scores} for each in (report, again))
    assert first["hps_v21.overall"] != second["hps_v21.overall"]
    assert first["image_reward.overall"] == second["image_reward.overall"]


def test_what_cannot_work_is_refused_before_anything_is_drawn(spec: EvaluateSpec, tmp_path: Path) -> None:
    assert spec.hps is not None
    assert spec.image_reward is not None
    (tmp_path / "broken.jsonl").write_text('{"prompt": "cup"}\n{"prompt": \n')
    (tmp_path / "empty.txt").write_text("")
    hps, reward = spec.hps, spec.image_reward

    def weights(uri: str, **checks: str) -> ImageRewardBenchmark:
        return reward.replace(network=reward.network.replace(weights=PinnedFile(uri=uri, **checks)))

    def listed(name: str) -> HpsBenchmark:
        return hps.replace(prompts=(PromptList(file=PinnedFile(uri=str(tmp_path / name))),))

    for changes, message in (
        ({"image_reward": weights(str(tmp_path / "nowhere.pt"))}, r"nowhere\.pt: expected a file, found none"),
        ({"image_reward": weights(reward.network.weights.uri, sha256="0" * 8)}, "expected sha256 00000000"),
        ({"hps": listed("broken.jsonl")}, r"broken\.jsonl, line 2: not valid JSON"),
        ({"hps": listed("empty.txt")}, "expected prompts, found none"),
    ):
        with in_process(), pytest.raises((ValueError, OSError), match=message):
            run(spec.replace(output=str(tmp_path / "run"), **changes))
    assert not (tmp_path / "run/store").exists()
