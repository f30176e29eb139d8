"""Facts of an earlier reading are measured anew where a reading has changed, and taken over where it has not."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.curation import facts as facts_files
from infinity.data.curation import measuring
from infinity.data.curation.facts import READING_VERSION
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.decoding import Decoded, decode
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import facts as facts_job
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.replay import quarantined
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise
from tests.infinity.data.images.test_stated_colours import gama, with_chunks

NAMES = ("0.png", "1.png", "2.jpg", "linear.png", "broken.png")


def source(top: Path) -> Path:
    """Four good pictures, one of which states its colours, and a broken one."""
    files = {"0.png": encoded(noise(seed=0)), "1.png": encoded(noise(seed=1)), "2.jpg": encoded(noise(seed=2), "JPEG")}
    files |= {"linear.png": with_chunks(noise(seed=3), gAMA=gama(1.0)), "broken.png": encoded(noise(seed=4))[:60]}
    return image_folder(top / "in", files, [{"file_name": name, "text": f"picture {name}"} for name in files])


def build(top: Path, place: Path, **settings: Any) -> Manifest:
    spec = BuildDatasetSpec(source=str(place), output=str(top / "out"), validation_share=0.0)
    with in_process():
        return Manifest.load(run(spec.replace(**settings)).manifest)


def as_before(top: Path, manifest: Manifest, reading: int) -> str:
    """Turn the facts into those of an earlier reading, which did not follow gAMA; return the name of their folder."""
    (now,) = (top / "out" / "facts").iterdir()
    opened = facts_job.open_record(manifest.head.sources[0], manifest.root, lambda _: None)
    before = opened.earlier_folders(int(manifest.head.spec["filters"]["max_pixels"]))[reading]
    assert before != now.name
    for folder in ("facts", "quarantine", "scores/sharp"):
        old = top / "out" / folder / now.name
        if old.exists():
            old.rename(old.parent / before)
    for path in (top / "out" / "facts" / before).iterdir():
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            if row["name"] == "linear.png":
                row |= {"pixels": b"o" * 32, "keep_bytes": True, "detail": None}
        path.write_bytes(facts_files.to_bytes(facts_files.table_of(rows, facts_files.FACTS)))
    return before


def facts(top: Path, folder: str) -> list[dict[str, Any]]:
    return [
        row for path in sorted((top / "out" / "facts" / folder).iterdir()) for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("reading", range(READING_VERSION - 1))
def test_only_what_states_its_colours_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: int
) -> None:
    place = source(tmp_path)
    first = build(tmp_path, place)
    (now,) = (path.name for path in (tmp_path / "out" / "facts").iterdir())
    wanted = facts(tmp_path, now)
    before = as_before(tmp_path, first, reading)
    assert [storage.parent(uri).rpartition("/")[2] for uri in quarantined(first)] == [before]
    rows = first.table
    shutil.rmtree(storage.parent(first.uri))  # or the job would be found done
    opened: list[bytes] = []

    def told(data: bytes, *arguments: Any, **options: Any) -> Decoded:
        opened.append(data)
        return decode(data, *arguments, **options)

    monkeypatch.setattr(facts_files, "decode", told)
    again = build(tmp_path, place)
    assert sorted(opened) == sorted((tmp_path / "in" / name).read_bytes() for name in ("linear.png", "broken.png"))
    assert facts(tmp_path, now) == wanted
    assert again.table.equals(rows)
    assert [storage.parent(uri).rpartition("/")[2] for uri in quarantined(again)] == [now]


def test_a_file_that_changed_and_a_caption_that_changed_are_seen(tmp_path: Path) -> None:
    place = source(tmp_path)
    facts_of = {row["name"]: row for row in measure(place)}
    (place / "0.png").write_bytes(encoded(noise(seed=9)))
    (place / "metadata.jsonl").write_text((place / "metadata.jsonl").read_text().replace("picture 1.png", "another"))
    earlier = {row["row"]: row for row in facts_of.values()}
    again = {row["name"]: row for row in measure(place, earlier)}
    assert again["0.png"]["pixels"] != facts_of["0.png"]["pixels"]
    assert (again["1.png"]["caption"], again["1.png"]["pixels"]) == ("another", facts_of["1.png"]["pixels"])


def measure(place: Path, earlier: dict[int, Any] | None = None) -> list[dict[str, Any]]:
    from infinity.data.sources.opening import open_source

    (piece,) = open_source(str(place)).slices
    rows: list[dict[str, Any]] = facts_files.measure_slice(piece, 10**7, earlier=earlier or {}).facts.to_pylist()
    return rows


@pytest.mark.parametrize("changes", [False, True])
def test_answers_of_networks_are_taken_over_where_nothing_that_they_saw_has_changed(
    tmp_path: Path, changes: bool
) -> None:
    from infinity.data.curation.storing import StoringConfig
    from infinity.data.sources.opening import open_source

    place = source(tmp_path)
    if not changes:
        (place / "linear.png").write_bytes(encoded(noise(seed=3)))
    (piece,) = open_source(str(place)).slices
    old, new = (str(tmp_path / name / "0.parquet") for name in ("old", "new"))
    call = measuring.MeasuringCall(
        piece=piece, max_pixels=10**7, facts=old, quarantine=f"{old}.q", reduced="", storing=StoringConfig()
    )
    measuring.measure(call)
    if changes:
        rows = pq.read_table(old).to_pylist()
        rows[3] |= {"pixels": b"o" * 32}
        Path(old).write_bytes(facts_files.to_bytes(facts_files.table_of(rows, facts_files.FACTS)))
    storage.write_bytes(f"{old}.scores", b"answers")
    answers = ((f"{old}.scores", f"{new}.scores"), (f"{old}.never", f"{new}.never"))
    again = measuring.MeasuringCall(
        piece=piece, max_pixels=10**7, facts=new, quarantine=f"{new}.q", reduced="", storing=StoringConfig(),
        earlier=old, answers=answers,
    )  # fmt: skip
    measuring.measure(again)
    assert storage.exists(f"{new}.scores") != changes
    assert not storage.exists(f"{new}.never")


def test_drawn_scenes_keep_the_folder_of_their_facts(tmp_path: Path) -> None:
    from infinity.data.dataset.manifest_head import SourceRecord
    from infinity.scenes.drawing import ScenesConfig

    opened = facts_job.open_record(
        SourceRecord(source=None, scenes=ScenesConfig(count=2)), str(tmp_path), lambda _: None
    )
    assert opened.earlier_folders(10**6) == ()
