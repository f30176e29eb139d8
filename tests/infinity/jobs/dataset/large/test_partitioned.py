"""Decisions in partitions are those of one process, whatever their number and wherever they were stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from infinity import storage
from infinity.data.curation import facts as facts_files
from infinity.data.curation.decisions import Decisions, decide
from infinity.data.curation.decontamination import EvaluationSets
from infinity.data.curation.facts import SMALL_FACTS
from infinity.data.curation.filters import CAPTION_DUPLICATE, Decontamination, FilterConfig
from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.workspace import Chunk
from infinity.data.curation.takedown import TakedownList, split_taken_down
from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.large.partitioned import PartitionedDecisions, chunks_of, decide_partitioned
from infinity.jobs.progress import silent
from tests.infinity.data.dedup.test_duplicates import planted

ALL = FilterConfig(near_duplicates=NearDuplicates(), caption_duplicates=CaptionDuplicates(), min_contrast=None)


def rows_of(count: int) -> pa.Table:
    """Drawings and copies of them; besides, files that come twice, others' captions, and rows that no rule keeps."""
    facts = planted(count).to_pylist()
    random = np.random.default_rng(count)
    for row in range(0, count, 7):
        twin = facts[int(random.integers(count))]
        facts[row] = twin | {"row": row, "name": f"again {row} {twin['name']}", "num_bytes": 900 + row % 3}
    for row in range(3, count, 11):
        facts[row] |= {"caption": "" if row % 2 else "a", "detail": None}
    for row in range(5, count, 13):
        facts[row] = {"row": row, "name": f"bad {row}", "caption": "x y", "problem": "truncated", "detail": "short"}
    return pa.Table.from_pylist(facts, schema=facts_files.FACTS)


def stored(facts: pa.Table, folder: Path, slice_rows: int = 48, chunk_rows: int = 150) -> tuple[Chunk, ...]:
    """Write facts as a source's slices are, and return the chunks of them."""
    files = []
    for start in range(0, facts.num_rows, slice_rows):
        piece = facts.slice(start, slice_rows)
        path = folder / "facts" / f"{start:012d}.parquet"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(facts_files.to_bytes(piece))
        files.append((str(path), 0, start, piece.num_rows))
    return chunks_of(files, chunk_rows)


def in_one(
    facts: pa.Table,
    filters: FilterConfig,
    takedown: TakedownList = TakedownList(),  # noqa: B008  # frozen
    evaluation: EvaluationSets | None = None,
) -> Decisions:
    left, taken = split_taken_down(facts, takedown)
    thumbnails = dict(zip(left["row"].to_pylist(), left["thumbnail"].to_pylist(), strict=True))

    def get(rows: Any) -> Any:
        data = b"".join(thumbnails[row] for row in rows.tolist())
        return np.frombuffer(data, np.uint8).reshape(-1, 32, 32, 3)

    found = decide(left.select(SMALL_FACTS), filters, evaluation, get)
    return Decisions(
        kept=found.kept,
        dropped=found.dropped,
        tally=taken + found.tally,
        rules=found.rules,
        histograms=found.histograms,
        cleaned=found.cleaned,
    )


def assert_same(found: PartitionedDecisions, expected: Decisions) -> None:
    kept, dropped = read_bucket(found.kept), read_bucket(found.dropped)
    assert dropped.to_pylist() == expected.dropped.to_pylist()
    assert kept.to_pylist() == expected.kept.to_pylist()
    counts = found.counts
    assert counts.tally == expected.tally
    assert counts.rules == expected.rules
    assert counts.histograms == expected.histograms
    assert counts.cleaned == expected.cleaned
    assert counts.kept == kept.num_rows


@pytest.fixture(scope="module")
def facts(exhaustive: bool) -> pa.Table:
    return rows_of(20_000 if exhaustive else 240)


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_partitions_give_the_fates_of_one_process(facts: pa.Table, partitions: int, tmp_path: Path) -> None:
    chunks = stored(facts, tmp_path, *((48, 100) if facts.num_rows < 1000 else (512, 4096)))
    found = decided(chunks, ALL, tmp_path, partitions)
    expected = in_one(facts, ALL)
    reasons = expected.tally.dropped
    assert reasons["duplicate"] > 5
    assert reasons["near_duplicate"] > 20
    assert_same(found, expected)


SETTINGS = {
    "captions with their pictures": FilterConfig(
        duplicates="picture_and_caption", caption_duplicates=CaptionDuplicates(similarity=1.0), min_contrast=None
    ),
    "only near ones": FilterConfig(duplicates="keep", near_duplicates=NearDuplicates(distance=8, difference=30.0)),
    "nothing": FilterConfig(duplicates="keep"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_choice_of_rules_gives_the_same_fates(name: str, tmp_path: Path) -> None:
    facts = rows_of(90)
    assert_same(decided(stored(facts, tmp_path, 20, 40), SETTINGS[name], tmp_path, 2), in_one(facts, SETTINGS[name]))


def with_captions(facts: pa.Table) -> pa.Table:
    """Captions of few words in many versions: equal, one word more, chains of likeness, without a word, in Han."""
    random = np.random.default_rng(5)
    words = [
        "a", "red", "green", "blue", "small", "large", "cup", "dog", "cat", "bench",
        "left", "right", "of", "the", "old", "new", "and", "with", "two", "three",
    ]  # fmt: skip
    texts = [" ".join(random.choice(words, random.integers(4, 12))) for _ in range(max(4, facts.num_rows // 12))]
    captions = list[str]()
    for row in range(facts.num_rows):
        parts = str(random.choice(texts)).split()
        for _ in range(int(random.integers(0, 3))):
            parts[int(random.integers(len(parts)))] = str(random.choice(words))
        captions.append(
            ["...", "一只红色的杯子", " ".join(parts).upper()][min(row % 29, 2)] if row % 5 else " ".join(parts)
        )
    return facts.set_column(facts.schema.get_field_index("caption"), "caption", pa.array(captions, pa.string()))


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("partitions", [1, 3])
def test_captions_that_repeat_any_other_have_the_fates_of_one_process(
    similarity: float, partitions: int, tmp_path: Path, exhaustive: bool
) -> None:
    facts = with_captions(rows_of(5_000 if exhaustive else 200))
    alike = CaptionDuplicates(similarity=similarity, scope="anywhere")
    filters = FilterConfig(near_duplicates=NearDuplicates(), caption_duplicates=alike, min_contrast=None)
    expected = in_one(facts, filters)
    assert expected.tally.dropped[CAPTION_DUPLICATE] > 20
    assert_same(decided(stored(facts, tmp_path, 20, 60), filters, tmp_path, partitions), expected)


def test_what_is_taken_down_goes_with_its_copies_in_other_chunks(tmp_path: Path) -> None:
    facts = rows_of(90)
    again = facts.filter(pa.compute.starts_with(facts["name"], "again")).slice(3, 1)
    listed = TakedownList(sha256=(again["content"][0].as_py().hex(),), urls=("https://x.example/1.png",))
    found = decided(stored(facts, tmp_path, 20, 20), FilterConfig(), tmp_path, 2, listed)
    expected = in_one(facts, FilterConfig(), listed)
    assert expected.tally.dropped["taken_down"] >= 2
    assert_same(found, expected)


def test_evaluation_sets_are_kept_out_in_every_chunk(tmp_path: Path) -> None:
    facts = rows_of(60)
    pictures = facts.filter(pa.compute.is_null(facts["problem"])).slice(4, 3)
    sets = EvaluationSets(prompts=("a caption 20",), pictures=pictures)
    filters = FilterConfig(evaluation=Decontamination(prompts=("p.txt",), pictures=("folder",)))
    expected = in_one(facts, filters, evaluation=sets)
    assert expected.tally.dropped["evaluation_picture"] >= 3
    found = decided(stored(facts, tmp_path, 20, 20), filters, tmp_path, 2, evaluation=sets)
    assert_same(found, expected)


def test_a_decision_that_is_stopped_at_any_write_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    """Ten stops in one decision, or a stop at each write; nothing that was whole is written again but the last task."""
    facts = rows_of(60)
    chunks = stored(facts, tmp_path, 20, 40)
    quiet = decided(chunks, ALL, tmp_path / "quiet", 2)
    total = len(list((tmp_path / "quiet").rglob("*.parquet")))
    write, written, limit = storage.write_bytes, list[str](), 0

    def failing(uri: str, data: Any, **more: Any) -> None:
        if len(written) >= limit:
            raise KeyboardInterrupt
        written.append(uri)
        write(uri, data, **more)

    monkeypatch.setattr(storage, "write_bytes", failing)
    stops = 0
    stopped = None
    while stopped is None:
        try:
            stopped = decided(chunks, ALL, tmp_path / "stopped", 2)
        except KeyboardInterrupt:
            stops += 1
            limit += 1 if exhaustive else -(-total // 10)
    assert stops >= 10
    assert len(written) <= total + 2 * stops
    assert read_bucket(stopped.kept).equals(read_bucket(quiet.kept))
    assert read_bucket(stopped.dropped).equals(read_bucket(quiet.dropped))
    assert stopped.counts == quiet.counts


def test_the_files_of_a_decision_may_lie_in_a_bucket(tmp_path: Path, s3_server: str) -> None:
    facts = rows_of(30)
    chunks = stored(facts, tmp_path, 15, 15)
    with in_process():
        found = decide_partitioned(chunks, ALL, TakedownList(), s3_server, silent, partitions=2)
    assert found.work.folder.startswith("s3://")
    assert_same(found, in_one(facts, ALL))


def test_the_folder_is_another_for_other_rules_rows_and_partitions(tmp_path: Path) -> None:
    facts = rows_of(12)
    chunks = stored(facts, tmp_path, 6, 6)
    other = stored(facts.slice(0, 6), tmp_path, 6, 6)
    listed = TakedownList(urls=("https://x.example/1.png",))
    folders = [
        decided(chunks, FilterConfig(), tmp_path, 1).work.folder,
        decided(chunks, FilterConfig(), tmp_path, 2).work.folder,
        decided(chunks, FilterConfig(min_side_px=25), tmp_path, 1).work.folder,
        decided(chunks, FilterConfig(), tmp_path, 1, listed).work.folder,
        decided(other, FilterConfig(), tmp_path, 1).work.folder,
    ]
    assert len(set(folders)) == 5


def decided(
    chunks: tuple[Chunk, ...],
    filters: FilterConfig,
    root: Path,
    partitions: int,
    takedown: TakedownList = TakedownList(),  # noqa: B008  # frozen
    evaluation: EvaluationSets | None = None,
) -> PartitionedDecisions:
    with in_process():
        return decide_partitioned(
            chunks, filters, takedown, str(root), silent, evaluation=evaluation, partitions=partitions
        )
