"""Several data sets in one training: shares, order, captions, and the same batches from whatever step."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_rows import SCHEMA
from infinity.data.loading.batches import BatchPlan
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.data.loading.mixture import Mixture, SetConfig, ShareConfig, load_sets, whole_repeats
from infinity.data.loading.shuffle import OrderConfig
from infinity.data.loading.stored import ReadingConfig
from infinity.data.loading.stream import PixelLoader
from tests.fixtures.data.stored_sets import make_set


def two_sets(folder: Path, first: ShareConfig, second: ShareConfig) -> Manifest:
    """Nine pictures of two ratios, and twenty of two, one of which the first set has too."""
    a = make_set(str(folder / "a"), {0.5: 4, 1.0: 5}, validation=2)
    b = make_set(str(folder / "b"), {1.0: 12, 1.5: 8}, validation=1)
    return load_sets(a.uri, first, [SetConfig(manifest=b.uri, share=second)])


def visits(plan: BatchPlan, steps: int) -> Counter[int]:
    return Counter(row for step in range(steps) for row in plan.batch(step).rows)


@pytest.mark.parametrize(
    ("first", "second", "repeats"),
    [
        (ShareConfig(), ShareConfig(), (1, 1)),
        (ShareConfig(repeats=3), ShareConfig(), (3, 1)),
        (ShareConfig(repeats=0.5), ShareConfig(repeats=1.25), (2, 5)),
        (ShareConfig(weight=0.5), ShareConfig(weight=0.5), (11, 5)),
        (ShareConfig(weight=18), ShareConfig(weight=20), (2, 1)),
    ],
)
def test_each_picture_comes_as_often_as_its_set_asks_for(
    tmp_path: Path, first: ShareConfig, second: ShareConfig, repeats: tuple[int, int]
) -> None:
    data = two_sets(tmp_path, first, second)
    assert isinstance(data, Mixture)
    assert data.repeats == repeats
    plan = BatchPlan(data, "train", 1, seed=3)
    rounds = 2
    counts = visits(plan, rounds * plan.num_pictures)
    rows = data.rows("train")
    assert counts == dict(zip(rows.tolist(), (rounds * data.repeats_of(rows)).tolist(), strict=True))


def test_no_visit_of_a_picture_comes_twice(tmp_path: Path) -> None:
    plan = BatchPlan(two_sets(tmp_path, ShareConfig(repeats=3), ShareConfig()), "train", 2)
    seen = [pair for step in range(60) for pair in zip(plan.batch(step).rows, plan.batch(step).visits, strict=True)]
    assert len(set(seen)) == len(seen)


def test_a_training_that_begins_at_any_step_reads_the_same_batches(tmp_path: Path) -> None:
    shares = ShareConfig(weight=1, trigger="sks"), ShareConfig(weight=2)
    two_sets(tmp_path, *shares)
    uris = [storage.join(str(tmp_path / name), "manifest.parquet") for name in "ab"]

    def loaded(step: int, loader: PixelLoader, draw: CaptionDraw) -> list[object]:
        return [(each.ids, each.images.tobytes(), tuple(draw(each.ids.rows, each.ids.visits))) for each in loader(step)]

    def parts() -> tuple[PixelLoader, CaptionDraw]:
        fresh = load_sets(uris[0], shares[0], [SetConfig(manifest=uris[1], share=shares[1])])
        plan = BatchPlan(fresh, "train", 4, 7, OrderConfig(window_pictures=6))
        loader = PixelLoader(fresh, lambda step: [plan.batch(step)], lambda _: (16, 16), key=plan.key)
        return loader, CaptionDraw(fresh, CaptionConfig(), plan.key, len, 99)

    loader, draw = parts()
    with loader:
        whole = [loaded(step, loader, draw) for step in range(20)]
    for step in range(20):
        again, draw = parts()
        with again:
            assert loaded(step, again, draw) == whole[step]


def test_pictures_and_captions_are_those_of_their_sets(tmp_path: Path) -> None:
    dressed = ShareConfig(trigger="sks", template="{caption}, in oil")
    data = two_sets(tmp_path, ShareConfig(), dressed)
    a, b = (Manifest.load(storage.join(str(tmp_path / name), "manifest.parquet")) for name in "ab")
    assert len(data) == len(a) + len(b)
    for row in range(len(data)):
        own, inside = (a, row) if row < len(a) else (b, row - len(a))
        assert data.read_image(row) == own.read_image(inside)
        caption = own.captions([inside])[0]
        assert data.captions([row]) == [caption if own is a else f"sks, {caption}, in oil"]
        assert data.place(row) == own.place(inside)
    assert data.rows("validation").tolist() == [9, 10, len(a) + 20]
    names = data.values("source", range(len(data)))
    assert len(set(names)) == len(data)
    assert [data.column("source")[row].as_py() for row in (0, 12)] == [names[0], names[12]]
    draw = CaptionDraw(data, CaptionConfig(), 0, len, 99)
    assert draw((12,), (5,)) == draw.possible(12) == data.captions([12])


def test_shards_of_all_sets_are_cached(tmp_path: Path) -> None:
    data = two_sets(tmp_path, ShareConfig(), ShareConfig())
    plan = BatchPlan(data, "train", 4)
    reading = ReadingConfig(cache_folder=str(tmp_path / "cache"))
    with (
        PixelLoader(data, lambda step: [plan.batch(step)], lambda _: (16, 16), reading) as cached,
        PixelLoader(data, lambda step: [plan.batch(step)], lambda _: (16, 16)) as plain,
    ):
        for step in range(8):
            assert all(np.array_equal(x.images, y.images) for x, y in zip(cached(step), plain(step), strict=True))


def test_folders_with_repeats_come_as_often_as_their_names_say(tmp_path: Path) -> None:
    plain = make_set(str(tmp_path), {1.0: 9}, per_shard=4)
    names = [f"{folder}/{i}.png" for folder in ("3_cat", "2_dog", "plain", "deep/1_x") for i in range(3)][:9]
    table = plain.table.set_column(plain.table.schema.get_field_index("source"), "source", [names])
    named = Manifest(uri=str(tmp_path / "named.parquet"), head=plain.head, table=table.cast(SCHEMA))
    named.save()
    data = load_sets(named.uri, ShareConfig(folder_repeats=True), [])
    plan = BatchPlan(data, "train", 2)
    assert plan.num_pictures == 3 * 3 + 3 * 2 + 3
    assert visits(plan, plan.num_pictures) == {row: 2 * (3, 2, 1)[row // 3] for row in range(9)}
    other = SetConfig(manifest=plain.uri, share=ShareConfig(weight=1))
    both = load_sets(named.uri, ShareConfig(folder_repeats=True, weight=1), [other])
    assert isinstance(both, Mixture)
    assert both.repeats == (1, 2)  # 18 pictures with repeats, 9 without


def test_one_set_as_it_is_stays_the_manifest_and_trigger_words_move_no_order(tmp_path: Path) -> None:
    plain = make_set(str(tmp_path), {1.0: 9})
    assert type(load_sets(plain.uri, ShareConfig(repeats=7), [])) is Manifest
    with_trigger = load_sets(plain.uri, ShareConfig(trigger="sks"), [])
    assert with_trigger.digest == plain.digest
    one, other = (BatchPlan(each, "train", 2) for each in (plain, with_trigger))
    assert [one.batch(step) for step in range(20)] == [other.batch(step) for step in range(20)]


def test_shares_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one for each of 2 data sets or for none, got 1"):
        two_sets(tmp_path, ShareConfig(weight=1), ShareConfig())
    empty = make_set(str(tmp_path / "c"), {}, validation=2)
    with pytest.raises(ValueError, match="expected pictures in the split 'train', found none"):
        load_sets(empty.uri, ShareConfig(), [SetConfig(manifest=empty.uri)])
    with pytest.raises(ValueError, match=r"template: expected \{caption\} once"):
        ShareConfig(template="no place")
    with pytest.raises(ValueError, match="expected repeats and weight above 0"):
        ShareConfig(repeats=0)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.floats(1e-3, 1e3))
def test_whole_repeats_keep_proportions_of_small_whole_numbers(numbers: list[int], scale: float) -> None:
    found = whole_repeats([number * scale for number in numbers])
    assert [f / found[0] for f in found] == pytest.approx([n / numbers[0] for n in numbers], rel=0.025)
