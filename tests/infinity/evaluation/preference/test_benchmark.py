"""CLIP score, ImageReward and HPSv2 as benchmarks: means, intervals, gaps and passports, on tiny random networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.networks import Networks
from infinity.evaluation.preference.benchmark import (
    ClipScoreBenchmark,
    FitBenchmark,
    HpsBenchmark,
    ImageRewardBenchmark,
)
from infinity.evaluation.preference.hps3 import Hps3Benchmark
from infinity.evaluation.promotion.leaderboard import published
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder, PromptBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.perception.clip import Clip, ClipConfig
from infinity.perception.preference.hps import Hps
from infinity.perception.preference.hps3 import Hps3
from infinity.perception.preference.image_reward import ImageReward
from infinity.storage import StorageError
from infinity.storage.pinned import PinnedFile, PinnedFileError
from tests.fixtures.models.published_networks import write_hps, write_hps3, write_image_reward
from tests.fixtures.models.tiny_networks import write_clip

PROMPTS = {"anime": ("a red cup", "two dogs", "a cat left of a bench"), "photo": ("x", "a picture of a dog")}
NUMBER = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    random = np.random.default_rng(0)
    for style, prompts in PROMPTS.items():
        (folder / f"{style}.txt").write_text("\n".join(prompts))
        (folder / "pictures" / style).mkdir(parents=True)
        for prompt in range(len(prompts)):
            for number in range(NUMBER):
                picture = random.integers(0, 255, (16, 12, 3), dtype=np.uint8)
                Image.fromarray(picture).save(folder / "pictures" / style / f"{prompt:05d}_{number}.png")
    return folder


@pytest.fixture(scope="module")
def benchmarks(folder: Path) -> dict[str, FitBenchmark]:
    lists = tuple(PromptList(file=PinnedFile(uri=str(folder / f"{style}.txt")), category=style) for style in PROMPTS)
    pictures = PictureFolder(uri=str(folder / "pictures"), size_px=(16, 12))
    common = {"prompts": lists, "pictures": pictures, "pictures_per_prompt": NUMBER}
    (folder / "clip").mkdir()
    return {
        "clip_score": ClipScoreBenchmark(clip=ClipConfig(model=write_clip(folder / "clip")), **common),
        "image_reward": ImageRewardBenchmark(network=write_image_reward(folder / "reward")[0], **common),
        "hps_v21": HpsBenchmark(network=write_hps(folder / "hps")[0], **common),
        "hps_v3": Hps3Benchmark(network=write_hps3(folder / "hps3"), **common),
    }


def judged(benchmark: FitBenchmark) -> BenchmarkResult:
    as_benchmark: PromptBenchmark = benchmark
    assert benchmark.pictures is not None
    samples = benchmark.find(benchmark.pictures, benchmark.items())
    records = as_benchmark.judge(Networks("cpu"))(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


@pytest.mark.parametrize("name", ["clip_score", "image_reward", "hps_v21", "hps_v3"])
def test_figures_are_means_of_what_the_network_says(
    benchmarks: dict[str, FitBenchmark], folder: Path, name: str
) -> None:
    benchmark = benchmarks[name]
    result = judged(benchmark)
    by_style: dict[str, list[float]] = {}
    for style, prompts in PROMPTS.items():
        for place, prompt in enumerate(prompts):
            paths = [folder / "pictures" / style / f"{place:05d}_{number}.png" for number in range(NUMBER)]
            pictures = [np.asarray(Image.open(path)) for path in paths]
            if isinstance(benchmark, ImageRewardBenchmark):
                numbers = ImageReward(benchmark.network)(pictures, [prompt] * NUMBER)
            elif isinstance(benchmark, Hps3Benchmark):
                numbers = Hps3(benchmark.network)(pictures, [prompt] * NUMBER)
            else:
                assert isinstance(benchmark, ClipScoreBenchmark | HpsBenchmark)
                encoder = Clip(benchmark.clip) if isinstance(benchmark, ClipScoreBenchmark) else Hps(benchmark.network)
                numbers = 100 * encoder.similarity(pictures, [prompt] * NUMBER).numpy()
            by_style.setdefault(style, []).append(float(np.mean(numbers)))
    found = {score.metric: score for score in result.scores}
    assert set(found) == {f"{name}.overall", f"{name}.anime", f"{name}.photo"}
    everything = [value for values in by_style.values() for value in values]
    for part, values in {"overall": everything, **by_style}.items():
        score = found[f"{name}.{part}"]
        assert score.value == pytest.approx(np.mean(values), rel=1e-4, abs=1e-4)
        assert score.n == len(values)
        assert score.low is not None
        assert score.low <= score.value <= (score.high or 0)
    assert list(result.items[f"{name}.overall"].values()) == pytest.approx(everything, rel=1e-4, abs=1e-4)
    lines = result.records[f"{name}_scores.jsonl"]
    assert [line["prompt"] for line in lines] == [prompt for prompts in PROMPTS.values() for prompt in prompts]


def test_passports_name_weights_prompts_and_conventions(benchmarks: dict[str, FitBenchmark]) -> None:
    for name, words in {
        "clip_score": ("clip-score/1", "100 * cosine"),
        "image_reward": ("image-reward/1", "cut to 9 tokens", "centre crop"),
        "hps_v21": ("hps/1: HPS v2.1", "black around", "(averaging)"),
        "hps_v3": ("hps3/1: HPSv3 weights", "last layers float32", "3136 px"),
    }.items():
        protocol = judged(benchmarks[name]).scores[0].protocol
        assert all(word in protocol for word in words), protocol
        assert "5 prompts " in protocol
        assert "2 pictures each" in protocol
    reward, hps = benchmarks["image_reward"], benchmarks["hps_v21"]
    assert isinstance(reward, ImageRewardBenchmark)
    assert isinstance(hps, HpsBenchmark)
    assert f"sha256 {str(reward.network.weights.sha256)[:16]}" in reward.describe()
    assert "(not averaging)" in hps.replace(network=hps.network.replace(antialias=False)).describe()
    assert hps.replace(network=hps.network.replace(version="v2.0")).metric == "hps_v20"
    assert "a part of the prompts: 1 a category" in judged(hps.replace(num_prompts=1)).scores[0].protocol


def test_missing_and_mis_sized_pictures_leave_their_prompt_out_and_are_counted(
    benchmarks: dict[str, FitBenchmark], folder: Path, tmp_path: Path
) -> None:
    for path in (folder / "pictures").rglob("*.png"):
        copy = tmp_path / path.relative_to(folder / "pictures")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "anime/00000_1.png").unlink()
    Image.new("RGB", (12, 12)).save(tmp_path / "anime/00001_0.png")
    (tmp_path / "photo/00000_0.png").write_bytes(b"no picture")
    pictures = PictureFolder(uri=str(tmp_path), size_px=(16, 12))
    result = judged(benchmarks["hps_v21"].replace(pictures=pictures))
    found = {score.metric: score for score in result.scores}
    assert (found["hps_v21.overall"].n, found["hps_v21.anime"].n) == (2, 1)
    assert all(score.note.startswith("INCOMPLETE: 3 of 5 prompts could not be scored") for score in found.values())
    missing = {line["id"]: line.get("missing") for line in result.records["hps_v21_scores.jsonl"]}
    assert missing["anime/00000"] == "no such file"
    assert missing["anime/00001"] == "expected 16x12 pixels (rows x columns), found 12x12"
    assert "damaged" in str(missing["photo/00000"])
    whole = judged(benchmarks["hps_v21"]).items["hps_v21.overall"]
    assert result.items["hps_v21.overall"] == {name: whole[name] for name in ("anime/00002", "photo/00001")}


def test_nothing_that_can_be_scored_is_not_measured(benchmarks: dict[str, FitBenchmark], tmp_path: Path) -> None:
    (tmp_path / "other.png").write_bytes(b"x")
    result = judged(benchmarks["image_reward"].replace(pictures=PictureFolder(uri=str(tmp_path))))
    (score,) = result.scores
    assert score.value is None
    assert "5 of 5 prompts" in score.note
    assert not result.items
    with pytest.raises(ValueError, match="expected a folder of pictures, found no files"):
        judged(benchmarks["image_reward"].replace(pictures=PictureFolder(uri=str(tmp_path / "nowhere"))))


def test_all_published_layouts_of_pictures_are_found(benchmarks: dict[str, FitBenchmark], tmp_path: Path) -> None:
    picture = Image.new("RGB", (12, 16))
    prompts = PromptList(file=PinnedFile(uri=str(tmp_path / "p.json")))
    (tmp_path / "p.json").write_text('[{"id": "a", "prompt": "x"}, {"id": "b_3", "prompt": "y"}]')
    for number, layout in enumerate(("{}/samples/0000{}.png", "{}_{}.png", "{}_{}.jpg")):
        root = tmp_path / str(number)
        for name in ("a", "b_3"):
            for place in range(2):
                (root / layout.format(name, place)).parent.mkdir(parents=True, exist_ok=True)
                picture.save(root / layout.format(name, place))
        benchmark = benchmarks["clip_score"].replace(prompts=(prompts,), pictures=PictureFolder(uri=str(root)))
        assert judged(benchmark).scores[0].n == 2
        assert "INCOMPLETE" not in judged(benchmark).scores[0].note
    (tmp_path / "one").mkdir()
    for name in ("a", "b_3"):
        picture.save(tmp_path / "one" / f"{name}.png")
    single = benchmarks["clip_score"].replace(prompts=(prompts,), pictures_per_prompt=1)
    assert judged(single.replace(pictures=PictureFolder(uri=str(tmp_path / "one")))).scores[0].n == 2


def test_missing_weights_are_told_before_anything_is_drawn(benchmarks: dict[str, FitBenchmark], tmp_path: Path) -> None:
    clip, reward, hps = (benchmarks[name] for name in ("clip_score", "image_reward", "hps_v21"))
    assert isinstance(clip, ClipScoreBenchmark)
    assert isinstance(reward, ImageRewardBenchmark)
    assert isinstance(hps, HpsBenchmark)
    nowhere = PinnedFile(uri=str(tmp_path / "nowhere.pt"))
    with pytest.raises(ValueError, match="no CLIP could be loaded"):
        clip.replace(clip=ClipConfig(model=str(tmp_path / "nowhere"))).judge_settings()
    with pytest.raises(StorageError, match=r"nowhere\.pt"):
        reward.replace(network=reward.network.replace(weights=nowhere)).judge_settings()
    other = hps.network.file.replace(sha256="0" * 64)
    with pytest.raises(PinnedFileError, match="expected sha256 000"):
        hps.replace(network=hps.network.replace(weights=other)).judge_settings()


def test_settings_are_checked() -> None:
    for changes in ({"pictures_per_prompt": 0}, {"num_prompts": 0}, {"prompts": ()}):
        with pytest.raises(ValueError, match="expected"):
            HpsBenchmark(**changes)


def test_the_gate_and_the_leaderboard_know_the_figures() -> None:
    names = {entry.metric for entry in published()}
    for metric in (HpsBenchmark().metric, ImageRewardBenchmark().metric):
        assert f"{metric}.overall" in names
        assert f"{metric}_rewritten.overall" not in names
    for metric in ("hps_v21", "image_reward", "clip_score", "hps_v3", "hps_v21_rewritten"):
        assert GateConfig().margin(f"{metric}.overall") is not None
