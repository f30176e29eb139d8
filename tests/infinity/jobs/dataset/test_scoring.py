"""Networks over a data set: asked once, whatever thresholds change and whenever a job is killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import FilterConfig, ModelFilters
from infinity.data.dataset.manifest import Manifest
from infinity.data.sources.opening import open_source
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset import decisions as dataset_decisions
from infinity.jobs.dataset import scoring as judging
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.progress import Progress
from infinity.perception.clip import ClipConfig
from infinity.perception.detection.image_classifier import ImageClassifier, WatermarkConfig
from infinity.perception.language.captioner import CaptionerConfig
from infinity.perception.similarity import ClipSimilarityConfig
from tests.fixtures.models.tiny_networks import write_clip, write_image_classifier, write_llava

NUM_PICTURES = 12


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    write_image_classifier(folder / "watermark", ("No Watermark", "Watermark"))
    write_clip(folder / "clip")
    (folder / "llava").mkdir()
    write_llava(folder / "llava")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_source(tmp_path / "source", NUM_PICTURES)


def write_source(folder: Path, num_pictures: int) -> str:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(num_pictures):
        Image.fromarray(random.integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    lines = [f'{{"file_name": "{n:02d}.png", "text": "a cup number {n}"}}' for n in range(num_pictures)]
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
            patch.setattr(dataset_decisions, "decide", killed)
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
        judging.ScorersConfig(scorers=(scorer, scorer.replace(labels=("No Watermark",))))
    with pytest.raises(ValueError, match="expected at most one for each score"):
        BuildDatasetSpec(output=str(tmp_path), source=source, scorers=(scorer, scorer))


def own_actors() -> Iterator[int]:
    """Processes of scorers in the Ray that this process started: its grandchildren of that name."""

    def status(number: int) -> tuple[str, int]:
        text = Path(f"/proc/{number}/stat").read_text()
        return text.partition("(")[2].rpartition(")")[0], int(text.rpartition(")")[2].split()[1])

    for path in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            name, parent = status(int(path.name))
            if name.startswith("ray::_Scoring") and status(parent)[1] == os.getpid():
                yield int(path.name)


@pytest.mark.ray
def test_scores_of_actors_of_which_one_is_killed_equal_those_of_one_process(
    networks: Path, tmp_path: Path, exhaustive: bool, request: pytest.FixtureRequest
) -> None:
    if not exhaustive:
        pytest.skip("starts three processes that import everything, half a minute: pytest --exhaustive")
    request.getfixturevalue("local_ray")
    scorers = (
        WatermarkConfig(model=str(networks / "watermark")),
        ClipSimilarityConfig(clip=ClipConfig(model=str(networks / "clip"))),
    )
    source = write_source(tmp_path / "source", 150)  # three slices
    spec = BuildDatasetSpec(output=str(tmp_path / "here"), source=source, scorers=scorers)
    with in_process():
        here = Manifest.load(build_dataset.run(spec).manifest)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if "1 of 3 slices" in progress.message and "watermark" in progress.message:
            killed.extend(list(own_actors())[:1])
            os.kill(killed[0], signal.SIGKILL)

    workers = WorkersConfig(num_workers=2, threads=1, max_failures=2)
    there_spec = spec.replace(output=str(tmp_path / "there"), workers=workers)
    there = Manifest.load(build_dataset.run(there_spec, progress=kill_one).manifest)
    assert len(killed) == 1
    assert there.digest == here.digest

    def scores(folder: Path) -> dict[str, bytes]:
        files = sorted((folder / judging.SCORES_FOLDER).rglob("*.parquet"))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    assert len(scores(tmp_path / "here")) == 6
    assert scores(tmp_path / "there") == scores(tmp_path / "here")


def test_a_worker_holds_a_bounded_number_of_pixels(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PIXELS_AT_ONCE", 5 * 32 * 40)
    (piece,) = open_source(source).slices
    facts = measure_slice(piece, 10**6).facts
    (folder := tmp_path / "large").mkdir()
    for number in range(3):  # each alone is more than fits
        Image.fromarray(np.full((100, 90, 3), number, np.uint8)).save(folder / f"{number}.png")
    (folder / "metadata.jsonl").write_text("".join(f'{{"file_name": "{n}.png", "text": "x"}}\n' for n in range(3)))
    (large,) = open_source(str(folder)).slices
    sizes = [len(pictures) for pictures, _ in judging._batches(piece, _asked(facts), 10**6)]
    assert sizes == [5, 5, 2]
    sizes = [len(pictures) for pictures, _ in judging._batches(large, _asked(measure_slice(large, 10**6).facts), 10**6)]
    assert sizes == [1, 1, 1]


def _asked(facts: pa.Table) -> pa.Table:
    return facts.select(["row", "name", "caption", "content"])
