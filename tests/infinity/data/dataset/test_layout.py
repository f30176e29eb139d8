"""The global steps: no leak between the splits, every picture in exactly one shard."""

import hashlib
import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.curation.facts import FACTS
from infinity.data.dataset.dealing import ShardLimits, choose_validation, cut_evenly, sample_keys, shard_sizes
from infinity.data.dataset.layout import ShardPlan, plan_shards
from infinity.data.dedup.checksums import as_rows
from infinity.scales import ASPECT_RATIOS, nearest_aspect_ratio


def candidates(
    contents: list[int], captions: list[str] | None = None, sizes: list[tuple[int, int]] | None = None
) -> pa.Table:
    """Candidates whose pixels are equal where ``contents`` are."""
    rows = [
        {
            "row": 10 * index,
            "name": f"{index}.png",
            "caption": captions[index] if captions else "a",
            "width_px": sizes[index][1] if sizes else 64,
            "height_px": sizes[index][0] if sizes else 64,
            "extension": "png",
            "keep_bytes": True,
            "content": hashlib.sha256(str(content).encode()).digest(),
            "num_bytes": 100,
            "pixels": hashlib.sha256(str(content).encode()).digest(),
        }
        for index, content in enumerate(contents)
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=200, unique=True), st.floats(0, 0.9), st.integers(0, 9))
def test_exactly_the_wanted_share_is_set_aside(contents: list[int], share: float, seed: int) -> None:
    pixels = as_rows(candidates(contents)["pixels"])
    chosen = choose_validation(pixels, share, seed)
    assert chosen.sum() == (min(max(1, round(share * len(contents))), len(contents) - 1) if share > 0 else 0)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0, 0.9))
def test_equal_pictures_never_lie_in_both_splits(contents: list[int], share: float) -> None:
    chosen = choose_validation(as_rows(candidates(contents)["pixels"]), share, 0)
    values = np.array(contents)
    assert not set(values[chosen]) & set(values[~chosen])
    assert not chosen.all()


@settings(max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.floats(0, 0.9), st.integers(0, 9))
def test_pictures_are_set_aside_in_the_order_of_a_hash(contents: list[int], share: float, seed: int) -> None:
    column = candidates(contents)["pixels"]
    pixels = column.to_pylist()
    wanted = min(max(1, round(share * len(pixels))), len(pixels) - 1) if share > 0 else 0
    chosen = set()
    for value in sorted(set(pixels), key=lambda value: hashlib.sha256(f"{seed}:".encode() + value).digest()):
        if (number := pixels.count(value)) <= wanted:
            chosen.add(value)
            wanted -= number
    found = choose_validation(as_rows(column), share, seed)
    assert found.tolist() == [value in chosen for value in pixels]


def test_another_seed_sets_other_pictures_aside_and_order_does_not_matter() -> None:
    pixels = as_rows(candidates(list(range(100)))["pixels"])
    first = choose_validation(pixels, 0.1, 0)
    assert (first != choose_validation(pixels, 0.1, 1)).any()
    assert (choose_validation(pixels[::-1], 0.1, 0)[::-1] == first).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(32, 300), st.integers(32, 300)), min_size=1, max_size=60), st.integers(1, 7))
def test_every_picture_lies_in_one_shard_of_its_ratio_in_source_order(sizes: list[tuple[int, int]], most: int) -> None:
    table = candidates(list(range(len(sizes))), sizes=sizes)
    planned = plan_shards(
        table,
        aspect_ratios=ASPECT_RATIOS,
        validation_share=0.2,
        limits=ShardLimits(samples=most, num_bytes=10**9),
        seed=0,
    )
    plans = list(planned.new())
    assert len(plans) == len(list(planned)) == planned.num_new
    rows = [row for plan in plans for row in plan.samples["row"].to_pylist()]
    assert sorted(rows) == table["row"].to_pylist()
    assert len({plan.digest for plan in plans}) == len(plans)
    for plan in plans:
        assert 1 <= plan.samples.num_rows <= most
        assert plan.samples["row"].to_pylist() == sorted(plan.samples["row"].to_pylist())
        for sample in plan.samples.to_pylist():
            assert nearest_aspect_ratio(sample["height_px"], sample["width_px"]) == plan.aspect_ratio


@pytest.mark.parametrize("ratios", [(1.0,), (0.5, 1.0)])
def test_only_the_wanted_ratios_are_used(ratios: tuple[float, ...]) -> None:
    table = candidates([1, 2], sizes=[(64, 128), (128, 64)])
    plans = plan_shards(
        table, aspect_ratios=ratios, validation_share=0, limits=ShardLimits(samples=9, num_bytes=10**9), seed=0
    )
    assert {plan.aspect_ratio for plan in plans if isinstance(plan, ShardPlan)} == set(ratios)


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 1000) | st.integers(1, 10**7), min_size=1, max_size=300),
    st.integers(1, 40),
    st.integers(100, 10**7),
)
def test_shards_keep_their_limits_and_hold_all_in_order(sizes: list[int], samples: int, num_bytes: int) -> None:
    limits = ShardLimits(samples=samples, num_bytes=num_bytes)
    shards = cut_evenly(np.array(sizes), limits)
    assert shards[0] == 0
    assert set(np.diff(shards).tolist()) <= {0, 1}
    for shard in range(shards[-1] + 1):
        inside = np.array(sizes)[shards == shard]
        assert len(inside) <= samples
        assert inside.sum() <= num_bytes or len(inside) == 1


def test_one_shard_more_is_tried_until_all_fit() -> None:
    """Two shards would do for the bytes alone, but one of them would have two of three equal pictures."""
    assert cut_evenly(np.array([6, 6, 6]), ShardLimits(samples=10, num_bytes=10)).tolist() == [0, 1, 2]
    assert cut_evenly(np.full(60, 6), ShardLimits(samples=100, num_bytes=10)).tolist() == list(range(60))
    assert cut_evenly(np.array([5, 5, 5, 5]), ShardLimits(samples=10, num_bytes=10)).tolist() == [0, 0, 1, 1]
    assert cut_evenly(np.zeros(0, int), ShardLimits(samples=10, num_bytes=100)).tolist() == []


def test_shards_are_about_equally_large_by_count_and_by_bytes() -> None:
    random = np.random.default_rng(0)
    limits = ShardLimits(samples=512, num_bytes=10**12)
    counts = np.bincount(cut_evenly(np.full(1025, 1000), limits))
    assert sorted(counts.tolist()) == [341, 342, 342]  # not 512, 512 and 1
    sizes = random.lognormal(11, 0.6, 20_000).astype(np.int64)
    shards = cut_evenly(sizes, limits)
    for part in (np.bincount(shards), np.bincount(shards, sizes)):
        assert part.max() / part.min() < 1.25


def test_keys_do_not_depend_on_the_place_in_the_source() -> None:
    table = candidates([1, 2, 3, 1], captions=["a", "b", "c", "a"])
    keys = sample_keys(table).to_pylist()
    assert len(set(keys)) == 4
    assert keys[3] == f"{keys[0]}-1"
    assert sample_keys(table.slice(1, 2)).to_pylist() == keys[1:3]
    assert sample_keys(candidates([1], captions=["other"])).to_pylist() != keys[:1]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=40))
def test_every_repetition_gets_the_next_number(samples: list[tuple[int, str]]) -> None:
    table = candidates([content for content, _ in samples], captions=[caption for _, caption in samples])
    seen: Counter[tuple[int, str]] = Counter()
    for sample, key in zip(samples, sample_keys(table).to_pylist(), strict=True):
        assert key[20:] == (f"-{seen[sample]}" if seen[sample] else "")
        seen[sample] += 1


def test_a_plan_holds_no_more_than_its_own_samples() -> None:
    contents = list(range(1000))
    planned = plan_shards(
        candidates(contents),
        aspect_ratios=(1.0,),
        validation_share=0.05,
        limits=ShardLimits(samples=20, num_bytes=10**9),
        seed=0,
    )
    for plan in planned.new():
        assert plan.samples.num_rows <= 20
        assert len(pickle.dumps(plan)) < 30_000  # a part of a table would take all 1,000 along


def test_shards_are_cut_alike_wherever_the_samples_are_cut_into_pieces() -> None:
    random = np.random.default_rng(0)
    for total, samples, num_bytes in ((1, 9, 9), (3000, 64, 10**7), (3000, 500, 40_000), (500, 500, 1)):
        sizes = random.lognormal(8, 1.2, total).astype(np.int64)
        limits = ShardLimits(samples=samples, num_bytes=num_bytes)
        whole = cut_evenly(sizes, limits)
        for number in (1, 3, 40):
            pieces = np.split(sizes, np.sort(random.integers(0, total + 1, number)))
            found = shard_sizes(lambda pieces=pieces: iter(pieces), total, limits)
            assert np.repeat(np.arange(len(found)), found).tolist() == whole.tolist()


def test_the_digest_of_a_shard_is_the_one_of_every_version_also_for_captions_of_any_script() -> None:
    """Shards are named by it: another digest would write finished data sets anew."""
    table = candidates([1, 2], captions=["ein Kätzchen", "猫 🐈"])
    limits = ShardLimits(samples=10, num_bytes=10**9)
    planned = plan_shards(table, aspect_ratios=ASPECT_RATIOS, validation_share=0.0, limits=limits, seed=0)
    assert [plan.digest for plan in planned.new()] == ["a620af61da6daee9"]
