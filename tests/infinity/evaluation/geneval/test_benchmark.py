"""GenEval as a benchmark: the official file, broken lines, pictures from elsewhere with gaps, its own detector."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity.data.images.contact_sheet import encode_png
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.geneval.benchmark import MORE_PICTURES, NUM_OFFICIAL_PROMPTS, GenevalBenchmark
from infinity.evaluation.geneval.coco_detector import CLASSES, CocoDetector, crop_of
from infinity.evaluation.geneval.scenes import SceneDetector
from infinity.evaluation.geneval.scoring import COLOURS, ClassDetections, Detections, GenevalConfig
from infinity.evaluation.geneval.verdicts import GenevalJudge
from infinity.evaluation.pictures.store import read_picture
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder
from infinity.perception.detection.mask2former import Instances
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import values

CUP = {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a cup"}
RED = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"}


def write_prompts(path: Path, *prompts: Mapping[str, Any]) -> PinnedFile:
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    return PinnedFile(uri=str(path))


def bright_is_a_red_cup(pictures: Sequence[np.ndarray]) -> list[Detections]:
    """Finds a red cup in bright pictures, nothing in dark ones."""
    cup = ClassDetections(np.array([[0, 0, 3, 3]], np.float32), np.array([0.95], np.float32), ["red"])
    return [{"cup": cup} if picture.mean() > 128 else {} for picture in pictures]


def judged(benchmark: GenevalBenchmark, folder: PictureFolder) -> BenchmarkResult:
    samples = benchmark.find(folder, benchmark.items())
    judge = GenevalJudge(bright_is_a_red_cup, GenevalConfig())
    records = judge(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def write_pictures(folder: Path, *rows: Sequence[int], size: tuple[int, int] = (8, 8)) -> None:
    """A folder in the public scorer's layout; every number is the brightness of a picture."""
    for item, row in enumerate(rows):
        samples = folder / f"{item:05d}" / "samples"
        samples.mkdir(parents=True)
        for number, value in enumerate(row):
            (samples / f"{number:04d}.png").write_bytes(encode_png(np.full((*size, 3), value, np.uint8)))


@pytest.mark.reference
def test_official_file_has_its_prompts_and_its_checksum_is_the_default(shared: Path) -> None:
    official = GenevalBenchmark()
    file = shared / "bench/geneval/evaluation_metadata.jsonl"
    benchmark = official.replace(prompts=official.prompts.replace(uri=str(file)))
    items = benchmark.items()
    assert (len(items), items[0].id, items[552].id) == (NUM_OFFICIAL_PROMPTS, "00000", "00552")
    assert tuple((shared / "bench/geneval/object_names.txt").read_text().split("\n")[:80]) == CLASSES
    part = benchmark.replace(prompts_per_task=3).items()
    assert len(part) == 18
    assert {item.id for item in part} < {item.id for item in items}
    assert GenevalBenchmark.from_json(benchmark.to_json()) == benchmark


def test_figures_items_and_lines_of_pictures_from_elsewhere(tmp_path: Path) -> None:
    benchmark = GenevalBenchmark(prompts=write_prompts(tmp_path / "p", CUP, RED), pictures_per_prompt=2)
    write_pictures(tmp_path / "pictures", (255, 0), (255, 255))
    result = judged(benchmark, PictureFolder(uri=str(tmp_path / "pictures")))
    found = values(result.scores)
    assert found["geneval.overall"] == 0.75
    assert (found["geneval.single_object"], found["geneval.colors"]) == (0.5, 1.0)
    assert result.items["geneval.single_object"] == {"00000": 0.5}
    assert np.mean(list(result.items["geneval.overall"].values())) == 0.75
    lines = result.records["geneval_verdicts.jsonl"]
    assert [line["picture"] for line in lines[:2]] == ["00000/samples/0000.png", "00000/samples/0001.png"]
    assert lines[1]["reason"] == "expected cup>=1, found 0"
    assert set(result.sheets) == {"geneval.single_object", "geneval.colors"}


def test_missing_damaged_and_mis_sized_pictures_are_counted_gaps(tmp_path: Path) -> None:
    benchmark = GenevalBenchmark(prompts=write_prompts(tmp_path / "p", CUP, RED), pictures_per_prompt=3)
    folder = tmp_path / "pictures"
    write_pictures(folder, (255, 255), (255, 0, 0))
    (folder / "00001/samples/0001.png").write_bytes(b"no picture")
    (folder / "00001/samples/0002.png").write_bytes(encode_png(np.full((9, 8, 3), 255, np.uint8)))
    result = judged(benchmark, PictureFolder(uri=str(folder), size_px=(8, 8)))
    overall = result.scores[0]
    assert (overall.value, overall.n) == (1.0, 3)
    assert overall.note.startswith(
        "INCOMPLETE: 3 of 6 pictures could not be scored and are in no mean (first: 00000: no"
    )
    reasons = [line["missing"] for line in result.records["geneval_verdicts.jsonl"] if "missing" in line]
    assert reasons[0] == "no such file"
    assert "damaged" in reasons[1]
    assert reasons[2] == "expected 8x8 pixels (rows x columns), found 9x8"
    for metric in ("geneval.single_object", "geneval.overall"):
        mean = np.mean(list(result.items[metric].values()))
        assert mean == pytest.approx(values(result.scores)[metric])


def test_no_picture_at_all_is_not_measured(tmp_path: Path) -> None:
    benchmark = GenevalBenchmark(prompts=write_prompts(tmp_path / "p", CUP))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/readme").write_text("x")
    (score,) = judged(benchmark, PictureFolder(uri=str(tmp_path / "pictures"))).scores
    assert score.value is None
    assert "4 of 4 pictures" in score.note


def test_different_sizes_are_named(tmp_path: Path) -> None:
    benchmark = GenevalBenchmark(prompts=write_prompts(tmp_path / "p", CUP), pictures_per_prompt=2)
    write_pictures(tmp_path / "pictures", (255, 0))
    (tmp_path / "pictures/00000/samples/0001.png").write_bytes(encode_png(np.zeros((4, 6, 3), np.uint8)))
    result = judged(benchmark, PictureFolder(uri=str(tmp_path / "pictures")))
    assert "pictures of 2 sizes (rows x columns): 4x6, 8x8" in result.scores[0].note


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object"),
        ('{"tag": "colors"}', "line 2: GenEval metadata: expected texts tag and prompt"),
        (json.dumps({**CUP, "include": [{"class": "dragon", "count": 1}]}), "line 2: .*found 'dragon'"),
        (
            json.dumps({**CUP, "include": [{"class": "cup", "count": 1, "position": 3}]}),
            "line 2: .*earlier entry, got 3",
        ),
        (json.dumps({**CUP, "include": [{"class": "cup", "count": True}]}), "line 2: .*a count of at least 1, got"),
        (json.dumps({**CUP, "include": [{"class": "cup", "count": 1, "color": "mauve"}]}), "line 2: .*found 'mauve'"),
        (json.dumps({**CUP, "include": {"class": "cup", "count": 1}}), "line 2: .*expected a list include"),
        (json.dumps({**CUP, "include": [3]}), "line 2: .*expected entries with a class and a count, got 3"),
        (json.dumps({**CUP, "include": []}), "line 2: expected at least one object"),
        (json.dumps({**CUP, "prompt": " "}), "line 2: expected a text to draw"),
    ],
)
def test_broken_lines_are_named_by_their_number(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "p").write_text(json.dumps(CUP) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=message):
        GenevalBenchmark(prompts=PinnedFile(uri=str(tmp_path / "p"))).items()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class": "cup", "count": 1}, r"line 2: expected one of the detector's 10 classes \(circle, .*found 'cup'"),
        ({"class": "star", "count": 1, "color": "brown"}, "line 2: expected one of the colours .*found 'brown'"),
    ],
)
def test_what_another_detector_sees_is_no_prompt_for_this_one(
    tmp_path: Path, entry: Mapping[str, Any], message: str
) -> None:
    star = {**CUP, "include": [{"class": "star", "count": 1}]}
    benchmark = GenevalBenchmark(
        prompts=write_prompts(tmp_path / "p", star, {**CUP, "include": [entry]}), detector=SceneDetector()
    )
    with pytest.raises(ValueError, match=message):
        benchmark.items()


def test_protocol_names_what_figures_depend_on(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "p", CUP, RED)
    plain = GenevalBenchmark(prompts=prompts, pictures_per_prompt=1)
    write_pictures(tmp_path / "pictures", (255,), (0,))
    folder = PictureFolder(uri=str(tmp_path / "pictures"))
    stars = [{**CUP, "include": [{"class": "star", "count": n}]} for n in (1, 2)]
    changed = plain.replace(
        prompts=write_prompts(tmp_path / "stars", *stars),
        detector=SceneDetector(),
        thresholds=GenevalConfig(max_overlap=0.5),
    )
    first, second = (judged(each, folder).scores[0].protocol for each in (plain, changed))
    assert "openai/clip-vit-large-patch14" in first
    assert "official rules and thresholds" in first
    assert "exact detector" in second
    assert "max_overlap 0.5" in second


def test_colour_is_looked_at_within_the_mask_on_grey() -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[2:4, 3:6] = (200, 10, 20)
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:5] = True
    crop = crop_of(picture, np.array([3.0, 2.0, 6.0, 4.0], np.float32), mask)
    assert crop.shape == (2, 3, 3)
    assert crop[0, 0].tolist() == [200, 10, 20]
    assert crop[0, 2].tolist() == [0x99] * 3
    assert crop_of(picture, np.zeros(4, np.float32), mask).tolist() == [[[0x99] * 3]]


def test_rows_of_the_detector_become_detections_by_class() -> None:
    masks = np.zeros((3, 4, 4), bool)
    masks[:, 1:3, 1:3] = True
    boxes = np.array([[1, 1, 3, 3]] * 3, np.float32)
    rows = Instances(np.array([41, 0, 41]), np.array([0.9, 0.8, 0.7], np.float32), boxes, masks)
    samples: list[tuple[int, str]] = []

    class Colours:
        def name(self, pictures: Sequence[np.ndarray], thing: str, colours: tuple[str, ...]) -> list[str]:
            assert colours == COLOURS
            samples.append((pictures[0].shape[0], thing))
            return ["blue"]

    (found,) = CocoDetector(lambda pictures: [rows], Colours())([np.zeros((4, 4, 3), np.uint8)])  # type: ignore[arg-type]
    assert set(found) == {"person", "cup"}
    assert found["cup"].scores.tolist() == pytest.approx([0.9, 0.7])
    assert samples == []
    assert found["cup"].colours[0] == "blue"
    assert samples == [(2, "cup")]


def test_pictures_are_turned_upright_before_anything_looks_at_them(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", exif=exif)
    (tmp_path / "p.png").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_picture(str(tmp_path / "p.png")), np.rot90(np.asarray(image), -1))


def test_more_pictures_than_the_protocol_says_all_count_and_every_score_says_so(tmp_path: Path) -> None:
    benchmark = GenevalBenchmark(prompts=write_prompts(tmp_path / "p", CUP, RED), pictures_per_prompt=2)
    write_pictures(tmp_path / "pictures", (255, 0, 0), (255, 255))
    scores = judged(benchmark, PictureFolder(uri=str(tmp_path / "pictures"))).scores
    assert next(score.n for score in scores if score.metric == "geneval.overall") == 5
    assert all(f"1 prompts {MORE_PICTURES}, all of which count" in score.note for score in scores)
