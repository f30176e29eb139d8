"""A data set made in parts is that of one process; its rows lie in files that are opened when needed."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infinity import storage
from infinity.data.curation.filters import FilterConfig, ModelFilters
from infinity.data.curation.storing import StoringConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.dataset.verify import verify
from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
from infinity.data.sources.opening import open_source
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.large import build as large
from infinity.jobs.dataset.large.partitioned import DECISIONS_FOLDER, chunks_of
from infinity.jobs.dataset.purge import collect_garbage, purge
from infinity.perception.clip import ClipConfig
from infinity.perception.detection.image_classifier import ImageClassifier, WatermarkConfig
from infinity.perception.language.captioner import CaptionerConfig
from infinity.perception.similarity import ClipSimilarityConfig
from tests.fixtures.data.drawn_sets import drawing, encoded_again
from tests.fixtures.data.pictures_on_disk import encoded
from tests.fixtures.faults.failing_writes import stopped_until_done
from tests.fixtures.models.tiny_networks import write_clip, write_image_classifier, write_llava

FILTERS = FilterConfig(near_duplicates=NearDuplicates(), caption_duplicates=CaptionDuplicates(), min_contrast=None)


def source(folder: Path, number: int = 12) -> Path:
    """Drawings, some of them twice or encoded again, one without a caption and one that cannot be read."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = []
    for index in range(number):
        image = drawing(index) if index % 4 else encoded_again(drawing(index + 1), random)
        name = f"{index:02d}.png"
        (folder / name).write_bytes(encoded(image.resize((96, 72 if index < 6 else 96), Image.Resampling.BILINEAR)))
        rows.append({"file_name": name, "text": f"drawing {index}" if index != 2 else ""})
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "twin.png").write_bytes((folder / "01.png").read_bytes())
    rows += [{"file_name": "bad.png", "text": "bad"}, {"file_name": "twin.png", "text": "a twin"}]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def spec(source: Path, output: Path, **more: Any) -> BuildDatasetSpec:
    given = {"filters": FILTERS, "samples_per_shard": 2, "validation_share": 0.3, "max_unreadable_share": 1.0}
    return BuildDatasetSpec(source=str(source), output=str(output), **{**given, **more})


def built(spec: BuildDatasetSpec) -> Manifest:
    with in_process():
        return Manifest.load(run(spec).manifest)


@pytest.mark.parametrize("storing", [StoringConfig(), StoringConfig(side_px=48)])
def test_parts_make_the_data_set_of_one_process(
    tmp_path: Path, storing: StoringConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ROWS_PER_PART", 4)
    monkeypatch.setattr("infinity.data.dataset.manifest_parts.ROWS_PER_GROUP", 4)
    pictures = source(tmp_path / "in")
    one = built(spec(pictures, tmp_path / "one", storing=storing))
    many = built(spec(pictures, tmp_path / "many", storing=storing, partitions=3))
    assert many.table.equals(one.table)
    assert many.head == one.head.replace(format=3)
    assert len(one) > 6
    assert one.head.counts["dropped_near_duplicate"] > 0
    assert one.parts == ()
    assert len(many.parts) == -(-len(one) // 4)
    for manifest in (one, many):
        assert verify(manifest) == ()
    dropped = [pq.read_table(storage.join(storage.parent(each.uri), "dropped.parquet")) for each in (one, many)]
    assert dropped[0].equals(dropped[1])
    assert not storage.list_files(storage.join(many.root, DECISIONS_FOLDER))


def judges(folder: Path) -> dict[str, Any]:
    """Two scorers, of which one reads captions, and a captioner, with random weights."""
    (folder / "llava").mkdir(parents=True)
    return {
        "captioner": CaptionerConfig(model=write_llava(folder / "llava"), prompt="what is there ?", max_new_tokens=6),
        "scorers": (
            WatermarkConfig(model=write_image_classifier(folder / "watermark", ("No Watermark", "Watermark"))),
            ClipSimilarityConfig(clip=ClipConfig(model=write_clip(folder / "clip"))),
        ),
    }


def test_networks_are_asked_in_parts_as_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ask = ImageClassifier.__call__

    def counting(self: ImageClassifier, pictures: list[np.ndarray], captions: list[str]) -> np.ndarray:
        asked.append(len(pictures))
        return ask(self, pictures, captions)

    monkeypatch.setattr(ImageClassifier, "__call__", counting)
    monkeypatch.setattr("infinity.jobs.dataset.facts.open_source", partial(open_source, rows_per_slice=4))
    monkeypatch.setattr(large, "chunks_of", partial(chunks_of, most=8))
    pictures, given = source(tmp_path / "in"), judges(tmp_path / "networks")
    measured = built(spec(pictures, tmp_path / "first", **given))
    scores = {each.score: each.edges for each in measured.head.histograms}
    middle = (scores["watermark"][0] + scores["watermark"][-1]) / 2
    given["filters"] = FILTERS.replace(models=ModelFilters(max_watermark=middle))
    one = built(spec(pictures, tmp_path / "one", **given))
    many = built(spec(pictures, tmp_path / "many", partitions=3, **given))
    assert many.table.equals(one.table)
    assert many.head == one.head.replace(format=3)
    assert one.head.counts["dropped_watermark"] > 0
    assert len(one) > 2
    dropped = [pq.read_table(storage.join(storage.parent(each.uri), "dropped.parquet")) for each in (one, many)]
    assert dropped[0].equals(dropped[1])
    before = len(asked)
    again = built(spec(pictures, tmp_path / "many", partitions=2, **given | {"filters": FILTERS}))
    assert len(asked) == before, "another threshold asks no network"
    assert len(again) > len(many)


def test_rows_of_parts_are_read_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ROWS_PER_PART", 3)
    manifest = built(spec(source(tmp_path / "in"), tmp_path / "out", partitions=1))
    captions = manifest.column("caption").to_pylist()
    again = Manifest.load(manifest.uri)
    files = [storage.join(storage.parent(again.uri), part.path) for part in again.parts]
    storage.delete_tree(files[1])
    assert again.captions([0, len(captions) - 1, 0]) == [captions[0], captions[-1], captions[0]]
    with pytest.raises(ManifestError, match="damaged"):
        again.captions([3])
    with pytest.raises(IndexError):
        again.values("caption", [len(captions)])


def test_a_manifest_cannot_name_files_elsewhere_and_says_what_is_damaged(tmp_path: Path) -> None:
    manifest = built(spec(source(tmp_path / "in"), tmp_path / "out", partitions=1))
    part = Path(storage.join(storage.parent(manifest.uri), manifest.parts[0].path))
    table = pq.read_table(part)
    pq.write_table(table.set_column(table.schema.get_field_index("source"), "source", table["caption"]), part)
    assert "wrong_rows" in {fault.kind for fault in verify(Manifest.load(manifest.uri))}
    for path in ("../../../secret.parquet", "rows/../../x.parquet", "/etc/passwd"):
        head = pq.read_table(manifest.uri)
        told = json.loads(head.schema.metadata[b"infinity.parts"])
        told[0]["path"] = path
        metadata = head.schema.metadata | {b"infinity.parts": json.dumps(told).encode()}
        pq.write_table(head.replace_schema_metadata(metadata), tmp_path / "stranger.parquet")
        with pytest.raises(ManifestError, match="expected files of rows named"):
            Manifest.load(str(tmp_path / "stranger.parquet"))


def test_a_build_that_is_stopped_on_the_way_ends_as_a_quiet_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = source(tmp_path / "in", 8)
    quiet = built(spec(pictures, tmp_path / "quiet", partitions=2))
    manifest, stops = stopped_until_done(
        monkeypatch, lambda: built(spec(pictures, tmp_path / "stopped", partitions=2)), first=3, more=17
    )
    assert stops >= 5
    assert storage.read_bytes(manifest.uri) == storage.read_bytes(quiet.uri)


def test_a_large_data_set_is_made_in_parts_whatever_its_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = source(tmp_path / "in", 3)
    monkeypatch.setattr(large, "LARGE_SLICES", 1)
    assert built(spec(pictures, tmp_path / "a")).parts
    anywhere = FILTERS.replace(caption_duplicates=CaptionDuplicates(scope="anywhere"))
    assert built(spec(pictures, tmp_path / "b", filters=anywhere)).parts


def test_partitions_name_no_other_job_and_are_refused_where_they_cannot_be_used(tmp_path: Path) -> None:
    plain = spec(tmp_path, tmp_path)
    assert spec(tmp_path, tmp_path, partitions=5).folder == plain.folder
    with pytest.raises(ValueError, match=r"partitions: expected at least 1 or None, got 0"):
        spec(tmp_path, tmp_path, partitions=0)


def test_a_takedown_and_a_purge_know_rows_in_parts(tmp_path: Path) -> None:
    first = built(spec(source(tmp_path / "in"), tmp_path / "out", partitions=2))
    gone = first.values("original_sha256", [1])[0]
    takedown = TakedownList(sha256=(gone,))
    child = built(spec(tmp_path / "in", tmp_path / "out", parent=first.uri, takedown=takedown))
    decisions = tmp_path / "out" / DECISIONS_FOLDER / "left" / "rows"
    decisions.mkdir(parents=True)
    (decisions / "000000.parquet").write_bytes(b"of a build that was killed")
    assert gone not in child.column("original_sha256").to_pylist()
    assert collect_garbage(child.root, 3600.0).get("unfinished decisions", 0) == 0, "a build may be at work there"
    assert collect_garbage(child.root, 0.0, dry_run=True)["unfinished decisions"] == 1
    assert purge(child, takedown).deleted["unfinished decisions"] == 1
    assert not (tmp_path / "out" / DECISIONS_FOLDER).exists()
    assert not storage.exists(storage.parent(first.uri))
    assert verify(child) == ()
