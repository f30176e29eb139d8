"""Shards planned in parts are those planned from one table: same samples, same keys, same digests, same order."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infinity.data.curation.facts import SMALL_FACTS
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.partitioned.buckets import write_rows
from infinity.data.curation.partitioned.workspace import Workspace
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.dealing import ShardLimits
from infinity.data.dataset.layout import plan_shards
from infinity.jobs.dataset.large.planning import PartedPlans, PlanConfig, plan_partitioned
from infinity.scales import ASPECT_RATIOS
from tests.fixtures.data.facts_builder import facts_of

RATIOS = tuple(sorted(set(ASPECT_RATIOS)))


def kept_rows(number: int) -> pa.Table:
    """Pictures of many shapes; some come several times, with the same caption and with others."""
    random = np.random.default_rng(number)
    rows: list[dict[str, Any]] = []
    for row in range(number):
        width, height = (int(side) for side in random.integers(64, 400, 2))
        given = {"row": 3 * row, "width_px": width, "height_px": height, "num_bytes": int(random.integers(500, 90_000))}
        if row % 9 == 8:
            other = int(random.integers(row))
            given = {**rows[other], "row": 3 * row, "content": bytes(31) + bytes([other % 5]), "caption": "again"}
            given |= {"pixels": given["content"]}
        rows.append(given)
    return facts_of(rows).select(SMALL_FACTS)


def planned(kept: pa.Table, folder: Path, chunk_rows: int, partitions: int, config: PlanConfig) -> PartedPlans:
    pieces = [kept.slice(at, chunk_rows) for at in range(0, kept.num_rows, chunk_rows)]
    work = Workspace(
        folder=str(folder / "plan"),
        first_rows=tuple(piece["row"][0].as_py() for piece in pieces),
        num_partitions=partitions,
        filters=FilterConfig(),
        takedown=TakedownList(),
    )
    uris = []
    for number, piece in enumerate(pieces):
        uris.append(str(folder / f"kept-{number}.parquet"))
        write_rows(uris[-1], piece)

    def stage(function: Callable[..., dict[str, Any]], calls: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        return [function(*call) for call in calls]

    return plan_partitioned(work, uris, [()] * len(uris), kept.num_rows, config, stage)


@pytest.mark.parametrize(("number", "share", "partitions"), [(150, 0.3, 3), (150, 0.05, 1), (1, 0.5, 2), (40, 0.0, 8)])
def test_parts_plan_the_shards_of_one_table(number: int, share: float, partitions: int, tmp_path: Path) -> None:
    kept = kept_rows(number)
    limits = ShardLimits(samples=11, num_bytes=300_000)
    config = PlanConfig(aspect_ratios=RATIOS, validation_share=share, limits=limits, seed=number)
    expected = list(plan_shards(kept, aspect_ratios=RATIOS, validation_share=share, limits=limits, seed=number).new())
    plans = planned(kept, tmp_path, 64, partitions, config)
    found = list(plans.new())
    assert plans.num_new == len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.split, ours.aspect_ratio, ours.origins) == (theirs.split, theirs.aspect_ratio, theirs.origins)
        assert ours.samples.to_pylist() == theirs.samples.to_pylist()
        assert ours.digest == theirs.digest
    assert any("-" in key for each in found for key in each.samples["key"].to_pylist()) == (number >= 40)


def test_a_plan_is_another_for_another_seed(tmp_path: Path) -> None:
    kept = kept_rows(60)
    config = PlanConfig(
        aspect_ratios=RATIOS, validation_share=0.4, limits=ShardLimits(samples=99, num_bytes=10**9), seed=0
    )
    found = [
        [each.digest for each in planned(kept, tmp_path / str(seed), 64, 2, replace(config, seed=seed)).new()]
        for seed in (0, 1)
    ]
    assert found[0] != found[1]
