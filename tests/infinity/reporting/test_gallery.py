"""The page of a data set: pictures of every aspect ratio, counts in reading order, reasons, and hostile texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.reporting.gallery import funnel, gallery
from tests.fixtures.data.small_world import write_data
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest.load(write_data(tmp_path, num_train=6, num_validation=6))


def test_every_ratio_has_its_pictures_with_source_and_caption(manifest: Manifest) -> None:
    html = gallery(manifest)
    texts = check_page(html, num_scripts=0)
    assert "12 pictures" in texts
    assert "Height / width 1.000: 8 pictures" in texts
    assert "Height / width 2.000: 4 pictures" in texts
    assert html.count("data:image/png;base64,") == 12
    for row in range(12):
        assert f"picture-{row}.png: waves number {row}" in texts


def test_at_most_so_many_pictures_per_ratio_are_shown_and_another_seed_shows_others(manifest: Manifest) -> None:
    one, same, other = (gallery(manifest, per_ratio=2, seed=seed) for seed in (0, 0, 3))
    assert one == same
    assert one != other
    assert one.count("data:image/png;base64,") == 4
    assert "Height / width 1.000: 8 pictures" in check_page(one, num_scripts=0)


def test_examples_of_the_manifest_are_shown_where_no_table_of_dropped_rows_is(manifest: Manifest) -> None:
    head = manifest.head.replace(examples={"small_side": (HOSTILE, "tiny.png")})
    texts = check_page(gallery(Manifest(uri=HOSTILE, head=head, table=manifest.table), per_ratio=0), num_scripts=0)
    assert "Dropped: small_side" in texts
    assert "tiny.png" in texts
    assert texts.count(squeezed(HOSTILE)) == 2


def test_a_shard_that_was_changed_is_an_error_not_a_wrong_picture(manifest: Manifest, tmp_path: Path) -> None:
    data = (tmp_path / "shard.bin").read_bytes()
    (tmp_path / "shard.bin").write_bytes(data[:-40])
    with pytest.raises(ManifestError):
        gallery(manifest)


@given(
    st.dictionaries(st.sampled_from(["read", "kept", "unreadable", "dropped_a", "dropped_b"]), st.integers(0, 10**9))
)
def test_the_funnel_begins_with_all_ends_with_the_kept_and_falls_between(counts: dict[str, int]) -> None:
    rows = funnel(counts)
    assert rows[0] == ("read", counts.get("read", 0))
    assert rows[-1] == ("kept", counts.get("kept", 0))
    between = [number for _, number in rows[1:-1]]
    assert between == sorted(between, reverse=True)
    assert dict(rows) == {"read": 0, "kept": 0} | counts
