"""The data stage on a local Ray: exact counts, equal bytes, clear errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images
from infinity.data.sources.samples import SourceError
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import facts as dataset_facts
from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec, DatasetError, fingerprint, run
from infinity.jobs.progress import Progress
from infinity.jobs.spec import is_done
from infinity.scenes.drawing import ScenesConfig, training_scene
from infinity.storage import StorageError
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, image_folder, noise
from tests.infinity.data.sources.test_checking import bad_folder
from tests.infinity.storage.backends.test_s3 import answers

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def spec(source: Path | str, output: Path | str, **settings: Any) -> BuildDatasetSpec:
    return BuildDatasetSpec(source=str(source), output=str(output), **settings)


def files_of(report: BuildDatasetReport) -> dict[str, str]:
    folder = Manifest.load(report.manifest).root
    return {
        uri[len(folder) :]: storage.sha256(uri)
        for uri in storage.list_files(folder)
        if uri.endswith((".tar", "manifest.parquet", "thumbnails.png")) and "/facts/" not in uri
    }


def test_read_is_kept_and_dropped_and_unreadable(tmp_path: Path) -> None:
    source = bad_folder(tmp_path / "in")
    (source / "copy.png").write_bytes((source / "good.png").read_bytes())
    with (source / "metadata.jsonl").open("a") as rows:
        rows.write(json.dumps({"file_name": "copy.png", "text": "the copy"}) + "\n")
    report = run(spec(source, tmp_path / "out", max_unreadable_share=0.9))
    counts = report.summary.counts
    assert counts == {
        "read": 14,
        "kept": 1,
        "unreadable": 7,
        "dropped_aspect_ratio": 1,
        "dropped_caption_control_characters": 1,
        "dropped_caption_missing": 1,
        "dropped_caption_too_short": 1,
        "dropped_duplicate": 1,
        "dropped_small_side": 1,
    }
    assert counts["read"] == sum(number for name, number in counts.items() if name != "read")
    assert sum(report.unreadable.values()) == 7
    assert report.summary.examples["duplicate"] == ("copy.png (40 x 40): 'the copy', same as good.png",)
    assert Manifest.load(report.manifest).head.counts == counts


def test_every_picture_can_be_loaded_and_the_report_says_what_there_is(tmp_path: Path) -> None:
    source = good_folder(tmp_path / "in", 20, sizes=[(40, 40), (60, 40)])
    report = run(spec(source, tmp_path / "out", samples_per_shard=4, validation_share=0.2))
    manifest, summary = Manifest.load(report.manifest), report.summary
    assert summary.ratios == {"1.000": 10, "1.500": 10}
    assert summary.splits == {"train": 16, "validation": 4}
    assert summary.num_shards == len(manifest.head.shards) == len(list((tmp_path / "out").rglob("*.tar")))
    for row, (name, size) in enumerate(
        zip(manifest.table["source"].to_pylist(), manifest.table["height_px"].to_pylist(), strict=True)
    ):
        seed = int(name[7:10])
        assert manifest.captions([row]) == [f"picture {seed}"]
        np.testing.assert_array_equal(load_images(manifest, [row], (size, 40))[0], noise(size, 40, seed))
    for shard in manifest.head.shards:
        assert storage.sha256(storage.join(manifest.root, shard.path)) == shard.sha256
    assert summary.thumbnails is not None
    with Image.open(summary.thumbnails) as sheet:
        assert sheet.width > 96


def test_bytes_do_not_depend_on_parallelism_or_place(
    tmp_path: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = good_folder(tmp_path / "in", 30)
    first = run(spec(source, tmp_path / "a", samples_per_shard=7))
    assert len(first.summary.caption_examples) == 12

    monkeypatch.setattr(dataset_facts, "open_source", lambda uri, **_: _in_threes(uri))
    with in_process():
        second = run(spec(source, tmp_path / "b", samples_per_shard=7))
    monkeypatch.undo()
    third = run(spec(source, s3_server, samples_per_shard=7))
    assert files_of(first) == files_of(second) == files_of(third)


def _in_threes(uri: str) -> Any:
    from infinity.data.sources.opening import open_source

    return open_source(uri, rows_per_slice=3)


def test_finished_spec_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = good_folder(tmp_path / "in", 4)
    wanted = spec(source, tmp_path / "out", fingerprint=fingerprint(str(source)))
    report = run(wanted)
    assert is_done(wanted)
    monkeypatch.setattr(dataset_facts, "open_source", lambda *_, **__: pytest.fail("computed again"))
    assert run(wanted) == report


def test_interrupted_job_keeps_its_finished_shards(tmp_path: Path) -> None:
    wanted = spec(good_folder(tmp_path / "in", 10), tmp_path / "out", samples_per_shard=3)
    first = run(wanted)
    folder = Path(storage.parent(first.manifest))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tar")}
    assert len(times) == 4
    before = files_of(first)
    (folder / "report.json").unlink()
    (folder / "manifest.parquet").unlink()
    assert files_of(run(wanted)) == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tar")} == times


def test_progress_rises_to_one(tmp_path: Path) -> None:
    heard: list[Progress] = []
    run(spec(good_folder(tmp_path / "in", 4), tmp_path / "out"), progress=heard.append)
    fractions = [progress.fraction for progress in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert heard[-1].message == "4 of 4 pictures kept"


def test_drawn_scenes_become_a_data_set(tmp_path: Path) -> None:
    config = ScenesConfig(count=70, size_px=24)
    report = run(BuildDatasetSpec(scenes=config, output=str(tmp_path), aspect_ratios=(1.0,)))
    manifest = Manifest.load(report.manifest)
    assert report.summary.counts["read"] == report.summary.counts["kept"] == 70
    row = 5
    scene = training_scene(config, int(manifest.table["source"][row].as_py().removeprefix("scene ")))
    np.testing.assert_array_equal(load_images(manifest, [row], (24, 24))[0], scene.image)
    assert manifest.captions([row]) == [scene.prompt.prompt]


def test_photographs_with_the_references_field_names_become_a_data_set(tmp_path: Path, shared: Path) -> None:
    report = run(spec(shared / "data" / "infinity_toy", tmp_path))
    assert report.summary.counts == {"read": 10, "kept": 5, "unreadable": 0, "dropped_caption_missing": 5}
    assert report.summary.ratios == {"1.500": 5}
    assert report.summary.splits == {"train": 4, "validation": 1}


def test_folder_without_a_usable_picture_is_a_clear_error(tmp_path: Path) -> None:
    silent = image_folder(tmp_path / "silent", {"x.png": encoded(noise())}, [{"file_name": "x.png", "text": None}])
    with pytest.raises(
        DatasetError, match=r"no captions at all: caption_missing 1 of 1 pictures; give each a row with a text"
    ):
        run(spec(silent, tmp_path / "out"))
    small = image_folder(tmp_path / "small", {"x.png": encoded(noise(9, 9))}, [{"file_name": "x.png", "text": "small"}])
    with pytest.raises(DatasetError, match=r"no picture is left of 1 \(small_side 1\); for example x.png \(9 x 9\)"):
        run(spec(small, tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="found no files; expected an image folder"):
        run(spec(tmp_path / "empty", tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("report.json"))


def test_too_many_unreadable_pictures_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"7 of 13 pictures cannot be read \(.*truncated 1.*\), more than the allowed share"
    ):
        run(spec(bad_folder(tmp_path / "in"), tmp_path / "out"))


def test_source_that_changed_since_it_was_planned_is_a_clear_error(tmp_path: Path) -> None:
    source = good_folder(tmp_path / "in", 3)
    planned = spec(source, tmp_path / "out", fingerprint=fingerprint(str(source)))
    (source / "images" / "000.png").write_bytes(encoded(noise(seed=77)))
    with pytest.raises(DatasetError, match="the source changed since the job was planned"):
        run(planned)


def test_missing_bucket_is_a_clear_error_for_source_and_output(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'"):
        run(spec("s3://no-such-bucket/in", tmp_path / "out"))
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'"):
        run(spec(good_folder(tmp_path / "in", 3), "s3://no-such-bucket/out"))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"image_path": "s3://no-such-bucket/x.jpg", "text": "a cat"}\n')
    # This one is met by a worker; the error is the worker's own, without the trace of its internals.
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'") as caught:
        run(spec(lines, tmp_path / "out", roots=("s3://no-such-bucket",)))
    assert "Traceback" not in str(caught.value)


def test_output_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        run(spec(good_folder(tmp_path / "in", 3), tmp_path / "file"))


def test_wrong_credentials_are_a_clear_error_for_source_and_output(tmp_path: Path, s3_server: str) -> None:
    refused = r"S3 refused the credentials \(InvalidAccessKeyId\); check AWS_ACCESS_KEY_ID"
    with answers("ListObjectsV2", lambda: (403, "InvalidAccessKeyId")), pytest.raises(StorageError, match=refused):
        run(spec(f"{s3_server}/in", tmp_path / "out"))
    with answers("PutObject", lambda: (403, "InvalidAccessKeyId")), pytest.raises(StorageError, match=refused):
        run(spec(good_folder(tmp_path / "in", 3), s3_server))


def test_no_space_left_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    source = good_folder(tmp_path / "in", 3)
    monkeypatch.setattr("infinity.storage.backends.local.os.write", full)
    with pytest.raises(StorageError, match="no space left on the disk; free some or choose another place"):
        run(spec(source, tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected either a source or scenes, got neither"),
        ({"source": "x", "scenes": ScenesConfig(count=1)}, "got both"),
        ({"source": "x", "aspect_ratios": ()}, "expected at least one, all positive"),
        ({"source": "x", "validation_share": 1.0}, "validation_share: expected 0 to below 1"),
        ({"source": "x", "samples_per_shard": 0}, "expected at least 1, got 0"),
    ],
)
def test_impossible_spec_is_a_clear_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BuildDatasetSpec(output="out", **settings)


def test_spec_survives_json() -> None:
    wanted = BuildDatasetSpec(output="out", scenes=ScenesConfig(count=3), aspect_ratios=(1.0, 1.5))
    assert BuildDatasetSpec.parse(wanted.dump()) == wanted
    assert wanted.replace(output="elsewhere").digest() == wanted.digest()
    assert wanted.replace(seed=1).digest() != wanted.digest()
