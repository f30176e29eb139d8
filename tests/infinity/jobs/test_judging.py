"""Networks over a data set: asked once, whatever thresholds change and whenever a job is killed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.data.filters import FilterConfig, ModelFilters
from infinity.data.manifest import Manifest
from infinity.jobs import build_dataset, judging
from infinity.jobs.build_dataset import BuildDatasetSpec
from infinity.jobs.cluster import in_process
from infinity.perception.captioner import CaptionerConfig
from infinity.perception.image_classifier import ImageClassifier, WatermarkConfig
from tests.infinity.perception.tiny_networks import write_image_classifier, write_llava

NUM_PICTURES = 12


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    write_image_classifier(folder / "watermark", ("No Watermark", "Watermark"))
    (folder / "llava").mkdir()
    write_llava(folder / "llava")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "source"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(NUM_PICTURES):
        Image.fromarray(random.integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a cup number {number}")
    lines = [f'{{"file_name": "{n:02d}.png", "text": "a cup number {n}"}}' for n in range(NUM_PICTURES)]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went through the classifier in each call."""
    counted: list[int] = []
    ask = ImageClassifier.__call__

    def counting(self: ImageClassifier, pictures: list[np.ndarray], captions: list[str]) -> np.ndarray:
        counted.append(len(pictures))
        return ask(self, pictures, captions)

    monkeypatch.setattr(ImageClassifier, "__call__", counting)
    return counted


def test_another_threshold_asks_no_network(networks: Path, source: str, tmp_path: Path, calls: list[int]) -> None:
    scorer = WatermarkConfig(model=str(networks / "watermark"), batch_size=5)
    spec = BuildDatasetSpec(output=str(tmp_path / "out"), source=source, scorers=(scorer,), validation_share=0.0)
    with in_process():
        everything = build_dataset.run(spec)
        assert sum(calls) == NUM_PICTURES
        (histogram,) = [each for each in everything.summary.histograms if each.score == "watermark"]
        middle = (histogram.edges[0] + histogram.edges[-1]) / 2
        before = len(calls)
        strict = FilterConfig(models=ModelFilters(max_watermark=middle))
        some = build_dataset.run(spec.replace(filters=strict))
    assert len(calls) == before
    assert some.summary.counts["read"] == NUM_PICTURES
    assert 0 < some.summary.counts["dropped_watermark"] < NUM_PICTURES


def test_a_killed_job_does_not_ask_again(
    networks: Path, source: str, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = BuildDatasetSpec(
        output=str(tmp_path / "out"), source=source, scorers=(WatermarkConfig(model=str(networks / "watermark")),)
    )

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with in_process():
        with monkeypatch.context() as patch:
            patch.setattr(build_dataset, "decide", killed)
            with pytest.raises(KeyboardInterrupt):
                build_dataset.run(spec)
        build_dataset.run(spec)
    assert sum(calls) == NUM_PICTURES


def test_captions_of_a_model_stand_beside_those_of_the_source(networks: Path, source: str, tmp_path: Path) -> None:
    captioner = CaptionerConfig(model=str(networks / "llava"), prompt="what is there ?", max_new_tokens=6)
    spec = BuildDatasetSpec(output=str(tmp_path / "out"), source=source, captioner=captioner, validation_share=0.0)
    with in_process():
        manifest = Manifest.load(build_dataset.run(spec).manifest)
    table = manifest.table
    assert set(table["caption_short"].to_pylist()) == {f"a cup number {n}" for n in range(NUM_PICTURES)}
    assert all(long and not long.startswith("a cup number") for long in table["caption_long"].to_pylist())
    assert table["caption"].to_pylist() == table["caption_long"].to_pylist()


def test_two_scorers_of_one_score_are_refused(networks: Path, source: str, tmp_path: Path) -> None:
    scorer = WatermarkConfig(model=str(networks / "watermark"))
    with pytest.raises(ValueError, match="expected at most one for each score, got several for watermark"):
        judging.JudgesConfig(scorers=(scorer, scorer.replace(labels=("No Watermark",))))
    with pytest.raises(ValueError, match="expected at most one for each score"):
        BuildDatasetSpec(output=str(tmp_path), source=source, scorers=(scorer, scorer))
