"""What all benchmarks share: which rows they read, in which batches, and under which names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.benchmark import EvalContext, EvalTarget, batches, magnification, picture_ids, spread
from tests.fixtures.data.small_world import eval_target
from tests.fixtures.data.stored_sets import make_set


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Twelve squares and seven wide pictures to train on, and five to validate with."""
    return make_set(str(tmp_path_factory.mktemp("set")), {1.0: 12, 0.5: 7}, validation=5)


@pytest.mark.parametrize("number", [1, 2, 5, 18, 19, 20, None])
def test_rows_are_of_the_split_each_once_in_order_and_evenly_spread(manifest: Manifest, number: int | None) -> None:
    rows = spread(manifest, "train", number)
    whole = [int(row) for row in manifest.rows("train")]
    assert len(rows) == min(number or len(whole), len(whole))
    assert list(rows) == sorted(set(rows))
    assert set(rows) <= set(whole)
    gaps = np.diff([*(whole.index(row) for row in rows), len(whole)])
    assert gaps.max() - gaps.min() <= 1


def test_an_empty_split_says_what_to_ask_for(tmp_path: Path) -> None:
    empty = make_set(str(tmp_path), {1.0: 3})
    with pytest.raises(
        ValueError, match=r"split 'validation', found none.*the split 'train' \(3 pictures\) on purpose"
    ):
        spread(empty, "validation", 2)


@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_batches_hold_every_row_once_and_one_ratio_each(manifest: Manifest, size: int) -> None:
    rows = spread(manifest, "train", None)
    found = batches(manifest, rows, size)
    assert Counter(row for batch in found for row in batch.rows) == Counter(rows)
    for batch in found:
        assert 1 <= len(batch.rows) <= size
        assert {manifest.aspect_ratios[row] for row in batch.rows} == {batch.aspect_ratio}
        assert list(batch.rows) == sorted(batch.rows)
    short = Counter(batch.aspect_ratio for batch in found if len(batch.rows) < size)
    assert max(short.values(), default=0) <= 1, "only the last batch of a ratio is not full"


def test_ids_are_those_of_the_content_whichever_rows_are_asked_for(manifest: Manifest) -> None:
    rows = list(range(len(manifest)))
    ids = dict(zip(rows, picture_ids(manifest, rows), strict=True))
    assert len(set(ids.values())) == len(rows)
    digests = manifest.column("sha256").to_pylist()
    assert all(ids[row] == digests[row][:16] for row in rows)
    some = [7, 3, 20]
    assert picture_ids(manifest, some) == tuple(ids[row] for row in some)
    assert picture_ids(manifest, []) == ()


@pytest.mark.parametrize(("height", "width", "factor"), [(8, 8, 12), (96, 2, 1), (97, 97, 1), (32, 16, 3), (1, 1, 96)])
def test_small_pictures_are_enlarged_to_about_96_pixels_and_large_ones_are_not_touched(
    height: int, width: int, factor: int
) -> None:
    assert magnification(np.zeros((height, width, 3), np.uint8)) == factor


def test_a_worker_loads_what_a_target_names_once(tmp_path: Path) -> None:
    calls: list[EvalTarget] = []

    def load(target: EvalTarget) -> list[int]:
        calls.append(target)
        return [len(calls)]

    context = EvalContext(eval_target(str(tmp_path / "model"), str(tmp_path / "manifest")))
    assert context.once(load) is context.once(load)
    assert calls == [context.target]
