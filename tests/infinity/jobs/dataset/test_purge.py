"""A purge leaves nothing of the listed pictures below the output, wherever it is killed, and harms nothing else."""

import hashlib
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity import storage
from infinity.cli import app
from infinity.data.curation.storing import StoringConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.verify import verify
from infinity.data.images.decoding import decode
from infinity.data.images.fingerprint import measure_fingerprint
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import purge as purging
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.purge import collect_garbage, purge
from tests.fixtures.pictures_on_disk import encoded, image_folder, noise

CAPTION = "somebody who wants to be forgotten"
URL = "https://example.com/somebody.png"
SECRET = encoded(noise(seed=500))


def built(top: Path, **settings: object) -> Manifest:
    """Ten pictures in shards of four, one of which must go."""
    files = {f"{i}.png": encoded(noise(seed=i)) for i in range(9)} | {"somebody.png": SECRET}
    rows: list[dict[str, str]] = [{"file_name": f"{i}.png", "text": f"picture {i}"} for i in range(9)]
    rows.insert(4, {"file_name": "somebody.png", "text": CAPTION, "url": URL})
    source = image_folder(top / "in", files, rows)
    spec = BuildDatasetSpec(source=str(source), output=str(top / "out"), samples_per_shard=4, validation_share=0.0)
    with in_process():
        return Manifest.load(run(spec.replace(**settings)).manifest)


def traces(out: Path) -> list[str]:
    """Files below the output that hold anything of the picture: in bytes, or in a cell of a Parquet file."""
    sums = {hashlib.sha256(SECRET).hexdigest(), hashlib.sha256(SECRET).digest()}
    thumbnail = measure_fingerprint(decode(SECRET, 10**6).image).thumbnail.tobytes()
    needles: list[bytes] = [SECRET, CAPTION.encode(), URL.encode(), thumbnail]
    needles += [value.encode() if isinstance(value, str) else value for value in sums]
    found = []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(io.BytesIO(data))
            data += repr(table.schema.metadata).encode() + repr(table.to_pylist()).encode()
            needles += [repr(value).encode() for value in (*sums, thumbnail)]
        if any(needle in data for needle in needles):
            found.append(path.relative_to(out).as_posix())
    return found


def listed(top: Path, manifest: Manifest, kind: str) -> Path:
    row = next(row for row in manifest.table.to_pylist() if row["caption"] == CAPTION)
    value = {"url": URL, "domain": "example.com", "sha256": row["sha256"], "original": row["original_sha256"]}
    value |= {"pixels": row["pixels_sha256"], "phash": f"{row['phash']:016x}"}
    name = "sha256" if kind in ("original", "pixels") else kind
    (top / "list.txt").write_text(f"{name}:{value[kind]}\n")
    return top / "list.txt"


def take_down(top: Path, manifest: Manifest, kind: str, *options: str) -> tuple[Manifest, str]:
    with in_process():
        done = CliRunner().invoke(
            app, ["data", "takedown", manifest.uri, str(listed(top, manifest, kind)), *options], env={"COLUMNS": "300"}
        )
    assert done.exit_code == 0, done.output
    line = next(line for line in done.output.splitlines() if "pictures left" in line)
    return Manifest.load(line.split()[-1]), done.output


@pytest.mark.parametrize("kind", ["sha256", "original", "pixels", "url", "domain", "phash"])
def test_after_a_purge_nothing_is_left_of_the_picture(tmp_path: Path, kind: str) -> None:
    manifest = built(tmp_path)
    assert traces(tmp_path / "out")
    child, said = take_down(tmp_path, manifest, kind, "--purge")
    assert traces(tmp_path / "out") == []
    assert "deleted: " in said
    assert f"the source {tmp_path}/in" in said
    assert (len(child), verify(child)) == (9, ())
    assert not storage.exists(manifest.uri)


def test_after_a_purge_in_s3_nothing_is_left_of_the_picture(tmp_path: Path, s3_server: str) -> None:
    manifest = built(tmp_path, output=f"{s3_server}/out")
    storage.download_folder(f"{s3_server}/out", tmp_path / "before")
    assert traces(tmp_path / "before")
    child, _ = take_down(tmp_path, manifest, "url", "--purge")
    storage.download_folder(f"{s3_server}/out", tmp_path / "after")
    assert traces(tmp_path / "after") == []
    assert (len(child), verify(child)) == (9, ())


@pytest.mark.parametrize("side_px", [None, 24])
def test_reduced_pictures_and_names_go_too_and_a_later_version_keeps_it_out(
    tmp_path: Path, side_px: int | None
) -> None:
    manifest = built(tmp_path, storing=StoringConfig(side_px=side_px), name="toy")
    child, _ = take_down(tmp_path, manifest, "url", "--purge", "--name", "toy")
    assert traces(tmp_path / "out") == []
    spec = BuildDatasetSpec(
        source=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        parent=child.uri,
        storing=StoringConfig(side_px=side_px),
        validation_share=0.0,
    )
    with in_process():
        again = Manifest.load(run(spec).manifest)
    assert CAPTION not in again.captions(range(len(again)))
    assert again.head.counts["dropped_taken_down"] == 1


def test_without_a_purge_the_command_says_that_older_versions_hold_the_picture(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    _, said = take_down(tmp_path, manifest, "sha256")
    assert "older versions still hold the pictures; the same command with --purge deletes them" in said
    assert (storage.exists(manifest.uri), verify(manifest)) == (True, ())


def test_a_version_that_does_not_come_before_stays_and_is_named(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    other = built(tmp_path, seed=7, validation_share=0.3)
    child, said = take_down(tmp_path, manifest, "sha256", "--purge")
    assert f"still held by {other.uri}" in said
    assert (verify(other), verify(child)) == ((), ())


def test_a_purge_that_is_killed_at_any_deletion_ends_when_it_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = storage.delete_tree
    for number in range(1, 30):
        top = tmp_path / str(number)
        manifest = built(top)
        takedown = TakedownList(urls=(URL,))
        spec = BuildDatasetSpec.from_json(
            {**manifest.head.spec, "output": manifest.root, "parent": manifest.uri, "source": None, "fingerprint": ""}
            | {"takedown": takedown.hidden().to_json()}
        )
        with in_process():
            child = Manifest.load(run(spec).manifest)
        left = number

        def killed(uri: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            delete(uri)

        monkeypatch.setattr(purging.storage, "delete_tree", killed)
        try:
            purge(child, takedown)
        except KeyboardInterrupt:
            monkeypatch.setattr(purging.storage, "delete_tree", delete)
            purge(child, takedown)
        else:
            break
        finally:
            monkeypatch.setattr(purging.storage, "delete_tree", delete)
        assert traces(top / "out") == [], number
        assert verify(child) == ()
    assert 4 <= number < 29


def test_garbage_is_what_no_version_names(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    out = tmp_path / "out"
    (out / "shards" / "orphan.tar").write_bytes(b"x")
    (out / "shards" / ".orphan.0123.part").write_bytes(b"x")
    about = {"info": {"path": "shards/orphan.tar"}}
    (out / "shards" / "index" / "0.json").write_text(json.dumps(about))
    assert collect_garbage(str(out), 3600) == {}
    assert collect_garbage(str(out), 0, dry_run=True) == {"indices": 1, "shards": 1, "drafts": 1}
    done = CliRunner().invoke(app, ["data", "gc", str(out), "--older-than-hours", "0"])
    assert "deleted: 1 indices, 1 shards, 1 drafts" in done.output
    assert collect_garbage(str(out), 0) == {}
    assert verify(manifest) == ()
    assert Image.open(io.BytesIO(manifest.read_image(0)))
