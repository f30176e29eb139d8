"""Of several known pictures that a new one repeats, the one that explains it best is named, wherever it stands."""

import pytest
from PIL import Image, ImageEnhance

from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.near_duplicates import Fingerprints, similar_to_known, thumbnails_in
from tests.fixtures.data.drawn_sets import drawing
from tests.fixtures.data.facts_builder import facts_of
from tests.infinity.data.dedup.test_duplicates import facts_of_picture


def darker(picture: Image.Image, share: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.0 - share)


@pytest.mark.parametrize("place", range(4))
def test_the_best_of_several_known_pictures_is_named_wherever_it_stands(place: int) -> None:
    """Also the first of all, and although some of them are asked only where those before have failed."""
    known = [darker(drawing(0), 0.01 * number) for number in (1, 2, 3)]
    known.insert(place, drawing(0))
    rows = [facts_of_picture(picture, str(number)) for number, picture in enumerate([*known, drawing(0), drawing(7)])]
    facts = facts_of(rows)
    looks = Fingerprints.of(facts, thumbnails_in(facts))
    old, new = similar_to_known(looks, NearDuplicates(), len(known))
    assert (old.tolist(), new.tolist()) == ([place], [4])


def test_without_known_pictures_nothing_is_repeated() -> None:
    facts = facts_of([facts_of_picture(drawing(0), "a"), facts_of_picture(drawing(0), "b")])
    old, new = similar_to_known(Fingerprints.of(facts, thumbnails_in(facts)), NearDuplicates(), 0)
    assert len(old) == len(new) == 0


@pytest.mark.parametrize(("stretch", "near"), [(1.0, True), (1.05, True), (1.2, False), (2.5, False)])
def test_a_stretched_picture_is_another_one_although_its_thumbnail_is_the_same(stretch: float, near: bool) -> None:
    """A crop of 5 % along one axis changes the shape by as much; more no crop does."""
    picture = drawing(0)
    stretched = picture.resize((picture.width, round(picture.height * stretch)), Image.Resampling.LANCZOS)
    facts = facts_of([facts_of_picture(picture, "a"), facts_of_picture(stretched, "b")])
    old, _ = similar_to_known(Fingerprints.of(facts, thumbnails_in(facts)), NearDuplicates(), 1)
    assert (len(old) == 1) == near
