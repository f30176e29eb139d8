"""CMMD and FD-DINOv2 inside evaluations: the figures of the command for sets, gaps counted, identity by content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.contents import contents, judged_by
from infinity.evaluation.fid.drawn_distance import CmmdBenchmark, DrawnDistanceBenchmark, FdDinov2Benchmark
from infinity.evaluation.fid.embedding_distance import embed_set, embedding_score
from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder, PromptBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.evaluation.results import below, load
from infinity.perception.embeddings import EmbeddingConfig, load_embedder
from infinity.storage.pinned import PinnedFile
from tests.fixtures.models.tiny_networks import write_clip, write_dinov2

NUMBER = 22


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EmbeddingConfig]:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "dino").mkdir()
    return {
        "cmmd": EmbeddingConfig(kind="cmmd", model=write_clip(folder / "clip")),
        "fd_dinov2": EmbeddingConfig(kind="fd_dinov2", model=write_dinov2(folder / "dino")),
    }


def write(folder: Path, seed: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for index in range(NUMBER):
        picture = random.integers(0, 60 * seed, (12, 15, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{index:05d}.png")
    return folder


def made(kind: str, network: EmbeddingConfig, folder: Path, *, listed: bool = True) -> DrawnDistanceBenchmark:
    (folder / "p.txt").write_text("".join(f"prompt {number}\n" for number in range(NUMBER)))
    lists = (PromptList(file=PinnedFile(uri=str(folder / "p.txt"))),) if listed else ()
    one, other = write(folder / "drawn", 1), write(folder / "reference", 2)
    benchmark = {"cmmd": CmmdBenchmark, "fd_dinov2": FdDinov2Benchmark}[kind]
    return benchmark(
        prompts=lists, reference=ReferenceSet(uri=str(other)), network=network, pictures=PictureFolder(uri=str(one))
    )


def judged(benchmark: DrawnDistanceBenchmark) -> BenchmarkResult:
    as_benchmark: PromptBenchmark = benchmark
    samples = benchmark.find(cast(PictureFolder, benchmark.pictures), benchmark.items())
    records = as_benchmark.judge(Networks("cpu"))(samples, [one.pictures() for one in samples])
    records = json.loads(json.dumps(records))  # as the store keeps them
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


@pytest.mark.parametrize("kind", ["cmmd", "fd_dinov2"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_benchmark_has_the_figure_and_interval_of_the_command_for_two_folders(
    tmp_path: Path, networks: dict[str, EmbeddingConfig], kind: str, listed: bool
) -> None:
    benchmark = made(kind, networks[kind], tmp_path, listed=listed)
    (score,) = judged(benchmark).scores
    embedder = load_embedder(networks[kind])
    sets = [embed_set(ReferenceSet(uri=str(tmp_path / name)), embedder) for name in ("drawn", "reference")]
    expected = embedding_score(*sets, embedder)
    assert score.metric == f"{kind}.overall"
    assert (score.value, score.low, score.high, score.n) == pytest.approx(
        (expected.value, expected.low, expected.high, NUMBER), rel=1e-5
    )
    assert score.low is not None
    same = benchmark.replace(reference=benchmark.reference.replace(uri=str(tmp_path / "drawn")))
    assert judged(same).scores[0].value == pytest.approx(0, abs=1e-3)


def test_missing_pictures_are_counted_and_in_no_distance(tmp_path: Path, networks: dict[str, EmbeddingConfig]) -> None:
    benchmark = made("cmmd", networks["cmmd"], tmp_path)
    (tmp_path / "drawn/00003.png").unlink()
    (tmp_path / "drawn/00005.png").write_bytes(b"none")
    (score,) = judged(benchmark).scores
    assert score.n == NUMBER - 2
    assert score.note.startswith(f"INCOMPLETE: 2 of {NUMBER} prompts could not be scored")
    for number in range(1, NUMBER):
        (tmp_path / f"drawn/{number:05d}.png").unlink(missing_ok=True)
    (none,) = judged(benchmark).scores
    assert none.value is None
    assert "INCOMPLETE: 21 of 22 prompts" in none.note


def test_the_reference_and_the_network_are_part_of_the_identity_of_an_evaluation_but_not_of_a_vector(
    tmp_path: Path, networks: dict[str, EmbeddingConfig]
) -> None:
    shutil.copytree(networks["cmmd"].model, tmp_path / "clip")
    benchmark = made("cmmd", networks["cmmd"].replace(model=str(tmp_path / "clip")), tmp_path)
    before, vectors = contents(None, {"cmmd": benchmark}), judged_by(benchmark)
    assert {"cmmd.reference.files", "cmmd.network.weights", "cmmd.pictures.files"} <= set(before)
    Image.new("RGB", (9, 9)).save(tmp_path / "reference/00000.png")
    after = contents(None, {"cmmd": benchmark})
    assert [name for name in before if before[name] != after[name]] == ["cmmd.reference.files"]
    assert judged_by(benchmark) == vectors
    (tmp_path / "clip/preprocessor_config.json").write_text('{"do_resize": false}')
    assert contents(None, {"cmmd": benchmark})["cmmd.network.weights"] != before["cmmd.network.weights"]


def test_the_published_network_that_is_not_here_has_no_digest_of_this_folder() -> None:
    benchmark = FdDinov2Benchmark(reference=ReferenceSet(uri="/gone"), pictures=PictureFolder(uri="/gone"))
    assert contents(None, {"fd_dinov2": benchmark}) == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pictures": None}, "expected at least one list of prompts, or a folder of pictures"),
        ({"pictures": PictureFolder(uri="t.csv")}, "expected at least one list of prompts"),
        ({"network": EmbeddingConfig(kind="fd_dinov2")}, "expected 'cmmd', got 'fd_dinov2'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], words: str) -> None:
    settings = {"reference": ReferenceSet(uri="r"), "pictures": PictureFolder(uri="p")} | changes
    with pytest.raises(ValueError, match=words):
        CmmdBenchmark(**settings)  # type: ignore[arg-type]


def test_the_command_scores_a_table_of_foreign_pictures(tmp_path: Path, networks: dict[str, EmbeddingConfig]) -> None:
    one, other = write(tmp_path / "drawn", 1), write(tmp_path / "reference", 2)
    rows = "".join(f"prompt {number},{one}/{number:05d}.png\n" for number in range(NUMBER))
    (tmp_path / "t.csv").write_text(f"prompt,file\n{rows}")
    settings = json.dumps({"reference": {"uri": str(other)}, "network": networks["cmmd"].to_json()})
    arguments = ["evaluate", "--pictures", str(tmp_path / "t.csv"), "--name", "flux", "-b", f"cmmd={settings}"]
    with in_process():
        result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (folder,) = below(str(tmp_path / "out"))
    (score,) = load(folder).report.scores
    assert (score.metric, score.n) == ("cmmd.overall", NUMBER)
    assert score.note.startswith("pictures of flux, drawn elsewhere: t.csv")
