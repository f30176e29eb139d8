"""A score stands beside published ones of its own protocol only, whatever else is published by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneBenchmark, SceneDetector
from infinity.evaluation.geneval.scoring import GenevalConfig
from infinity.evaluation.preference.benchmark import (
    HPS_PROMPTS,
    ClipScoreBenchmark,
    HpsBenchmark,
    ImageRewardBenchmark,
)
from infinity.evaluation.promotion.leaderboard import published
from infinity.evaluation.prompts.benchmark import PictureFolder, PromptBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.evaluation.prompts.rewriting import RewriteFile
from infinity.evaluation.score import Score
from infinity.jobs.evaluation.results import Evaluated
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.evaluation.standing import entries_of, match, standing_of
from infinity.perception.preference.hps import HpsConfig
from infinity.perception.preference.image_reward import ImageRewardConfig
from infinity.reporting.scores.standing import standing_html
from infinity.storage.pinned import PinnedFile
from tests.fixtures.jobs.evaluations import prompts, write_evaluation

SOMEWHERE = PinnedFile(uri="/lists/other.json")
REWRITER = RewriteFile(file=PinnedFile(uri="/rewritings.jsonl"))
REWARD = ImageRewardBenchmark(pictures=PictureFolder(uri="/flux"))


def evaluated(note: str = "", benchmark: ImageRewardBenchmark = REWARD) -> Evaluated:
    """Return an evaluation of another model's pictures, as the job leaves it."""
    spec = EvaluateSpec(
        output="/out", model="", pictures_of="FLUX.9", reconstruction=None, validation=None, samples=None,
        image_reward=benchmark,
    )  # fmt: skip
    score = Score(
        metric="image_reward.overall", value=0.7, unit="", n=1000, protocol="image-reward/1: all settings", low=0.6,
        high=0.8, note=note,
    )  # fmt: skip
    none = Score.not_measured("image_reward.seconds", "s", protocol="clock", reason="nobody looked")
    origins = {"image_reward": "pictures of FLUX.9, drawn elsewhere: flux (digest 0123)"}
    report = EvaluateReport(
        model_digest="", scores=(score, none), pictures={}, records={}, seconds=1.0, origins=origins
    )
    return Evaluated("/out/evaluation-1", spec, report)


def test_figures_say_how_they_were_drawn_only_where_the_model_drew(tmp_path: Path) -> None:
    mine = write_evaluation(
        tmp_path, "1", prompts(3, 0.5), guidance=2.5, more={"reconstruction.psnr_db": prompts(3, 1)}
    )
    mine = replace(mine, report=mine.report.replace(size_px=(64, 48)))
    entries = {entry.metric: entry for entry in entries_of(mine, "mine")}
    drawn = entries["scene_geneval.overall"].sampling
    assert drawn == "guidance 2.5 on logits, temperature 1, top-p 0.97, 64 x 48 px, seed 0"
    assert entries["reconstruction.psnr_db"].sampling == entries["rfid"].sampling == ""
    assert {entry.repeat for entry in entries.values()} == {mine.repeat}
    assert f"infinity run {mine.folder}/spec.json" in mine.repeat
    (theirs, _) = entries_of(evaluated(), "FLUX.9")
    assert theirs.sampling == ""
    assert "/out/evaluation-1/spec.json" in theirs.repeat


def test_a_way_of_measuring_that_is_the_published_one_has_no_differences() -> None:
    for benchmark in (ImageRewardBenchmark(), REWARD, HpsBenchmark()):
        found = match(benchmark)
        assert found is not None
        assert found.differences == ()
        assert found.protocol in {entry.protocol for entry in published()}


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        (ImageRewardBenchmark(pictures_per_prompt=4), "4 pictures per prompt, not 10"),
        (ImageRewardBenchmark(num_prompts=10), "a part of the prompts"),
        (ImageRewardBenchmark(prompts=(PromptList(file=SOMEWHERE),)), "other prompts"),
        (ImageRewardBenchmark(rewriter=REWRITER), "rewritten prompts"),
        (ImageRewardBenchmark(network=ImageRewardConfig(weights=SOMEWHERE)), "other weights"),
        (ImageRewardBenchmark(network=ImageRewardConfig(max_tokens=77)), "cut to 77 tokens"),
        (HpsBenchmark(network=HpsConfig(version="v2.0")), "HPS v2.0, not v2.1"),
        (HpsBenchmark(network=HpsConfig(weights=SOMEWHERE)), "other weights"),
        (HpsBenchmark(prompts=HPS_PROMPTS[:3]), "other prompts"),
        (HpsBenchmark(prompts=HPS_PROMPTS[::-1]), "other prompts"),
        (HpsBenchmark(pictures_per_prompt=2), "2 pictures per prompt, not 1"),
        (GenevalBenchmark(), "not by mmdetection's weights"),
        (GenevalBenchmark(detector=SceneDetector()), "not Mask2Former"),
        (GenevalBenchmark(prompts=SOMEWHERE), "other prompts"),
        (GenevalBenchmark(prompts_per_task=2), "a part of the prompts"),
        (GenevalBenchmark(pictures_per_prompt=1), "1 pictures per prompt, not 4"),
        (GenevalBenchmark(thresholds=GenevalConfig(threshold=0.2)), "other thresholds"),
        (DpgBenchmark(), "not by mPLUG-large"),
        (DpgBenchmark(num_prompts=3), "a part of the prompts"),
    ],
)
def test_every_other_setting_is_named_as_a_difference(benchmark: PromptBenchmark, words: str) -> None:
    found = match(benchmark)
    assert found is not None
    assert any(words in reason for reason in found.differences), found.differences


def test_what_nobody_published_has_no_protocol() -> None:
    assert match(SceneBenchmark()) is None
    assert match(ClipScoreBenchmark()) is None


def test_a_copy_of_the_official_prompts_is_known_by_its_content() -> None:
    copy = GenevalBenchmark(prompts=PinnedFile(uri="/copy.jsonl"))
    assert "other prompts than the official file" in match(copy).differences  # type: ignore[union-attr]
    digest = "5c48e0813e812e3c"
    assert "other prompts than the official file" not in match(copy, digest).differences  # type: ignore[union-attr]
    assert "other prompts than the official file" in match(copy, digest[:4]).differences  # type: ignore[union-attr]


def test_pictures_of_another_model_stand_beside_the_rows_of_their_protocol() -> None:
    page = standing_of(evaluated(), published())
    (section,) = page.sections
    beside = {entry.model: entry.value for entry in section.entries if not entry.is_ours}
    assert beside["SDXL"] == 0.6
    assert {group.protocol for group in section.groups if len(group.entries) > 1} == {
        "ImageReward v1.0, benchmark prompts, 10 pictures each"
    }
    assert not [entry for entry in section.entries if "ablation" in entry.protocol]
    html = standing_html(page)
    assert "FLUX.9" in html
    assert "measured as image-reward/1: all settings" in html
    assert "say nothing about a model of this project" in html
    assert "arXiv:2412.04431 Table 2" in html


@pytest.mark.parametrize(
    ("note", "benchmark", "words"),
    [
        ("INCOMPLETE: 1 of 100 prompts", REWARD, "pictures are missing"),
        ("", REWARD.replace(pictures_per_prompt=4), "4 pictures per prompt"),
    ],
)
def test_another_protocol_stands_alone_and_says_why(note: str, benchmark: ImageRewardBenchmark, words: str) -> None:
    found = evaluated(note, benchmark)
    (section,) = standing_of(found, published()).sections
    assert all(entry.is_ours for entry in section.entries)
    assert words in section.sentence
    assert entries_of(found, "FLUX.9")[0].protocol == "image-reward/1: all settings"
    assert words in standing_html(standing_of(found, published()))


def test_names_and_notes_of_strangers_are_text_on_the_page() -> None:
    found = evaluated("<script>alert(1)</script>")
    assert "<script>alert" not in standing_html(standing_of(found, published()))
