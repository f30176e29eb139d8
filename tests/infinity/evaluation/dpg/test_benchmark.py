"""DPG-Bench as a benchmark: prompts, grids from elsewhere, both protocols side by side, failing items in sight."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from infinity.data.images.contact_sheet import encode_png
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.dpg.benchmark import DpgBenchmark, DpgJudge
from infinity.evaluation.dpg.prompts import read_prompts
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import values
from tests.infinity.evaluation.dpg.test_scoring import HEADER

ROWS = (
    "first,,,1,0,,,entity - whole (x),lost?", "first,,,2,0,,,entity - whole (x),bright?",
    'a,,,1,0,,,entity - whole (x),bright?', 'a,,,2,1,,,attribute - color (x),always?',
    'b,,,1,"0",,,entity - whole (x),bright?', 'b,,,2,"1,9",,,relation - spatial (x),always?',
)  # fmt: skip


class Eyes:
    """Says yes to "bright?" for bright pictures, and always to everything else."""

    def answer(self, samples: Sequence[tuple[np.ndarray, str]]) -> list[str]:
        return ["yes" if question != "bright?" or picture.mean() > 128 else "no" for picture, question in samples]


@pytest.fixture
def benchmark(tmp_path: Path) -> DpgBenchmark:
    (tmp_path / "prompts").mkdir()
    for name in ("first", "a", "b", "stranger"):
        (tmp_path / "prompts" / f"{name}.txt").write_text(f" the prompt {name}\n")
    (tmp_path / "table.csv").write_text("\n".join((HEADER, *ROWS)))
    folder = PictureFolder(uri=str(tmp_path / "grids"))
    return DpgBenchmark(
        prompts=str(tmp_path / "prompts"), questions=PinnedFile(uri=str(tmp_path / "table.csv")), pictures=folder
    )


def write_grid(folder: Path, name: str, tiles: Sequence[int], side: int = 8) -> None:
    folder.mkdir(exist_ok=True)
    grid = np.kron(np.array(tiles, np.uint8).reshape(2, 2), np.ones((side, side), np.uint8))
    (folder / f"{name}.png").write_bytes(encode_png(np.repeat(grid[..., None], 3, axis=2)))


def judged(benchmark: DpgBenchmark) -> BenchmarkResult:
    assert benchmark.pictures is not None
    samples = benchmark.find(benchmark.pictures, benchmark.items())
    records = DpgJudge(Eyes(), benchmark)(samples, [one.pictures() for one in samples])  # type: ignore[arg-type]
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def test_both_protocols_stand_side_by_side(benchmark: DpgBenchmark, tmp_path: Path) -> None:
    for name in ("first", "a", "b", "stranger"):
        write_grid(tmp_path / "grids", name, (255, 255, 255, 0))
    result = judged(benchmark)
    found = values(result.scores)
    # Reference: "first" lost a row and has one question left, "b" fails on the bright tiles, "stranger" is unknown.
    assert found["dpg.overall"] == pytest.approx(100 * (0.75 + 0.75) / 2)
    assert found["dpg.failed"] == 2
    assert found["dpg.l1.entity"] == 0  # raw answers of the last tile, which is dark
    assert found["dpg.l2.attribute_color"] == 100
    # Corrected: four tiles, the dark one answers "no" and takes the dependent question with it.
    assert found["dpg_corrected.failed"] == 1
    assert found["dpg_corrected.overall"] == pytest.approx(100 * (0.875 + 0.75 + 0.75) / 3)
    assert found["dpg_corrected.l2.attribute_color"] == 75
    by_name = {score.metric: score for score in result.scores}
    assert by_name["dpg.overall"].n == 2
    assert by_name["dpg.overall"].note.startswith("INCOMPLETE: 2 of 4 prompts could not be scored")
    assert by_name["dpg_corrected.overall"].note.startswith("INCOMPLETE: 1 of 4 prompts")
    assert "quirks included" in by_name["dpg.overall"].protocol
    for name in ("dpg", "dpg_corrected"):
        assert np.mean(list(result.items[f"{name}.overall"].values())) == pytest.approx(found[f"{name}.overall"])


def test_missing_and_mis_sized_grids_are_counted(benchmark: DpgBenchmark, tmp_path: Path) -> None:
    write_grid(tmp_path / "grids", "a", (255, 255, 255, 255))
    write_grid(tmp_path / "grids", "first", (255, 255, 255, 255), side=6)
    sized = benchmark.replace(pictures=PictureFolder(uri=str(tmp_path / "grids"), size_px=(16, 16)))
    result = judged(sized)
    score = next(score for score in result.scores if score.metric == "dpg_corrected.overall")
    assert (score.value, score.n) == (100, 1)
    assert score.note.startswith("INCOMPLETE: 3 of 4 prompts")
    missing = {str(line["id"]): line.get("missing") for line in result.records["dpg_answers.jsonl"]}
    assert missing["b"] == "no such file"
    assert missing["first"] == "expected 16x16 pixels (rows x columns), found 12x12"


def test_grids_that_are_too_small_are_filled_up_and_counted(benchmark: DpgBenchmark, tmp_path: Path) -> None:
    write_grid(tmp_path / "grids", "a", (255, 255, 255, 255))
    result = judged(benchmark.replace(resolution_px=16))
    found = {score.metric: score for score in result.scores}
    assert "1 grids are smaller than two tiles a side and were filled up with black" in found["dpg.overall"].note
    assert found["dpg.overall"].value == 25


def test_nothing_scored_is_not_measured(benchmark: DpgBenchmark, tmp_path: Path) -> None:
    write_grid(tmp_path / "grids", "other", (0, 0, 0, 0))
    found = {score.metric: score for score in judged(benchmark).scores}
    assert found["dpg.overall"].value is None
    assert "4 of 4 prompts" in found["dpg.overall"].note
    assert found["dpg.failed"].value == 4


def test_prompts_come_from_a_folder_or_a_zip_file(benchmark: DpgBenchmark, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in (tmp_path / "prompts").iterdir():
            archive.write(path, f"ELLA-1/dpg_bench/prompts/{path.name}")
        archive.writestr("ELLA-1/other/notes.txt", "x")
    found = read_prompts(PinnedFile(uri=str(tmp_path / "p.zip")))
    assert (
        found == read_prompts(str(benchmark.prompts)) == {n: f"the prompt {n}" for n in ("first", "a", "b", "stranger")}
    )


@pytest.mark.reference
def test_official_prompts_are_all_there(shared: Path) -> None:
    prompts = read_prompts(str(shared / "bench/dpg/prompts"))
    assert len(prompts) == len(set(prompts.values())) == 1065


def test_broken_prompts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none"):
        read_prompts(str(tmp_path))
    (tmp_path / "7.TXT").write_text("seven")
    (tmp_path / "._7.txt").write_bytes(b"\xff\xfe")  # as macOS adds it
    assert read_prompts(str(tmp_path)) == {"7": "seven"}
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"x\.txt is not UTF-8"):
        read_prompts(str(tmp_path))
    (tmp_path / "x.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"x\.txt is empty"):
        read_prompts(str(tmp_path))
    (tmp_path / "no.zip").write_bytes(b"x")
    with pytest.raises(ValueError, match="expected a zip file"):
        read_prompts(PinnedFile(uri=str(tmp_path / "no.zip")))


def test_one_picture_per_prompt_is_judged_whole_unless_a_side_is_given(benchmark: DpgBenchmark, tmp_path: Path) -> None:
    write_grid(tmp_path / "grids", "a", (255, 0, 0, 0))  # a bright corner, a dark picture
    single = benchmark.replace(pictures_per_prompt=1)
    assert values(judged(single).scores)["dpg_corrected.overall"] == 0
    corner = single.replace(resolution_px=8)
    assert values(judged(corner).scores)["dpg_corrected.overall"] == 100
    assert single.judge_settings() != corner.judge_settings()
    assert "in a 2x2 grid" not in judged(single).scores[0].protocol
    assert "in a 2x2 grid" in judged(corner).scores[0].protocol


@pytest.mark.parametrize("size", [(8, 32), (64, 16), (1, 1)])
def test_a_strip_or_a_dot_is_no_grid_and_a_counted_gap(
    benchmark: DpgBenchmark, tmp_path: Path, size: tuple[int, int]
) -> None:
    write_grid(tmp_path / "grids", "b", (255, 255, 255, 255))
    (tmp_path / "grids/a.png").write_bytes(encode_png(np.full((*size, 3), 255, np.uint8)))
    note = next(score.note for score in judged(benchmark).scores if score.metric == "dpg_corrected.overall")
    assert f"a: expected a grid of 2 x 2 pictures, found {size[0]}x{size[1]} pixels" in note


def test_single_pictures_beside_grids_are_named(
    benchmark: DpgBenchmark, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b_0", "b_1"):
        write_grid(tmp_path / "grids", name, (255, 255, 255, 255))
    judged(benchmark)
    assert "2 of 3 pictures belong to no prompt of the benchmark" in caplog.text
