"""Whatever storage operation fails, and however: a restart ends with the rows and the bytes of a quiet run.

The job runs in this process, with the code that a cluster runs, so that a kill point takes a fraction of a second. By
default some points are sampled; ``pytest --exhaustive`` meets every operation with every kind of failure, and
``--share 2/8`` the second eighth of these. Points that ran are counted in the property ``kill_points`` and printed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.versions import VersionConflictError, load_version, versions
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.spec import is_done
from infinity.storage import StorageError
from infinity.storage.backends import conditions, s3
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.fixtures.faults.storage_faults import (
    LOCAL_KINDS,
    S3_KINDS,
    Fault,
    KilledError,
    Kind,
    faulty_disk,
    faulty_s3,
    in_a_dying_process,
    s3_without_retries,
)

NUM_PICTURES = 200
NAME = "toy"

logger = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pictures are decoded once for all points: what is tried here is storage, and bytes stay what they are."""
    from infinity.data.curation import facts
    from infinity.data.images.decoding import decode
    from infinity.jobs.dataset import summary as dataset_summary

    measured: dict[bytes, dict[str, object]] = {}
    really_measure, really_decode = facts.measure_record, decode

    def measure(record: Any, data: bytes, picture: Any) -> dict[str, object]:
        known = measured.get(data)
        if known is None:
            known = measured[data] = really_measure(record, data, picture)
        return known | facts._described(record)

    sheet = encoded(noise(8, 8))
    monkeypatch.setattr(facts, "measure_record", measure)
    monkeypatch.setattr(facts, "decode", lru_cache(None)(really_decode))
    monkeypatch.setattr(dataset_summary, "small_picture", lambda manifest, row, size: np.zeros((1, 1, 3), np.uint8))
    monkeypatch.setattr(dataset_summary, "compose_sheet", lambda images, columns: sheet)
    with in_process():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """About 200 tiny pictures of two ratios in one Parquet file of several row groups; some cannot be used."""
    pictures = [encoded(noise(8, 8 + 4 * (i % 2), seed=i)) for i in range(NUM_PICTURES)]
    pictures[17], pictures[18] = pictures[17][:40], b"no picture"
    captions = [f"picture {i}" if i != 30 else "" for i in range(NUM_PICTURES)]
    path = tmp_path_factory.mktemp("source") / "pictures.parquet"
    pq.write_table(pa.table({"image": pictures, "text": captions}), path, row_group_size=64)
    return str(path)


@dataclass(frozen=True, kw_only=True)
class World:
    """A place to build the data set in, and how operations on it are made to fail.

    Attributes:
        place: URI of a new empty output, by number.
        faulty: Makes operations fail inside the block.
        source: URI of the pictures.
        child: Whether a second version without some pictures is made from the first, which a quiet run left.
    """

    place: Callable[[int], str]
    faulty: Callable[[Fault], AbstractContextManager[None]]
    source: str
    child: bool = False

    def spec(self, output: str) -> BuildDatasetSpec:
        return BuildDatasetSpec(
            source=self.source,
            output=output,
            filters=FilterConfig(min_side_px=4),
            samples_per_shard=50,
            name=NAME,
        )

    def prepare(self, output: str) -> BuildDatasetSpec:
        """What is there before the job, and the job."""
        first = self.spec(output)
        if not self.child:
            return first
        template = Path(output).parent / "template"
        if not template.exists():
            run(first.replace(output=str(template)))
        shutil.copytree(template, output, copy_function=os.link)  # files never change, so they can be shared
        parent = Manifest.load(storage.join(first.folder, "manifest.parquet"))
        gone = TakedownList(sha256=(parent.table["sha256"][5].as_py(), parent.table["sha256"][77].as_py()))
        return first.replace(source=None, parent=parent.uri, takedown=gone)


def attempt(spec: BuildDatasetSpec) -> None:
    """Run the job; a failure of the storage, or the end of the process, is what was asked for."""
    with suppress(StorageError, KilledError):
        run(spec)


def committed(spec: BuildDatasetSpec) -> dict[str, str]:
    """The manifest and every shard that it names, by their checksums; everything that a reader would see."""
    manifest = Manifest.load(storage.join(spec.folder, "manifest.parquet"))
    found = {"manifest": manifest.digest}
    for shard in manifest.head.shards:
        data = storage.read_bytes(storage.join(manifest.root, shard.path))
        found[shard.path] = hashlib.sha256(data).hexdigest()
        assert (len(data), found[shard.path]) == (shard.num_bytes, shard.sha256)
    return found


def check_readers(spec: BuildDatasetSpec) -> None:
    """What a reader finds at this moment is whole: manifests, versions, and every file that has a shard's name."""
    names = storage.list_files(spec.output)
    for uri in (name for name in names if name.endswith(".tar")):
        digest = hashlib.sha256(storage.read_bytes(uri)).hexdigest()
        assert digest[:32] == storage.name(uri).removesuffix(".tar").rsplit("-", 1)[-1], f"{uri} is short"
    if any(name.endswith(f"{storage.name(spec.folder)}/manifest.parquet") for name in names):
        committed(spec)
    if versions(spec.output, NAME):
        assert len(load_version(spec.output, NAME)) > 0
    if is_done(spec):
        committed(spec)


def quiet_run(world: World) -> tuple[dict[str, str], int, int]:
    """Checksums of a run that nothing disturbs, its number of operations, and how many shards it made garbage."""
    # What happens once in an empty place, or once in a process, must not count among the operations of this run.
    storage.write_text(storage.join(storage.parent(world.place(0)), "neighbour"), "")
    spec = world.prepare(world.place(0))
    fault = Fault()
    with world.faulty(fault):
        run(spec)
    check_readers(spec)
    shards = [uri for uri in storage.list_files(spec.output) if uri.endswith(".tar")]
    quiet = committed(spec)
    return quiet, fault.count, len(shards) - (len(quiet) - 1)


def meet(world: World, number: int, kind: Kind, at: int, quiet: dict[str, str], num_replaced: int) -> None:
    """One kill point: fail, look with a reader's eyes, start again, compare."""
    spec = world.prepare(world.place(number))
    fault = Fault(kind, at)
    with world.faulty(fault):
        attempt(spec)
    where = f"{kind} at operation {at} ({fault.names[at - 1] if at <= len(fault.names) else 'none'})"
    assert fault.count >= at, f"{where}: was not reached"
    check_readers(spec)
    with world.faulty(Fault()):
        run(spec)
    assert committed(spec) == quiet, where
    check_readers(spec)
    shards = [uri for uri in storage.list_files(spec.output) if uri.endswith(".tar")]
    assert len(shards) == len(quiet) - 1 + num_replaced, f"{where}: {len(shards)} shards lie there"
    assert [version.number for version in versions(spec.output, NAME)] == ([1, 2] if world.child else [1]), where
    assert is_done(spec)
    storage.delete_tree(spec.output)


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How many kill points run: so many sampled ones, or a share of all, which is None by default."""

    sampled: int
    share: slice | None

    def of(self, every: list[tuple[Kind, int]]) -> list[tuple[Kind, int]]:
        if self.share is not None:
            return every[self.share]
        return [every[index] for index in np.random.default_rng(len(every)).permutation(len(every))[: self.sampled]]


def sweep(world: World, kinds: tuple[Kind, ...], amount: Amount, record: Callable[[str, Any], None]) -> None:
    quiet, num_operations, num_replaced = quiet_run(world)
    assert len(quiet) > 6
    chosen = amount.of([(kind, at) for at in range(1, num_operations + 1) for kind in kinds])
    for number, (kind, at) in enumerate(chosen, start=1):
        meet(world, number, kind, at, quiet, num_replaced)
        if number % 100 == 0:
            logger.info("%d of %d kill points", number, len(chosen))
    record("kill_points", len(chosen))
    print(f"{len(chosen)} kill points ran of {num_operations} operations x {len(kinds)} kinds of failure")


@pytest.mark.parametrize("child", [False, True], ids=["first version", "takedown"])
def test_kill_anywhere_on_a_disk(
    tmp_path: Path,
    source: str,
    exhaustive: bool,
    share: slice,
    child: bool,
    record_property: Callable[[str, Any], None],
) -> None:
    world = World(place=lambda n: str(tmp_path / str(n)), faulty=faulty_disk, source=source, child=child)
    sweep(world, LOCAL_KINDS, Amount(sampled=5, share=share if exhaustive else None), record_property)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # who is killed closes no connection
@pytest.mark.parametrize("parts", [False, True], ids=["one request", "in parts"])
def test_kill_anywhere_in_s3(
    s3_server: str,
    source: str,
    exhaustive: bool,
    share: slice,
    parts: bool,
    record_property: Callable[[str, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if parts:
        monkeypatch.setattr(s3, "_MULTIPART_FROM_BYTES", 30_000)
        monkeypatch.setattr(s3, "_PART_BYTES", 20_000)
        monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    world = World(place=lambda n: f"{s3_server}/{n}", faulty=faulty_s3, source=source)
    with s3_without_retries():
        for condition in get_args(conditions.Kind):
            conditions.see_to_conditions(s3.client(), s3.split(s3_server)[0], "x", condition)
        sweep(world, S3_KINDS, Amount(sampled=1, share=share if exhaustive else None), record_property)


def test_a_process_that_is_really_killed(tmp_path: Path, source: str, exhaustive: bool) -> None:
    world = World(place=lambda n: str(tmp_path / str(n)), faulty=faulty_disk, source=source)
    quiet, num_operations, _ = quiet_run(world)
    chosen = np.linspace(2, num_operations, 40 if exhaustive else 3).astype(int).tolist()
    for number, at in enumerate(chosen, start=1):
        spec = world.spec(world.place(number))

        def work(spec: BuildDatasetSpec = spec, at: int = at) -> None:
            with faulty_disk(Fault("exit", at)):
                run(spec)

        assert in_a_dying_process(work) in (9, -signal.SIGKILL)
        check_readers(spec)
        run(spec)
        assert committed(spec) == quiet
        storage.delete_tree(spec.output)


def test_of_two_writers_of_a_version_one_wins_and_one_is_told(tmp_path: Path, source: str) -> None:
    world = World(place=lambda n: str(tmp_path / str(n)), faulty=lambda fault: nullcontext(), source=source)
    first = world.spec(world.place(0))
    parent = Manifest.load(run(first).manifest)
    shas = parent.table["sha256"].to_pylist()
    one, two = (first.replace(source=None, parent=parent.uri, takedown=TakedownList(sha256=(shas[i],))) for i in (3, 9))
    run(one)
    with pytest.raises(VersionConflictError, match="build again with that one as the parent"):
        run(two)
    assert [version.number for version in versions(first.output, NAME)] == [1, 2]
    assert not is_done(two)
