"""Versions of a data set: what changes is written, what does not stays, and of two writers one is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infinity import storage
from infinity.data.curation import measuring
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.takedown import TakedownList, load_takedown, split_taken_down
from infinity.data.dataset.difference import compare
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.shards import write_shard
from infinity.data.dataset.verify import verify
from infinity.data.dataset.versions import VersionConflictError, load_version, publish, versions
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from tests.fixtures.data.facts_builder import facts_of
from tests.fixtures.data.pictures_on_disk import good_folder
from tests.infinity.data.dataset.test_manifest import manifest as small_manifest


@pytest.fixture(autouse=True)
def _without_ray() -> Iterator[None]:
    with in_process():
        yield


def spec(source: Path | None, output: Path, **settings: Any) -> BuildDatasetSpec:
    filters = settings.pop("filters", FilterConfig(min_side_px=8))
    return BuildDatasetSpec(
        source=None if source is None else str(source),
        output=str(output),
        filters=filters,
        samples_per_shard=10,
        validation_share=0.1,
        **settings,
    )


def built(wanted: BuildDatasetSpec) -> Manifest:
    manifest = Manifest.load(run(wanted).manifest)
    assert verify(manifest) == ()
    return manifest


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*.tar")}


@pytest.fixture
def counted_writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of shards that the job wrote."""
    written: list[str] = []

    def write(*arguments: Any) -> Any:
        shard = write_shard(*arguments)
        written.append(shard.info.path)
        return shard

    monkeypatch.setattr(build_dataset, "write_shard", write)
    return written


def test_takedown_rewrites_only_the_shards_that_hold_the_pictures(tmp_path: Path, counted_writes: list[str]) -> None:
    source, out = good_folder(tmp_path / "in", 60, sizes=[(16, 16), (24, 16)]), tmp_path / "out"
    parent = built(spec(source, out))
    before = inodes(out)
    counted_writes.clear()
    for path in source.rglob("*"):  # the source is gone; the data set does not need it any more
        if path.is_file():
            path.unlink()
    gone = parent.table["sha256"][3].as_py()
    child = built(spec(None, out, parent=parent.uri, takedown=TakedownList(sha256=(gone,))))
    assert child.head.parent == parent.digest
    assert len(counted_writes) == 1
    assert {name: inode for name, inode in inodes(out).items() if name in before} == before
    assert gone not in child.table["sha256"].to_pylist()
    assert child.head.counts["dropped_taken_down"] == 1
    difference = compare(parent, child)
    assert (difference.added, difference.removed, difference.shards_new, difference.shards_gone) == (0, 1, 1, 1)
    assert difference.is_child
    assert "takedown.sha256" in [change.name for change in difference.settings]


def test_what_was_taken_down_does_not_come_back_with_the_source(tmp_path: Path) -> None:
    source, out = good_folder(tmp_path / "in", 20), tmp_path / "out"
    parent = built(spec(source, out))
    name = parent.table["source"][0].as_py()
    taken = TakedownList(sha256=(parent.table["sha256"][0].as_py(),))
    child = built(spec(None, out, parent=parent.uri, takedown=taken))
    again = built(spec(source, out, parent=child.uri))
    assert name not in again.table["source"].to_pylist()
    assert again.head.takedown == taken


def test_added_data_leaves_the_shards_of_the_parent_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    parent = built(spec(good_folder(tmp_path / "a", 40), out))
    before = inodes(out)
    more = good_folder(tmp_path / "b", 70)  # the first 40 are the same pictures with the same captions
    child = built(spec(more, out, parent=parent.uri))
    assert [record.source for record in child.head.sources] == [str(tmp_path / "a"), str(more)]
    assert child.head.counts["read"] == 110
    assert child.head.counts["kept"] == 70
    difference = compare(parent, child)
    assert (difference.added, difference.removed, difference.resplit) == (30, 0, 0)
    assert difference.shards_kept >= len(parent.head.shards) - 2  # those that were less than half full are filled
    assert {name: inode for name, inode in inodes(out).items() if name in before} == before
    assert max(shard.num_samples for shard in child.head.shards) <= 10


def test_another_filter_opens_no_picture_that_it_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted_writes: list[str]
) -> None:
    out = tmp_path / "out"
    source = good_folder(tmp_path / "in", 60, sizes=[(16, 16), (16, 16), (16, 40)])
    parent = built(spec(source, out))
    before = inodes(out)
    counted_writes.clear()
    monkeypatch.setattr(measuring, "measure_slice", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr("infinity.data.dataset.shards.fetch", lambda *_: pytest.fail("read the source again"))
    child = built(spec(None, out, parent=parent.uri, filters=FilterConfig(min_side_px=8, max_elongation=2.0)))
    assert child.head.counts["dropped_aspect_ratio"] == 20
    assert counted_writes == []  # a ratio of its own was dropped: no other shard changed
    assert compare(parent, child).removed == 20
    monkeypatch.undo()
    wider = built(spec(None, out, parent=child.uri))
    assert sorted(wider.table["key"].to_pylist()) == sorted(parent.table["key"].to_pylist())
    assert {name: inode for name, inode in inodes(out).items() if name in before} == before


def test_a_source_that_grew_takes_the_place_of_its_earlier_state(tmp_path: Path) -> None:
    out = tmp_path / "out"
    parent = built(spec(good_folder(tmp_path / "in", 30), out))
    child = built(spec(good_folder(tmp_path / "in", 45), out, parent=parent.uri))
    assert len(child.head.sources) == 1
    assert child.head.counts["read"] == 45
    assert (compare(parent, child).added, compare(parent, child).removed) == (15, 0)


def test_versions_are_numbered_and_one_of_two_writers_wins(tmp_path: Path, s3_server: str) -> None:
    for root in (str(tmp_path), s3_server):
        first = small_manifest(storage.join(root, "a", "manifest.parquet"))
        first.save()
        assert publish(root, "birds", first) == publish(root, "birds", first)  # once, however often
        rivals = []
        for name, ratios in (("b", (1.0, 2.0)), ("c", (1.0, 3.0))):
            rival = small_manifest(storage.join(root, name, "manifest.parquet"), ratios=ratios)
            rival = Manifest(uri=rival.uri, head=rival.head.replace(parent=first.digest), table=rival.table)
            rival.save()
            rivals.append(rival)
        publish(root, "birds", rivals[0])
        with pytest.raises(VersionConflictError, match=r"found version 2 .*; build again with that one as the parent"):
            publish(root, "birds", rivals[1])
        assert [version.number for version in versions(root, "birds")] == [1, 2]
        assert load_version(root, "birds").digest == rivals[0].digest
        assert load_version(root, "birds", 1).digest == first.digest
        with pytest.raises(ValueError, match="expected version 3 of 'birds', found"):
            load_version(root, "birds", 3)


def test_a_takedown_list_names_pictures_in_every_way(tmp_path: Path) -> None:
    urls = [
        "https://cdn.bad.example/1.jpg",
        "https://notbad.example/2.jpg",
        None,
        "https://x.example/3.jpg",
        None,
        None,
    ]
    facts = facts_of([{"url": url, "phash": 0xFF if i == 4 else i << 40} for i, url in enumerate(urls)])
    path = tmp_path / "list.txt"
    path.write_text(
        "# by court order\n\ndomain:bad.example\nurl:https://x.example/3.jpg\nphash:00000000000000fe\n"
        f"sha256:{facts['content'][5].as_py().hex()}\n"
    )
    takedown = load_takedown(str(path)).replace(phash_distance=1)
    kept, tally = split_taken_down(facts, takedown)
    assert kept["row"].to_pylist() == [1, 2]
    assert tally.dropped == {"taken_down": 4}
    assert "domain bad.example" in tally.examples["taken_down"][0]


def test_all_rows_with_the_pixels_of_a_listed_one_go(tmp_path: Path) -> None:
    facts = facts_of([{"pixels": b"a" * 32, "url": "https://a.example/1"}, {"pixels": b"a" * 32}, {}])
    kept, _ = split_taken_down(facts, TakedownList(domains=("a.example",)))
    assert kept["row"].to_pylist() == [2]


def test_a_line_that_is_no_entry_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("https://a.example\n")
    with pytest.raises(ValueError, match=r"line 1: expected one of sha256, phash, url, domain and a colon"):
        load_takedown(str(tmp_path / "list.txt"))
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits each"):
        TakedownList(sha256=("abc",))


def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = built(spec(good_folder(tmp_path / "in", 30), out))
    paths = [out / shard.path for shard in manifest.head.shards]
    whole = [path.read_bytes() for path in paths]

    def faults(**changes: bytes | None) -> set[str]:
        for path, content in zip(paths, whole, strict=True):
            path.write_bytes(content)
        for index, damaged in changes.items():
            path = paths[int(index[1:])]
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
        return {fault.kind for fault in verify(manifest)}

    flipped = bytearray(whole[0])
    flipped[manifest.table["offset"][0].as_py() + 30] ^= 1
    assert faults(_0=bytes(flipped)) == {"wrong_picture", "wrong_checksum"}
    assert faults(_0=None) == {"missing_shard"}
    assert faults(_0=whole[0][:-1024]) >= {"wrong_size", "wrong_checksum"}
    assert faults(_0=whole[0][: len(whole[0]) // 2]) >= {"wrong_size", "wrong_checksum"}
    assert "wrong_order" in faults(_0=whole[1], _1=whole[0])
    assert faults() == set()
    place = manifest.table.schema.get_field_index("caption")
    other = manifest.table.set_column(place, "caption", pa.array(["other"] * len(manifest)))
    assert {f.kind for f in verify(Manifest(uri=manifest.uri, head=manifest.head, table=other))} == {"wrong_caption"}
    counts = manifest.head.replace(counts=manifest.head.counts | {"kept": 1})
    assert {f.kind for f in verify(Manifest(uri=manifest.uri, head=counts, table=manifest.table))} == {"wrong_count"}
    fewer = Manifest(uri=manifest.uri, head=manifest.head, table=manifest.table.slice(1))
    assert "wrong_count" in {f.kind for f in verify(fewer)}
