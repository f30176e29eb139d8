"""Pictures of others in further layouts: flat, without samples, below folders that hold all, without categories."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.pictures.store import PictureError
from infinity.evaluation.prompts.benchmark import MissingPicture, PictureFolder, PromptItem
from infinity.evaluation.prompts.found import in_folders_or_flat, in_folders_or_long, locate
from tests.infinity.evaluation.prompts.test_found import find, folder, geneval_in, names, placed, save


@pytest.fixture
def geneval(tmp_path: Path) -> GenevalBenchmark:
    return geneval_in(tmp_path)


@pytest.mark.parametrize("name", ["{:05d}_{}.png", "{:05d}/{}.jpg", "{}_{}.webp", "flux/{:05d}/samples/{:05d}.png",
                                  "out/flux/{:05d}_{}.png", "out/flux/{}/{}.png"])  # fmt: skip
def test_geneval_is_found_flat_without_samples_and_below_folders_that_hold_everything(
    geneval: GenevalBenchmark, tmp_path: Path, name: str
) -> None:
    for number in range(4):
        for sample in range(2):
            save(tmp_path / "pictures" / name.format(number, sample), 60 * number + sample)
    found = find(geneval)
    for number, sample in enumerate(found):
        greys = [int(picture[0, 0, 0]) for picture in sample.pictures() if not isinstance(picture, MissingPicture)]
        assert greys == pytest.approx([60 * number, 60 * number + 1], abs=1)


def test_one_prompt_alone_is_not_taken_for_a_folder_that_holds_everything(
    geneval: GenevalBenchmark, tmp_path: Path
) -> None:
    folder(tmp_path, 2, "square")
    assert [len(set(names(sample)) - {"no such file"}) for sample in find(geneval)] == [0, 0, 2, 0]


def test_grids_below_a_folder_that_holds_everything_are_found(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    for name in ("7", "partiprompts3"):
        (tmp_path / f"prompts/{name}.txt").write_text(name)
        save(tmp_path / f"zipped/flux/{name}.png")
    benchmark = DpgBenchmark(prompts=str(tmp_path / "prompts"))
    items = [PromptItem(id=name, prompt=name) for name in ("7", "partiprompts3")]
    found = benchmark.find(PictureFolder(uri=str(tmp_path / "zipped")), items)
    assert [names(sample) for sample in found] == [["7.png"], ["partiprompts3.png"]]


def test_long_prompts_of_tiif_bench_have_folders_of_their_own(tmp_path: Path) -> None:
    items = [PromptItem(id=f"text/{n}", prompt=f"text {n}") for n in range(2)]
    files = [f"text/flux/{which}_description/{n}.png" for which in ("long", "short") for n in range(2)]
    for file in files:
        save(tmp_path / file)
    found = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_long, most=1)
    assert [names(sample) for sample in found] == [[file] for file in files[:2]]
    for left in ("text/flux/short_description", "text/flux", "text"):
        for place in (tmp_path / "text/flux/short_description").glob("*.png"):
            place.unlink()
        assert placed(tmp_path, items) == [["no such file"]] * 2, "long prompts are not taken for short ones"
        assert placed((tmp_path / left).parent, items) == [["no such file"]] * 2


def test_pictures_without_their_category_are_found_where_categories_share_one_numbering(tmp_path: Path) -> None:
    ids = ("Abstract/00000", "Food/00001", "Food/00002")
    items = [PromptItem(id=name, prompt=f"prompt {name}") for name in ids]
    for name in ("00000.png", "1_0.png", "Food/00002.png"):
        save(tmp_path / "shared" / name)
    assert placed(tmp_path / "shared", items) == [["00000.png"], ["1_0.png"], ["Food/00002.png"]]
    (tmp_path / "shared/00000.png").rename(tmp_path / "shared/00003.png")
    with pytest.raises(PictureError, match="expected pictures numbered from 00000"):
        placed(tmp_path / "shared", items)
    clash = [*items, PromptItem(id="Art/00001", prompt="another")]
    save(tmp_path / "clash/00001.png")
    assert placed(tmp_path / "clash", clash) == [["no such file"]] * 4


def test_a_stray_file_with_a_number_is_no_picture_of_geneval(geneval: GenevalBenchmark, tmp_path: Path) -> None:
    save(tmp_path / "pictures/cat/1.png")
    assert [set(names(sample)) for sample in find(geneval)] == [{"no such file"}] * 4


def test_pictures_in_a_form_that_is_not_decoded_are_gaps_with_their_own_reason(tmp_path: Path) -> None:
    items = [PromptItem(id=f"{n:05d}", prompt=f"prompt {n}") for n in range(3)]
    save(tmp_path / "00000.png")
    for name in ("00001.heic", "00002.JXL"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    found = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat, most=1)
    gaps = [one.reason for sample in found for one in sample.pictures() if isinstance(one, MissingPicture)]
    assert [gap.partition(": ")[2] for gap in gaps] == [
        f"expected a picture that Pillow decodes, found {ending}; convert it to .png" for ending in (".heic", ".jxl")
    ]


def test_numbers_with_more_zeros_than_those_of_the_benchmark_are_found(tmp_path: Path) -> None:
    items = [PromptItem(id=str(n), prompt=f"prompt {n}") for n in range(12)]
    for number in (0, 7, 11):
        save(tmp_path / f"{number:04d}/samples/00000.png")
    found = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat, most=1)
    assert [number for number, sample in enumerate(found) if names(sample) != ["no such file"]] == [0, 7, 11]


def test_ids_of_several_lengths_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    items = [PromptItem(id=str(n), prompt=f"prompt {n}") for n in range(12)]
    for number in range(1, 12):  # number 0 is a gap, and 10 is not beyond the last prompt
        save(tmp_path / f"{number}.png")
    found = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat, most=1)
    assert [number for number, sample in enumerate(found) if names(sample) == ["no such file"]] == [0]
    save(tmp_path / "12.png")
    with pytest.raises(PictureError, match="found none of that number, but 12, which is beyond the last prompt"):
        locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat, most=1)


def test_a_prompt_with_a_slash_is_found_by_the_name_that_a_file_can_have(tmp_path: Path) -> None:
    items = [PromptItem(id="x", prompt="a 1/2 inch pipe"), PromptItem(id="y", prompt="a cup")]
    save(tmp_path / "a 1_2 inch pipe_000000.png")
    found = locate(PictureFolder(uri=str(tmp_path)), items[:1], 1, layout=in_folders_or_flat, known=items)
    assert [names(sample) for sample in found] == [["a 1_2 inch pipe_000000.png"]]


@pytest.mark.parametrize(("name", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_ids_are_found_in_either_unicode_form(tmp_path: Path, name: str, other: str) -> None:
    texts = [unicodedata.normalize(name, text) for text in ("café/é1", "naïve")]
    items = [PromptItem(id=text, prompt=f"prompt of {n}") for n, text in enumerate(texts)]
    for text in texts:
        save(tmp_path / f"{unicodedata.normalize(other, text)}.png")
    found = locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat, most=1)
    assert [len(set(names(sample)) - {"no such file"}) for sample in found] == [1, 1]


def test_two_files_whose_names_differ_only_in_their_unicode_form_are_an_error_that_names_both(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        save(tmp_path / f"{unicodedata.normalize(form, 'café')}.png")
    items = [PromptItem(id="café", prompt="p"), PromptItem(id="x", prompt="q")]
    with pytest.raises(PictureError, match="expected one picture 0 of café"):
        locate(PictureFolder(uri=str(tmp_path)), items, 1, layout=in_folders_or_flat, most=1)


@pytest.mark.parametrize("form", ["{}.png", "{:04d}_0.webp", "{}/samples/0.png"])
def test_pictures_numbered_from_0_are_refused_where_prompts_begin_with_1(tmp_path: Path, form: str) -> None:
    items = [PromptItem(id=f"{number}", prompt=f"prompt {number}") for number in (1, 2, 3)]
    for number in range(3):
        save(tmp_path / "pictures" / form.format(number))
    with pytest.raises(PictureError, match=r"expected pictures numbered from 1, found 0, .* and not 3"):
        placed(tmp_path / "pictures", items)
    save(tmp_path / "pictures" / form.format(3))
    assert placed(tmp_path / "pictures", items) == [[form.format(number)] for number in (1, 2, 3)]


@pytest.mark.parametrize("tops", [("0", "1"), ("42",), ("00000", "00002")])
def test_folders_of_samples_are_not_taken_for_prompts(tmp_path: Path, tops: tuple[str, ...]) -> None:
    items = [PromptItem(id=f"{number:05d}", prompt=f"prompt {number}") for number in range(3)]
    for top in tops:
        for number in range(3):
            save(tmp_path / "pictures" / top / f"{number}.png")
    if len(tops) == 1:  # a folder that holds everything
        assert placed(tmp_path / "pictures", items) == [["0.png"], ["1.png"], ["2.png"]]
        return
    with pytest.raises(PictureError, match=r"found 2 folders \(first: 00000\) with a picture of each prompt"):
        placed(tmp_path / "pictures", items)


def test_a_folder_per_prompt_with_as_many_pictures_as_prompts_is_none_of_samples(tmp_path: Path) -> None:
    items = [PromptItem(id=f"{number:05d}", prompt=f"prompt {number}") for number in range(3)]
    for top in range(3):
        for number in range(3):
            save(tmp_path / "pictures" / f"{top:05d}/{number}.png")
    found = locate(PictureFolder(uri=str(tmp_path / "pictures")), items, 3, layout=in_folders_or_flat, most=3)
    assert [names(sample) for sample in found] == [[f"{top:05d}/{n}.png" for n in range(3)] for top in range(3)]


def test_numbers_within_categories_have_any_zeros_and_capitals(tmp_path: Path) -> None:
    ids = [f"{category}/{number:05d}" for category in ("anime", "photo") for number in range(2)]
    items = [PromptItem(id=name, prompt=f"prompt {name}") for name in ids]
    for name in ("anime/000.png", "anime/1.png", "Photo/0_0.png", "Photo/00001.png"):
        save(tmp_path / name)
    assert placed(tmp_path, items) == [["anime/000.png"], ["anime/1.png"], ["Photo/0_0.png"], ["Photo/00001.png"]]


def test_prompts_as_names_are_told_by_their_letters_and_digits(tmp_path: Path) -> None:
    prompts = ["a sign: open?", 'a "red" cup, half-full', "C++ code", "C code", "two dogs"]
    items = [PromptItem(id=f"{number:05d}", prompt=prompt) for number, prompt in enumerate(prompts)]
    for name in ("a_sign__open_.png", "1_A red cup half full.png", "Two Dogs_0.png"):
        save(tmp_path / name)
    found = placed(tmp_path, items)
    assert found[:2] == [["a_sign__open_.png"], ["1_A red cup half full.png"]]
    assert found[2:4] == [["no such file"]] * 2
    assert found[4] == ["Two Dogs_0.png"]
