"""Pictures that were drawn elsewhere are matched to prompts, or their gaps are counted, or the fault is named."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneDetector
from infinity.evaluation.pictures.files import endings
from infinity.evaluation.pictures.store import PictureError
from infinity.evaluation.prompts.benchmark import MissingPicture, PictureFolder, PromptItem, PromptSample
from infinity.evaluation.prompts.found import Layout, in_folders, in_folders_or_flat, locate
from infinity.evaluation.prompts.names import padded
from infinity.storage.pinned import PinnedFile

SHAPES = ("star", "heart", "square", "star")  # the official file has prompts twice too


@pytest.mark.parametrize(
    ("name", "ids", "beyond", "expected"),
    [
        ("7", ["00006", "00007"], 0, "00007"),
        ("8", ["00006", "00007"], 0, "8"),
        ("8", ["00006", "00007"], 1, "00008"),
        ("9", ["00006", "00007"], 1, "9"),
        ("5", ["00006", "00007"], 1, "5"),
        ("7", ["a7"], 1, "7"),
        ("7", ["\u00b2"], 1, "7"),
        ("\u00b2", ["00002"], 1, "\u00b2"),
        ("x", ["00002"], 1, "x"),
        ("2", [], 1, "2"),
    ],
)
def test_a_number_gets_the_zeros_of_the_ids_that_have_it(name: str, ids: list[str], beyond: int, expected: str) -> None:
    assert padded(name, ids, beyond) == expected
    assert beyond or padded(name, ids) == expected


def line(shape: str) -> dict[str, object]:
    return {"tag": "single_object", "include": [{"class": shape, "count": 1}], "prompt": f"a photo of a {shape}"}


def save(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)


def geneval_in(tmp_path: Path) -> GenevalBenchmark:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(line(shape)) + "\n" for shape in SHAPES))
    return GenevalBenchmark(
        prompts=PinnedFile(uri=str(file)), detector=SceneDetector(), pictures_per_prompt=2,
        pictures=PictureFolder(uri=str(tmp_path / "pictures")),
    )  # fmt: skip


@pytest.fixture
def geneval(tmp_path: Path) -> GenevalBenchmark:
    return geneval_in(tmp_path)


def find(benchmark: GenevalBenchmark | DpgBenchmark) -> list[PromptSample]:
    assert benchmark.pictures is not None
    return benchmark.find(benchmark.pictures, benchmark.items())


def names(sample: PromptSample) -> list[str]:
    return [place.reason if isinstance(place, MissingPicture) else place.name for place in sample.places]


def folder(root: Path, number: int, shape: str | None, **metadata: object) -> None:
    for sample in range(2):
        save(root / f"pictures/{number:05d}/samples/{sample:05d}.png")
    save(root / f"pictures/{number:05d}/grid.png")  # as the public generator writes it
    if shape is not None:
        (root / f"pictures/{number:05d}/metadata.jsonl").write_text(json.dumps({**line(shape), **metadata}))


@pytest.mark.parametrize("ending", sorted({*endings(), ".PNG", ".JpEg"} - {".jp2", ".avif", ".jfif", ".apng", ".jpe"}))
def test_every_ending_that_is_decoded_is_a_picture(geneval: GenevalBenchmark, tmp_path: Path, ending: str) -> None:
    for number in range(4):
        for sample in range(2):
            save(tmp_path / f"pictures/{number:05d}/samples/{sample}{ending}")
    for sample in find(geneval):
        assert not any(isinstance(picture, MissingPicture) for picture in sample.pictures())


@pytest.mark.parametrize("other", ["0.txt", "0.json", "._0.png", ".DS_Store", "Thumbs.db", "0.npy", "0.png.part", "0"])
def test_what_lies_beside_pictures_is_none(geneval: GenevalBenchmark, tmp_path: Path, other: str) -> None:
    folder(tmp_path, 0, None)
    (tmp_path / "pictures/00000/samples" / other).write_bytes(b"x")
    assert names(find(geneval)[0]) == ["00000/samples/00000.png", "00000/samples/00001.png"]


@pytest.mark.parametrize("other", ["0.png", "00000.jpg", "0-again.webp", "000.PNG"])
def test_a_second_file_of_one_number_is_an_error_that_names_both(
    geneval: GenevalBenchmark, tmp_path: Path, other: str
) -> None:
    folder(tmp_path, 0, None)
    save(tmp_path / f"pictures/00000/samples/{other}")
    with pytest.raises(PictureError) as error:
        find(geneval)
    assert other in str(error.value)
    assert "00000/samples/00000.png" in str(error.value)


def test_metadata_decide_whose_pictures_a_folder_holds(geneval: GenevalBenchmark, tmp_path: Path) -> None:
    for number, shape in ((0, "square"), (3, "star"), (7, "heart"), (9, "star")):
        folder(tmp_path, number, shape, seed=3)  # keys that the scorer does not know play no part
    found = [names(sample)[0].split("/")[0] for sample in find(geneval)]
    assert found == ["00009", "00007", "00000", "00003"], "of two equal prompts each keeps its own number"


def test_a_part_of_the_prompts_knows_the_folders_of_the_others(geneval: GenevalBenchmark, tmp_path: Path) -> None:
    for number, shape in enumerate(SHAPES):
        folder(tmp_path, number, shape)
    (sample,) = find(geneval.replace(prompts_per_task=1))
    assert names(sample)[0] == "00000/samples/00000.png"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (json.dumps(line("circle")), "found 'a photo of a circle'; give the prompt file"),
        (json.dumps({**line("star"), "include": [{"class": "star", "count": 2}]}), "with the same objects"),
        ("{broken", "expected one JSON object with a prompt"),
        ('["a photo of a star"]', "expected one JSON object with a prompt, found"),
        ('{"tag": "counting"}', "expected one JSON object with a prompt"),
    ],
)
def test_metadata_that_are_no_line_of_the_prompts_are_refused(
    geneval: GenevalBenchmark, tmp_path: Path, metadata: str, words: str
) -> None:
    folder(tmp_path, 0, "star")
    folder(tmp_path, 1, None)
    (tmp_path / "pictures/00001/metadata.jsonl").write_text(metadata)
    with pytest.raises(PictureError) as error:
        find(geneval)
    assert words in str(error.value)
    assert "00001/metadata.jsonl" in str(error.value)


def test_two_folders_of_one_prompt_are_refused(geneval: GenevalBenchmark, tmp_path: Path) -> None:
    folder(tmp_path, 1, "heart")
    folder(tmp_path, 5, "heart")
    with pytest.raises(PictureError, match="is that of the folder 00001 too"):
        find(geneval)


def test_a_folder_without_metadata_must_not_be_the_prompt_of_another(geneval: GenevalBenchmark, tmp_path: Path) -> None:
    folder(tmp_path, 1, None)
    folder(tmp_path, 5, "heart")
    with pytest.raises(PictureError, match=r"00001 has no metadata.jsonl, and by that of the folder 00005"):
        find(geneval)


def test_pictures_of_no_prompt_are_told(
    geneval: GenevalBenchmark, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path, 0, None)
    folder(tmp_path, 44, None)
    with caplog.at_level(logging.WARNING):
        find(geneval)
    assert "3 of 6 pictures belong to no prompt" in caplog.text
    assert "00044/grid.png" in caplog.text


# --- Flat layouts and DPG's grids --------------------------------------------------------------------------------


@pytest.fixture
def dpg(tmp_path: Path) -> DpgBenchmark:
    (tmp_path / "prompts").mkdir()
    for name in ("7", "stanford3"):
        (tmp_path / f"prompts/{name}.txt").write_text(f"A long prompt {name}")
    head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    (tmp_path / "q.csv").write_text(head + "question_natural_language\nlost,,,1,0,,,entity - whole (x),x?\n")
    return DpgBenchmark(
        prompts=str(tmp_path / "prompts"), questions=PinnedFile(uri=str(tmp_path / "q.csv")),
        pictures=PictureFolder(uri=str(tmp_path / "grids")),
    )  # fmt: skip


@pytest.mark.parametrize("beside", [".txt", ".yaml", ".safetensors", ".md"])
def test_files_beside_grids_are_none(dpg: DpgBenchmark, tmp_path: Path, beside: str) -> None:
    for name in ("7", "stanford3"):
        save(tmp_path / f"grids/{name}.jpeg")
        (tmp_path / f"grids/{name}{beside}").write_text("x")
    assert [names(sample) for sample in find(dpg)] == [["7.jpeg"], ["stanford3.jpeg"]]


@pytest.mark.parametrize("other", ["7.webp", "7.PNG", "7.again.jpg"])
def test_two_grids_of_one_item_are_an_error_that_names_both(dpg: DpgBenchmark, tmp_path: Path, other: str) -> None:
    for name in ("7.png", other):
        save(tmp_path / "grids" / name)
    with pytest.raises(PictureError) as error:
        find(dpg)
    assert "7.png" in str(error.value)
    assert other in str(error.value)


@pytest.mark.parametrize("form", ["{}_{}.jpg", "{}/samples/{:04d}.webp"])
def test_single_pictures_instead_of_grids_are_found_and_their_gaps_counted(
    dpg: DpgBenchmark, tmp_path: Path, form: str
) -> None:
    for number in range(4):
        save(tmp_path / "grids" / form.format("7", number), number)
    save(tmp_path / "grids" / form.format("stanford3", 0))
    first, second = find(dpg)
    assert [int(picture.mean()) for picture in first.pictures() if not isinstance(picture, MissingPicture)] == [
        0,
        1,
        2,
        3,
    ]
    assert names(second)[1:] == ["no such file"] * 3


def test_an_id_that_ends_in_a_number_keeps_its_own_file(tmp_path: Path) -> None:
    for name in ("a.png", "a_1.png", "a_2.png"):
        save(tmp_path / name)
    items = [PromptItem(id="a", prompt="p"), PromptItem(id="a_1", prompt="q")]
    found = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat)
    assert [names(sample) for sample in found] == [["a.png", "a_2.png"], ["a_1.png"]]


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_a_table_matches_by_prompt_and_counts_what_is_missing(tmp_path: Path) -> None:
    for name in ("x/one.JPG", "two.webp"):
        save(tmp_path / name)
    (tmp_path / "table.csv").write_text(
        'file,prompt\nx/one.JPG," a cat, red "\ntwo.webp,"a cat, red"\ngone.png,a dog\n'
    )
    items = [
        PromptItem(id="0", prompt="a cat, red"),
        PromptItem(id="1", prompt="a dog"),
        PromptItem(id="2", prompt="a cow"),
    ]
    found = locate(PictureFolder(uri=str(tmp_path / "table.csv")), items, 2)
    assert names(found[0]) == ["one.JPG", "two.webp"]
    assert names(found[1]) == [f"no such file: {tmp_path / 'gone.png'}", "no such file"]
    assert names(found[2]) == ["no such file"] * 2
    with pytest.raises(PictureError, match="none of its 2 prompts is one of the benchmark's 1"):
        locate(PictureFolder(uri=str(tmp_path / "table.csv")), [PromptItem(id="0", prompt="other")], 1)


def test_the_version_of_a_place_is_its_content_and_nothing_else(tmp_path: Path) -> None:
    import os

    save(tmp_path / "a.bmp", 1)
    about = (tmp_path / "a.bmp").stat()
    items = [PromptItem(id="a", prompt="p")]

    def version() -> str:
        (sample,) = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat)
        return sample.digest()

    first, content = version(), PictureFolder(uri=str(tmp_path)).content()
    save(tmp_path / "a.bmp", 2)
    os.utime(tmp_path / "a.bmp", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (tmp_path / "a.bmp").stat().st_size == about.st_size
    assert version() != first
    assert PictureFolder(uri=str(tmp_path)).content() != content
    save(tmp_path / "a.bmp", 1)
    assert version() == first
    assert PictureFolder(uri=str(tmp_path)).content() == content


def test_metadata_match_prompts_in_either_unicode_form(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "a café") for form in ("NFC", "NFD"))
    save(tmp_path / "pictures/00007/samples/0.png")
    (tmp_path / "pictures/00007/metadata.jsonl").write_text(json.dumps({"prompt": other}))
    items = [PromptItem(id="00000", prompt=one)]
    (sample,) = locate(PictureFolder(uri=str(tmp_path / "pictures")), items, 1)
    assert names(sample) == ["00007/samples/0.png"]


@pytest.mark.parametrize("files", [("{:05d}/samples/0.png", in_folders), ("{:05d}.webp", in_folders_or_flat)])
def test_pictures_numbered_from_1_are_refused_and_gaps_are_not(tmp_path: Path, files: tuple[str, Layout]) -> None:
    form, layout = files
    items = [PromptItem(id=f"{number:05d}", prompt=f"{number}") for number in range(3)]
    place = PictureFolder(uri=str(tmp_path / "pictures"))
    save(tmp_path / "pictures" / form.format(1))
    locate(place, items, 1, layout=layout)
    for number in (2, 3):
        save(tmp_path / "pictures" / form.format(number))
    with pytest.raises(
        PictureError, match="expected pictures numbered from 00000, found none of that number, but 00003"
    ):
        locate(place, items, 1, layout=layout)
    save(tmp_path / "pictures" / form.format(0))
    assert [len(names(sample)) for sample in locate(place, items, 1, layout=layout)] == [1, 1, 1]


@pytest.mark.parametrize("files", [("{}/samples/0.png", in_folders), ("{}.png", in_folders_or_flat)])
def test_numbers_with_fewer_zeros_than_those_of_the_benchmark_are_found(
    tmp_path: Path, files: tuple[str, Layout]
) -> None:
    form, layout = files
    items = [PromptItem(id=f"{number:05d}", prompt=f"{number}") for number in range(12)]
    place = PictureFolder(uri=str(tmp_path / "pictures"))
    for number in range(12):
        save(tmp_path / "pictures" / form.format(number), number)
    found = locate(place, items, 1, layout=layout)
    assert [names(sample) for sample in found] == [[form.format(number)] for number in range(12)]
    save(tmp_path / "pictures" / form.format("007"))
    with pytest.raises(PictureError, match="expected one picture 0 of 00007"):
        locate(place, items, 1, layout=layout)


@pytest.mark.parametrize("files", [("{}/samples/0.png", in_folders), ("{}.png", in_folders_or_flat)])
def test_numbers_from_1_are_refused_with_few_zeros_too(tmp_path: Path, files: tuple[str, Layout]) -> None:
    form, layout = files
    items = [PromptItem(id=f"{number:05d}", prompt=f"{number}") for number in range(3)]
    for number in (1, 2, 3):
        save(tmp_path / "pictures" / form.format(number))
    with pytest.raises(PictureError, match="expected pictures numbered from 00000"):
        locate(PictureFolder(uri=str(tmp_path / "pictures")), items, 1, layout=layout)


def test_a_folder_with_few_zeros_must_not_be_the_prompt_of_another(geneval: GenevalBenchmark, tmp_path: Path) -> None:
    folder(tmp_path, 7, "heart")
    save(tmp_path / "pictures" / "1" / "samples" / "3.png")
    with pytest.raises(PictureError, match=r"the folder 1 has no metadata.jsonl, and by that of the folder 00007"):
        find(geneval)


def test_pictures_beside_no_samples_are_named_in_a_warning(
    geneval: GenevalBenchmark, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "pictures/00000/front.png")
    save(tmp_path / "pictures/00001/front.png")
    with caplog.at_level(logging.WARNING):
        find(geneval)
    assert "2 of 2 pictures belong to no prompt" in caplog.text
    assert "first: 00000/front.png" in caplog.text


def test_equal_prompts_share_the_rows_of_a_table_in_its_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [PromptItem(id=f"{number}", prompt=prompt) for number, prompt in enumerate(("a", "a", "b"))]
    for number in range(5):
        save(tmp_path / f"{number}.png")
    table = tmp_path / "table.csv"
    table.write_text("prompt,file\na,0.png\na,1.png\nb,2.png\nb,3.png\n")
    with caplog.at_level(logging.WARNING):
        found = locate(PictureFolder(uri=str(table)), items, 1, most=1)
    assert [names(sample) for sample in found] == [["0.png"], ["1.png"], ["2.png"]]
    assert "1 prompts have more than 1 pictures" in caplog.text
    table.write_text("prompt,file\na,0.png\nb,2.png\n")  # one picture for both: both are judged on it
    assert [names(sample) for sample in locate(PictureFolder(uri=str(table)), items, 1)] == [
        ["0.png"],
        ["0.png"],
        ["2.png"],
    ]


def placed(root: Path, items: list[PromptItem], number: int = 1) -> list[list[str]]:
    samples = locate(PictureFolder(uri=str(root)), items, number, layout=in_folders_or_flat, most=number)
    return [names(sample) for sample in samples]


def test_files_that_are_named_by_their_prompts_are_found_as_t2i_compbench_writes_them(tmp_path: Path) -> None:
    prompts = ["a red cup, and a dog", "a cup", "caf\u00e9", "twice", "twice", "3"]
    items = [PromptItem(id=f"{n:05d}", prompt=prompt) for n, prompt in enumerate(prompts)]
    files = [
        "a red cup, and a dog_000000.png",
        "a red cup, and a dog_000001.png",
        "a cup_000010.jpg",
        "a cup_000002.png",
    ]
    for file in (*files, "cafe\u0301_000000.webp", "twice_000000.png", "nothing like this_000000.png"):
        save(tmp_path / "samples" / file)
    missing = "no such file"
    assert placed(tmp_path, items, 2) == [
        [f"samples/{name}" for name in files[:2]],
        [f"samples/{name}" for name in files[:1:-1]],
        ["samples/cafe\u0301_000000.webp", missing],
        *[[missing, missing]] * 3,
    ]


def test_the_folders_of_tiif_bench_are_found_and_two_models_in_them_are_an_error(tmp_path: Path) -> None:
    items = [PromptItem(id=f"{kind}/{n}", prompt=f"{kind} {n}") for kind in ("text", "color+2d") for n in range(2)]
    files = [f"{kind}/flux/{which}_description/{n}.png" for kind in ("text", "color+2d") for which in ("long", "short")
             for n in range(2)]  # fmt: skip
    for file in files:
        save(tmp_path / file)
    assert placed(tmp_path, items) == [[file] for file in files if "short" in file]
    save(tmp_path / "text/sdxl/short_description/0.png")
    with pytest.raises(PictureError, match=r"expected one picture 0 of text/0, found text/flux.* and text/sdxl"):
        placed(tmp_path, items)


def test_underscores_stand_for_blanks_in_names_unless_two_prompts_differ_in_them_alone(tmp_path: Path) -> None:
    prompts = ["a red cup", "two dogs", "two_dogs"]
    items = [PromptItem(id=f"{n:05d}", prompt=prompt) for n, prompt in enumerate(prompts)]
    for name in ("a_red_cup_000001", "two_dogs_000001", "two dogs_000001"):
        save(tmp_path / f"{name}.png")
    assert placed(tmp_path, items) == [["a_red_cup_000001.png"], ["two dogs_000001.png"], ["no such file"]]
