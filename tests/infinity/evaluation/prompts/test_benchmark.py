"""Items with their pictures: what is read, what is missing and why, and digests that follow what a verdict needs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infinity.evaluation.pictures.store import Drawing, PictureError, PictureStore
from infinity.evaluation.prompts.benchmark import (
    JudgedPrompts,
    MissingPicture,
    PictureFolder,
    PicturePlace,
    PromptItem,
    PromptSample,
    complete,
    described,
    drawings,
    in_store,
    judge_each,
    judge_pictures,
    note_of_missing,
    split_missing,
    spread,
)
from infinity.evaluation.score import join_notes
from infinity.generation.sampling import SamplingConfig

ITEM = PromptItem(id="7", prompt="a red cube", about={"words": ["red"]})
PICTURE = np.full((4, 6, 3), 200, np.uint8)


def place_in(folder: Path, name: str = "a.png", size: tuple[int, int] = (4, 6)) -> PicturePlace:
    Image.fromarray(np.full((*size, 3), 200, np.uint8)).save(folder / name)
    return PicturePlace(uri=str(folder / name), name=name, version="1")


def sample_of(*places: PicturePlace | MissingPicture, **changes: Any) -> PromptSample:
    return PromptSample(item=ITEM, drawn=ITEM.prompt, places=places, **changes)


def test_pictures_are_read_in_order_and_an_absent_one_keeps_its_reason(tmp_path: Path) -> None:
    gap = MissingPicture("no file 7_1.png")
    first, second, third = sample_of(place_in(tmp_path), gap, place_in(tmp_path, "b.png", (2, 3))).pictures()
    assert second is gap
    np.testing.assert_array_equal(first, PICTURE)
    assert isinstance(third, np.ndarray)
    assert third.shape == (2, 3, 3)


def test_a_damaged_file_is_a_gap_of_another_models_pictures_and_an_error_among_ours(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    Path(place.uri).write_bytes(b"no picture")
    (found,) = sample_of(place).pictures()
    assert isinstance(found, MissingPicture)
    assert "damaged file" in found.reason
    with pytest.raises(PictureError, match="damaged file"):
        sample_of(place, must_be_there=True).pictures()


def test_a_picture_of_another_size_than_promised_is_a_gap_with_both_sizes(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    assert isinstance(sample_of(place, size_px=(4, 6)).pictures()[0], np.ndarray)
    (found,) = sample_of(place, size_px=(6, 4)).pictures()
    assert found == MissingPicture("expected 6x4 pixels (rows x columns), found 4x6")


def test_a_digest_follows_all_that_a_verdict_depends_on_and_not_where_files_lie() -> None:
    place = PicturePlace(uri="/here/a.png", name="a.png", version="1")
    plain = sample_of(place)
    others = [
        replace(plain, item=replace(ITEM, id="8")),
        replace(plain, item=replace(ITEM, prompt="a red ball")),
        replace(plain, item=replace(ITEM, about={"words": ["cube"]})),
        replace(plain, drawn="a shiny red cube"),
        replace(plain, size_px=(4, 6)),
        sample_of(replace(place, version="2")),
        sample_of(place, place),
        sample_of(MissingPicture("absent")),
        sample_of(),
    ]
    assert len({each.digest() for each in (plain, *others)}) == 1 + len(others)
    assert sample_of(replace(place, uri="s3://there/b.png", name="b.png")).digest() == plain.digest()


def test_drawings_of_a_text_count_their_seeds_up_and_lie_where_the_store_says(tmp_path: Path) -> None:
    wanted = drawings("a shiny red cube", 3, seed=5)
    assert [(each.prompt, each.seed) for each in wanted] == [("a shiny red cube", seed) for seed in (5, 6, 7)]
    store = PictureStore(str(tmp_path), "ab" * 32, SamplingConfig(), "cpu")
    sample = in_store(store, ITEM, "a shiny red cube", wanted)
    with pytest.raises(PictureError, match="run the evaluation again to draw it"):
        sample.pictures()
    for drawing in wanted:
        store.write(drawing, PICTURE)
    for found in sample.pictures():
        np.testing.assert_array_equal(found, PICTURE)
    assert [place.uri for place in sample.places if isinstance(place, PicturePlace)] == list(map(store.uri, wanted))
    assert store.key(Drawing("a shiny red cube", 5)) == sample.places[0].version  # type: ignore[union-attr]


@given(st.integers(0, 60), st.one_of(st.none(), st.integers(1, 80)))
def test_a_part_is_spread_over_all_in_order_without_repeats(total: int, size: int | None) -> None:
    items = list(range(total))
    part = spread(items, size)
    assert len(part) == (total if size is None else min(size, total))
    assert list(part) == sorted(set(part))
    if len(part) > 1:
        steps = np.diff(part)
        assert steps.max() - steps.min() <= 1
    assert not part or part[0] == 0


def test_an_item_is_complete_where_all_its_pictures_can_be_judged_and_there_are_enough() -> None:
    gap, other = MissingPicture("first"), MissingPicture("second")
    assert complete([PICTURE, gap, other]) == "first"
    assert complete([]) == "no picture"
    assert complete([PICTURE], least=2) == "fewer than 2 pictures"
    assert complete([PICTURE, PICTURE], least=2) == [PICTURE, PICTURE]
    usable, reasons = split_missing([gap, PICTURE, other])
    assert (len(usable), reasons) == (1, ["first", "second"])


def test_a_score_over_fewer_than_all_says_how_many_and_gives_the_first_reason() -> None:
    note = note_of_missing(["7: no picture", "8: no picture"], 9, "prompts")
    assert note == "INCOMPLETE: 2 of 9 prompts could not be scored and are in no mean (first: 7: no picture)"
    assert note_of_missing([], 9, "prompts") == ""
    assert join_notes("", "a", "", "b") == "a; b"


def test_a_judge_of_single_items_leaves_out_those_with_a_missing_picture() -> None:
    judge = judge_each(lambda sample, pictures: {"found": [sample.item.id, len(pictures)]}, least=2)
    whole, gap = [PICTURE, PICTURE], [PICTURE, MissingPicture("damaged")]
    found = judge([sample_of()] * 3, [whole, gap, [PICTURE]])
    assert found == [{"found": ["7", 2]}, {"missing": "damaged"}, {"missing": "fewer than 2 pictures"}]


@given(st.lists(st.one_of(st.none(), st.integers(1, 4)), max_size=6))
def test_a_judge_of_all_pictures_gives_every_item_its_own_values_in_order(sizes: list[int | None]) -> None:
    numbers = itertools.count()
    pictures = [
        [MissingPicture("gone")] if size is None else [np.full((1, 1, 3), next(numbers), np.uint8) for _ in range(size)]
        for size in sizes
    ]
    judge = judge_pictures("values", lambda found, prompts: [int(picture[0, 0, 0]) for picture in found])
    records = judge([sample_of()] * len(sizes), pictures)
    assert [record.get("missing") for record in records] == ["gone" if size is None else None for size in sizes]
    assert [len(record.get("values", ())) for record in records] == [size or 0 for size in sizes]
    assert [value for record in records for value in record.get("values", ())] == list(range(next(numbers)))


def test_a_network_that_loses_a_picture_is_noticed() -> None:
    with pytest.raises(AssertionError):
        judge_pictures("values", lambda found, prompts: [0.0])([sample_of()], [[PICTURE, PICTURE]])


def test_lines_and_the_note_of_missing_items_follow_from_the_records() -> None:
    results = JudgedPrompts(samples=(sample_of(), sample_of()), records=({"scores": [1.0]}, {"missing": "damaged"}))
    assert results.lines()[0] == {"id": "7", "prompt": "a red cube", "scores": [1.0]}
    assert results.missing_note().endswith("1 of 2 prompts could not be scored and are in no mean (first: 7: damaged)")
    assert JudgedPrompts(samples=(), records=()).missing_note() == ""


def test_a_line_names_the_drawn_text_only_where_it_differs() -> None:
    assert described(sample_of()) == {"id": "7", "prompt": "a red cube"}
    assert described(replace(sample_of(), drawn="a ruby")) == {"id": "7", "prompt": "a red cube", "drawn": "a ruby"}


def test_a_folder_from_elsewhere_is_known_by_its_pictures_and_what_assigns_them(tmp_path: Path) -> None:
    folder = PictureFolder(uri=str(tmp_path))
    with pytest.raises(PictureError, match="expected a folder of pictures, found no files"):
        folder.content()
    place_in(tmp_path)
    content = folder.content()
    (tmp_path / "notes.txt").write_text("beside")
    assert folder.content() == content
    (tmp_path / "metadata.jsonl").write_text("{}")
    assigned = folder.content()
    assert assigned != content
    place_in(tmp_path, "b.png")
    assert folder.content() not in (content, assigned)


def test_whose_pictures_they_are_is_told_by_the_folder_or_else_by_the_evaluation() -> None:
    named = PictureFolder(uri="/pictures/flux/", name="FLUX.1")
    assert named.origin("other", "0123") == "pictures of FLUX.1, drawn elsewhere: flux (digest 0123)"
    assert named.replace(name="").origin("other", "0123") == "pictures of other, drawn elsewhere: flux (digest 0123)"
    assert named.replace(name="").origin("", "0123") == "pictures drawn elsewhere: flux (digest 0123)"
    assert named.replace(name="").digest() == PictureFolder(uri="/pictures/flux/").digest()
