"""A next version that is made in parts is that of one process: splits, shards that stay, and rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.storing import StoringConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.dealing import ShardLimits
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.dataset.verify import verify
from infinity.data.sources.opening import open_source
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.large import build as large
from infinity.jobs.dataset.large import parent_parts
from infinity.jobs.dataset.large.parent_parts import ParentRows, group_numbers, staying_shards
from infinity.jobs.dataset.large.partitioned import DECISIONS_FOLDER, chunks_of
from tests.fixtures.data.drawn_sets import drawing
from tests.fixtures.data.pictures_on_disk import encoded
from tests.fixtures.faults.failing_writes import stopped_until_done

FILTERS = FilterConfig(min_contrast=None)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity.jobs.dataset.facts.open_source", partial(open_source, rows_per_slice=4))
    monkeypatch.setattr(large, "chunks_of", partial(chunks_of, most=6))
    monkeypatch.setattr(parent_parts, "ROWS_PER_TASK", 5)


def source(folder: Path, numbers: range) -> Path:
    """Drawings of two shapes, one of them twice with the same caption."""
    folder.mkdir()
    rows = []
    for index in numbers:
        image = drawing(index).resize((64, 48) if index % 3 else (48, 64))
        (folder / f"{index:02d}.png").write_bytes(encoded(image))
        rows.append({"file_name": f"{index:02d}.png", "text": f"drawing {index}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def built(spec: BuildDatasetSpec) -> Manifest:
    with in_process():
        return Manifest.load(run(spec).manifest)


def spec(output: Path, **more: Any) -> BuildDatasetSpec:
    given = {"filters": FILTERS, "samples_per_shard": 3, "validation_share": 0.3, "max_unreadable_share": 1.0}
    return BuildDatasetSpec(output=str(output), **{**given, "aspect_ratios": (0.75, 1.0, 1.333), **more})


def grown(first: Manifest, folder: Path) -> dict[str, Any]:
    return {"source": str(source(folder / "more", range(14, 22)))}


def without_some(first: Manifest, folder: Path) -> dict[str, Any]:
    return {"takedown": TakedownList(sha256=tuple(first.values("original_sha256", [2, 9])))}


def grown_without_some(first: Manifest, folder: Path) -> dict[str, Any]:
    return grown(first, folder) | without_some(first, folder)


def other_ratios(first: Manifest, folder: Path) -> dict[str, Any]:
    return grown(first, folder) | {"aspect_ratios": (0.75, 1.0)}


def other_limits(first: Manifest, folder: Path) -> dict[str, Any]:
    """Shards of the parent are small now, and join new ones where there are any."""
    return grown(first, folder) | {"samples_per_shard": 8}


def reduced(first: Manifest, folder: Path) -> dict[str, Any]:
    """Pictures are stored otherwise: no shard stays, every picture stays in its split."""
    return grown(first, folder) | {"storing": StoringConfig(side_px=32)}


def other_captions(first: Manifest, folder: Path) -> dict[str, Any]:
    """The source's captions change: keys differ, and pixels tell the splits."""
    lines = [json.loads(line) for line in (folder / "in" / "metadata.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(line | {"text": "another " + line["text"]}) + "\n" for line in lines)
    (folder / "in" / "metadata.jsonl").write_text(text)
    return {"source": str(folder / "in")}


CHANGES: tuple[Callable[[Manifest, Path], dict[str, Any]], ...] = (
    grown, without_some, grown_without_some, other_ratios, other_limits, reduced, other_captions,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_version_in_parts_is_that_of_one_process(
    tmp_path: Path, change: Callable[[Manifest, Path], dict[str, Any]]
) -> None:
    pictures = source(tmp_path / "in", range(14))
    firsts = [built(spec(tmp_path / name, source=str(pictures))) for name in ("one", "many")]
    assert firsts[0].digest == firsts[1].digest
    changes = change(firsts[0], tmp_path)
    one, many = (
        built(spec(tmp_path / name, parent=first.uri, partitions=partitions, **changes))
        for name, first, partitions in zip(("one", "many"), firsts, (None, 3), strict=True)
    )
    assert many.table.equals(one.table)
    assert many.head == one.head.replace(format=3)
    assert many.parts
    assert verify(many) == ()
    if change is not reduced:
        stayed = {info.path for info in many.head.shards} & {info.path for info in firsts[1].head.shards}
        assert bool(stayed) == (change not in (other_captions,)), "some shards stay where something stays"
    assert not storage.list_files(storage.join(many.root, DECISIONS_FOLDER))
    splits = dict(
        zip(firsts[0].column("pixels_sha256").to_pylist(), firsts[0].column("split").to_pylist(), strict=True)
    )
    for pixels, split in zip(many.column("pixels_sha256").to_pylist(), many.column("split").to_pylist(), strict=True):
        assert splits.get(pixels, split) == split, "a picture stays in its split"


def test_a_version_of_a_version_in_parts_goes_on(tmp_path: Path) -> None:
    first = built(spec(tmp_path / "out", source=str(source(tmp_path / "in", range(14))), partitions=2))
    second = built(spec(tmp_path / "out", parent=first.uri, partitions=3, **grown(first, tmp_path)))
    third = built(spec(tmp_path / "out", parent=second.uri, partitions=1, **without_some(second, tmp_path)))
    assert len(third) == len(second) - 2
    assert verify(third) == ()
    assert {info.path for info in third.head.shards} & {info.path for info in first.head.shards}


def test_a_next_version_that_is_stopped_on_the_way_ends_as_a_quiet_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = source(tmp_path / "in", range(10))
    firsts = [built(spec(tmp_path / name, source=str(pictures))) for name in ("quiet", "stopped")]
    changes = grown(firsts[0], tmp_path)
    quiet = built(spec(tmp_path / "quiet", parent=firsts[0].uri, partitions=2, **changes))
    manifest, stops = stopped_until_done(
        monkeypatch,
        lambda: built(spec(tmp_path / "stopped", parent=firsts[1].uri, partitions=2, **changes)),
        first=5,
        more=23,
    )
    assert stops >= 3
    assert storage.read_bytes(manifest.uri) == storage.read_bytes(quiet.uri)


def test_a_manifest_whose_rows_are_not_by_shard_is_refused(tmp_path: Path) -> None:
    first = built(spec(tmp_path / "out", source=str(source(tmp_path / "in", range(10)))))
    path = Path(first.uri)
    table = pq.read_table(path)
    path.write_bytes(b"")
    pq.write_table(table.take(list(reversed(range(len(table))))).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(ManifestError, match="expected the rows of each shard together"):
        built(
            spec(tmp_path / "out", parent=first.uri, partitions=2, source=str(source(tmp_path / "more", range(20, 24))))
        )


def info(samples: int, num_bytes: int = 100) -> ShardInfo:
    return ShardInfo(path="p", sha256="0" * 64, num_samples=samples, num_bytes=num_bytes)


def test_a_shard_stays_if_all_its_samples_are_wanted_and_it_is_not_small_beside_new_ones() -> None:
    shards = [info(10), info(10), info(2), info(7)]
    groups, limits = np.array([0, 0, 0, 1]), ShardLimits(samples=10, num_bytes=1000)

    def found(held: list[int], totals: list[int]) -> list[list[int]]:
        return staying_shards(shards, groups, np.array(held), totals, limits)

    assert found([10, 10, 2, 7], [22, 7]) == [[0, 1, 2], [3]]  # nothing is new
    assert found([10, 10, 2, 7], [23, 7]) == [[0, 1], [3]]  # the small one joins the new sample
    assert found([10, 9, 2, 7], [21, 9]) == [[0], [3]]  # a sample of the second is gone, so its others are loose
    assert found([0, 0, 0, 0], [5, 0]) == [[], []]


def test_shards_of_ratios_that_are_gone_have_no_group() -> None:
    told = [{"shards": [(0, "train", 0.5), (1, "validation", 1.0)]}, {"shards": [(2, "train", 1.0)]}]
    assert group_numbers(told, (1.0, 2.0), 3).tolist() == [-1, 2, 0]


def test_parts_of_a_parent_cover_its_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent_parts, "ROWS_PER_TASK", 4)
    rows = ParentRows(uri="m", digest="d", num_rows=10, reusable=True)
    assert rows.ranges == [(0, 4), (4, 8), (8, 10)]
