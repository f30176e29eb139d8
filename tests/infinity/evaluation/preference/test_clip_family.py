"""PickScore and diversity on a tiny CLIP: the formulas by hand, gaps counted, a picture with alpha."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.networks import Networks
from infinity.evaluation.preference.benchmark import FitBenchmark
from infinity.evaluation.preference.clip_family import DiversityBenchmark, PickScoreBenchmark
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder, PromptBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.perception.clip import Clip, ClipConfig
from infinity.storage.pinned import PinnedFile
from tests.fixtures.models.tiny_networks import write_clip

PROMPTS = ("a red cup", "two dogs")
NUMBER = 3


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return Clip(ClipConfig(model=write_clip(tmp_path_factory.mktemp("clip"))))


@pytest.fixture
def common(tmp_path: Path, clip: Clip) -> dict[str, object]:
    random = np.random.default_rng(0)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "pictures").mkdir()
    for prompt in range(len(PROMPTS)):
        for number in range(NUMBER):
            picture = random.integers(0, 255, (12, 15, 4), dtype=np.uint8)
            Image.fromarray(picture, "RGBA").save(tmp_path / f"pictures/{prompt:05d}_{number}.png")
    return {
        "prompts": (PromptList(file=PinnedFile(uri=str(tmp_path / "prompts.txt"))),), "pictures_per_prompt": NUMBER,
        "pictures": PictureFolder(uri=str(tmp_path / "pictures")), "clip": clip.config,
    }  # fmt: skip


def judged(benchmark: FitBenchmark) -> BenchmarkResult:
    as_benchmark: PromptBenchmark = benchmark
    assert benchmark.pictures is not None
    samples = benchmark.find(benchmark.pictures, benchmark.items())
    records = as_benchmark.judge(Networks("cpu"))(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def vectors(clip: Clip, folder: Path, prompt: int) -> np.ndarray:
    paths = [folder / f"pictures/{prompt:05d}_{number}.png" for number in range(NUMBER)]
    rows = clip.embed_pictures([np.asarray(Image.open(path).convert("RGB")) for path in paths]).double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_pick_score_is_the_scale_times_the_cosine(common: dict[str, object], clip: Clip, tmp_path: Path) -> None:
    with torch.no_grad():
        scale = float(clip._model.logit_scale.exp())
    texts = clip.embed_texts(PROMPTS).double().numpy()
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    expected = np.mean([scale * (vectors(clip, tmp_path, place) @ texts[place]).mean() for place in range(2)])
    result = judged(PickScoreBenchmark(**common))  # type: ignore[arg-type]
    assert result.scores[0].metric == "pick_score.overall"
    assert result.scores[0].value == pytest.approx(expected, rel=1e-5)


def test_diversity_is_the_mean_distance_of_pairs_and_0_for_equal_pictures(
    common: dict[str, object], clip: Clip, tmp_path: Path
) -> None:
    means = [
        np.mean([1 - a @ b for a, b in combinations(vectors(clip, tmp_path, place), 2)])
        for place in range(len(PROMPTS))
    ]
    benchmark = DiversityBenchmark(**common)  # type: ignore[arg-type]
    assert judged(benchmark).scores[0].value == pytest.approx(np.mean(means), rel=1e-5)
    for prompt in range(2):
        for number in (1, 2):
            (tmp_path / f"pictures/{prompt:05d}_{number}.png").write_bytes(
                (tmp_path / f"pictures/{prompt:05d}_0.png").read_bytes()
            )
    assert judged(benchmark).scores[0].value == pytest.approx(0, abs=1e-6)
    (tmp_path / "pictures/00001_2.png").unlink()
    overall = judged(benchmark).scores[0]
    assert overall.n == 1
    assert overall.note.startswith("INCOMPLETE: 1 of 2 prompts")
    with pytest.raises(ValueError, match="expected at least 2, got 1"):
        benchmark.replace(pictures_per_prompt=1)
