"""Near duplicates: planted copies are found, other pictures stay, and neither order nor partition matters."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity.data.curation.decisions import decide
from infinity.data.curation.filters import FilterConfig
from infinity.data.dedup import duplicates
from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
from infinity.data.dedup.duplicates import near_duplicates, preference
from infinity.data.dedup.hamming import Pairs, _Bands, _by_bands, near_pairs
from infinity.data.images.fingerprint import measure_fingerprint
from tests.fixtures.data.drawn_sets import cropped, drawing, encoded_again, resized
from tests.fixtures.data.facts_builder import facts_of

COPIES = {"encoded": encoded_again, "resized": resized, "cropped": cropped}


def facts_of_picture(image: Image.Image, name: str, **more: Any) -> dict[str, Any]:
    likeness = measure_fingerprint(image)
    return {
        "name": name,
        "width_px": image.width,
        "height_px": image.height,
        "phash": likeness.phash,
        "thumbnail": likeness.thumbnail.tobytes(),
        "contrast": likeness.contrast,
        **more,
    }


def planted(count: int) -> pa.Table:
    """Half of the rows are drawings, a sixth each are copies of every kind."""
    rows, random = [], np.random.default_rng(0)
    for index in range(count // 2):
        rows.append(facts_of_picture(drawing(index), f"{index}"))
    for index in range(count - count // 2):
        kind = list(COPIES)[index % 3]
        original = int(random.integers(count // 2))
        rows.append(facts_of_picture(COPIES[kind](drawing(original), random), f"{original} {kind} {index}"))
    return facts_of(rows)


def fates(facts: pa.Table, partitions: int = 1) -> dict[str, str]:
    """Which is dropped because of which, by name."""
    names = facts["name"].to_pylist()
    return {
        names[match.index]: match.detail.removeprefix("nearly ")
        for match in near_duplicates(facts, NearDuplicates(), partitions)
    }


@pytest.fixture(scope="module")
def planted_rows(exhaustive: bool) -> pa.Table:
    return planted(20_000 if exhaustive else 400)


def test_planted_copies_are_found_and_nothing_else_is_merged(planted_rows: pa.Table) -> None:
    dropped = fates(planted_rows)
    false = {name: kept for name, kept in dropped.items() if name.split()[0] != kept.split()[0]}
    assert len(false) <= 1e-4 * planted_rows.num_rows
    survivors = [name for name in planted_rows["name"].to_pylist() if name not in dropped]
    first: dict[str, str] = {}
    for name in sorted(survivors, key=lambda name: ("cropped" in name, "encoded" in name, name)):
        first.setdefault(name.split()[0], name)
    left_over = [name for name in survivors if first[name.split()[0]] != name]
    for kind, allowed in (("encoded", 0.0), ("resized", 0.0), ("cropped", 0.05)):
        total = sum(kind in name for name in planted_rows["name"].to_pylist())
        missed = [name for name in left_over if kind in name]
        assert len(missed) <= allowed * total, (kind, missed[:5])


def test_survivors_do_not_depend_on_order_or_partition(planted_rows: pa.Table) -> None:
    facts = planted_rows.slice(0, 200)
    facts = pa.concat_tables([facts, planted_rows.slice(planted_rows.num_rows - 200)])
    expected = fates(facts)
    assert expected
    for partitions in (1, 2, 8):
        order = np.random.default_rng(partitions).permutation(facts.num_rows)
        assert fates(facts.take(pa.array(order)), partitions) == expected


def test_blocks_drop_what_a_comparison_of_all_pairs_drops(
    planted_rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = pa.concat_tables([planted_rows.slice(0, 100), planted_rows.slice(planted_rows.num_rows - 100)])
    found = []
    for first_block in (8, 64, 1000):
        monkeypatch.setattr(duplicates, "_FIRST_BLOCK", first_block)
        found.append(set(fates(facts)))
    assert found[0] == found[1] == found[2] != set()


@settings(max_examples=30)
@given(st.integers(0, 16), st.integers(0, 2**32 - 1), st.integers(0, 150), st.sampled_from([1, 2, 8]))
def test_every_pair_within_the_distance_is_found(distance: int, seed: int, count: int, partitions: int) -> None:
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    for index in range(1, count, 2):  # a neighbour of the one before, at most 20 bits away
        flips = random.choice(64, int(random.integers(0, 21)), replace=False)
        hashes[index] = hashes[index - 1] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    left, right = np.triu_indices(count, 1)
    near = np.bitwise_count(hashes[left] ^ hashes[right]) <= distance
    expected = list(zip(left[near].tolist(), right[near].tolist(), strict=True))
    assert pairs_of(near_pairs(hashes, distance, partitions=partitions)) == expected
    known = count // 3
    across = [(i, j) for i, j in expected if i < known <= j]
    assert known == 0 or pairs_of(near_pairs(hashes, distance, between=known, partitions=partitions)) == across
    bands = _Bands.of(distance + 2, distance)
    found = (piece for chosen in bands.choices() for piece in _by_bands(hashes, bands, chosen, known, 0, 1))
    assert pairs_of(found) == (across if known else expected)


def pairs_of(pieces: Iterable[Pairs]) -> list[tuple[int, int]]:
    """All pairs in order; one that came twice is twice there."""
    return sorted(pair for i, j in pieces for pair in zip(i.tolist(), j.tolist(), strict=True))


def test_no_chain_of_likenesses_joins_what_is_unlike() -> None:
    """Ten steps of colour, each too small to see: every dropped one is near one that stays."""
    steps = [np.full((64, 64, 3), 100, np.uint8) for _ in range(10)]
    for index, step in enumerate(steps):
        step[16:48, 16:48] = (60 + 14 * index, 40, 40)
    facts = facts_of([facts_of_picture(Image.fromarray(step), str(index)) for index, step in enumerate(steps)])
    dropped = fates(facts)
    assert 0 < len(dropped) < 9
    assert all(abs(int(name) - int(kept)) == 1 for name, kept in dropped.items())
    assert not set(dropped.values()) & set(dropped)


def test_other_colours_are_other_pictures() -> None:
    shapes = []
    for color in ("red", "green", "blue", "black"):
        image = Image.new("RGB", (128, 128), "white")
        image.paste(color, (40, 40, 90, 90))
        shapes.append(facts_of_picture(image, color))
    assert not fates(facts_of(shapes))


def test_larger_and_then_better_copies_are_preferred() -> None:
    rows = [{"width_px": 64}, {"width_px": 128}, {"num_bytes": 5000}, {"caption": "a longer caption of it"}]
    assert preference(facts_of(rows)).tolist() == [1, 2, 3, 0]


def test_near_duplicates_are_dropped_with_their_reason_only_where_asked_for() -> None:
    image = drawing(1)
    copy = image.resize((image.width // 2, image.height // 2))
    facts = facts_of([facts_of_picture(copy, "small"), facts_of_picture(image, "large")])
    assert decide(facts, FilterConfig()).kept.num_rows == 2
    decisions = decide(facts, FilterConfig(near_duplicates=NearDuplicates()))
    assert decisions.kept["name"].to_pylist() == ["large"]
    assert decisions.dropped["reason"].to_pylist() == ["near_duplicate"]
    assert decisions.dropped["detail"].to_pylist() == ["nearly large"]
    listed = {rule.reason: rule.setting for rule in decisions.rules}
    assert listed["near_duplicate"] == "hash at most 12 bits, colours at most 18 levels"


def test_repeated_captions_are_dropped_for_the_same_picture_or_anywhere() -> None:
    long = "two dogs run along a wide sandy beach while the sun sets behind the hills"
    rows = [
        {"caption": long + " far away", "pixels": bytes(32)},
        {"caption": long, "pixels": bytes(32)},
        {"caption": long.upper() + " far away!", "pixels": b"1" * 32},
        {"caption": "a red apple", "pixels": bytes(32)},
    ]
    keep_pictures = FilterConfig(duplicates="keep")

    def kept(scope: str) -> list[int]:
        alike = CaptionDuplicates(scope=scope)  # type: ignore[arg-type]
        return decide(facts_of(rows), keep_pictures.replace(caption_duplicates=alike)).kept["row"].to_pylist()

    assert kept("picture") == [0, 2, 3]
    assert kept("anywhere") == [2, 3]
