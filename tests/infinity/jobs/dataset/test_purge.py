"""A purge leaves nothing of the listed pictures below the output, wherever it is killed, and harms nothing else."""

import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity import storage
from infinity.cli import app
from infinity.data.curation.storing import StoringConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_parts import PartedColumns
from infinity.data.dataset.parquet_columns import ParquetColumns
from infinity.data.dataset.verify import verify
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.images.fingerprint import measure_fingerprint
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import purge as purge_job
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.purge import collect_garbage, purge
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise

CAPTION = "somebody who wants to be forgotten"
URL = "https://example.com/somebody.png"
SECRET = encoded(noise(seed=500))


def built(top: Path, secret: bytes = SECRET, **settings: object) -> Manifest:
    """Ten pictures in shards of four, one of which must go."""
    files = {f"{i}.png": encoded(noise(seed=i)) for i in range(9)} | {"somebody.png": secret}
    rows: list[dict[str, str]] = [{"file_name": f"{i}.png", "text": f"picture {i}"} for i in range(9)]
    rows.insert(4, {"file_name": "somebody.png", "text": CAPTION, "url": URL})
    source = image_folder(top / "in", files, rows)
    spec = BuildDatasetSpec(source=str(source), output=str(top / "out"), samples_per_shard=4, validation_share=0.0)
    with in_process():
        return Manifest.load(run(spec.replace(**settings)).manifest)


def thumbnail_of(secret: bytes) -> bytes:
    """The small picture that facts and dropped rows keep; that of the secret itself where it cannot be read."""
    try:
        return measure_fingerprint(decode(secret, 10**6).image).thumbnail.tobytes()
    except UnreadableError:
        return secret


def traces(out: Path, secret: bytes = SECRET) -> list[str]:
    """Files below the output that hold anything of the picture: in bytes, or in a cell of a Parquet file."""
    sums = {hashlib.sha256(secret).hexdigest(), hashlib.sha256(secret).digest()}
    thumbnail = thumbnail_of(secret)
    needles: list[bytes] = [secret, CAPTION.encode(), URL.encode(), thumbnail]
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


SMALL, BROKEN = encoded(noise(10, 10, seed=501)), encoded(noise(seed=502))[:-60]
"""Pictures that no version holds: one is dropped by a rule, one lies in quarantine."""


def entry_of(secret: bytes, kind: str) -> str:
    """A line of a list that names the picture."""
    if kind == "phash":
        return f"phash:{measure_fingerprint(decode(secret, 10**6).image).phash:016x}"
    sums = {"sha256": hashlib.sha256(secret).hexdigest()}
    return f"{kind}:{({'url': URL, 'domain': 'example.com'} | sums)[kind]}"


@pytest.mark.parametrize(
    ("secret", "kind"),
    [(SMALL, kind) for kind in ("url", "domain", "sha256", "phash")]
    + [(BROKEN, kind) for kind in ("domain", "sha256")],
    ids=lambda value: value if isinstance(value, str) else "small" if value == SMALL else "broken",
)
def test_after_a_purge_nothing_is_left_of_a_picture_that_was_never_kept(
    tmp_path: Path, secret: bytes, kind: str
) -> None:
    manifest = built(tmp_path, secret)
    assert traces(tmp_path / "out", secret)
    (tmp_path / "list.txt").write_text(entry_of(secret, kind))
    with in_process():
        call = ["data", "takedown", manifest.uri, str(tmp_path / "list.txt"), "--purge"]
        done = CliRunner().invoke(app, call, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert traces(tmp_path / "out", secret) == []
    child = Manifest.load(next(line for line in done.output.splitlines() if "pictures left" in line).split()[-1])
    assert (len(child), verify(child)) == (9, ())


def test_a_purge_of_a_dropped_picture_that_is_killed_at_any_deletion_ends_when_it_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = without_it(built(tmp_path / "whole", SMALL))
    real, number, done = storage.delete_tree, 0, False
    while not done:
        top, left = tmp_path / f"copy{number}", [number]
        shutil.copytree(tmp_path / "whole", top)
        copied = Manifest.load(child.uri.replace(f"{tmp_path}/whole", str(top)))

        def killed(uri: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            real(uri)

        monkeypatch.setattr(storage, "delete_tree", killed)
        try:
            purge(copied, TakedownList(urls=(URL,)))
            done = True
        except Killed:
            monkeypatch.setattr(storage, "delete_tree", real)
            purge(copied, TakedownList(urls=(URL,)))
        monkeypatch.setattr(storage, "delete_tree", real)
        assert traces(top / "out", SMALL) == [], number
        assert verify(copied) == ()
        number += 1
    assert number > 4


def test_pages_and_stores_of_latents_go_too_and_trainings_are_named(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    out = tmp_path / "out"
    for kind in ("encoded-1", "transformer-2", "encoded-3"):
        version = "dataset-0123" if kind.endswith("3") else storage.name(storage.parent(manifest.uri))
        (out / kind).mkdir()
        (out / kind / "spec.json").write_text(json.dumps({"manifest": f"runs/{version}/manifest.parquet"}))
        (out / kind / "part.safetensors").write_bytes(b"made of pictures")
    pages = {"own": CAPTION, "address": URL, "name": "somebody.png (40 x 40)", "other": "picture 3"}
    for name, text in pages.items():
        (out / f"{name}.html").write_text(f"<p>{text}</p>")
    child, said = take_down(tmp_path, manifest, "sha256", "--purge")
    assert traces(out) == []
    assert sorted(path.stem for path in out.glob("*.html")) == ["other"]
    assert sorted(path.name for path in out.glob("*-[123]")) == ["encoded-3", "transformer-2"]
    assert "3 pages, 1 stores of latents" in said
    assert f"not touched, and made from them: {out}/transformer-2 (weights, samples and sheets)" in said
    assert verify(child) == ()


def test_drafts_of_writers_that_died_go_too_and_young_ones_are_named(tmp_path: Path) -> None:
    child = without_it(built(tmp_path))
    places = [tmp_path / "out" / folder for folder in ("shards", "reduced")]
    drafts = [place / f".{name}.tar.0123abcd.part" for place in places for name in ("old", "young")]
    for draft in drafts:
        draft.parent.mkdir(exist_ok=True)
        draft.write_bytes(SECRET)
        if "old" in draft.name:
            os.utime(draft, (time.time() - 3600, time.time() - 3600))
    done = purge(child, TakedownList(urls=(URL,)))
    assert [draft.exists() for draft in drafts] == [False, True] * 2
    assert (done.deleted["drafts"], done.writing) == (2, tuple(sorted(str(each) for each in drafts[1::2])))


def test_a_page_that_tells_of_a_dropped_picture_goes_too(tmp_path: Path) -> None:
    child = without_it(built(tmp_path, SMALL))
    for name, text in {"gallery": "somebody.png (10 x 10)", "other": "x.png"}.items():
        (tmp_path / "out" / f"{name}.html").write_text(f"<p>{text}</p>")
    purge(child, TakedownList(urls=(URL,)))
    assert [path.stem for path in (tmp_path / "out").glob("*.html")] == ["other"]


@pytest.mark.parametrize("kind", ["url", "sha256"])
@pytest.mark.parametrize("side_px", [None, 24])
def test_reduced_pictures_and_names_go_too_and_a_later_version_keeps_it_out(
    tmp_path: Path, side_px: int | None, kind: str
) -> None:
    manifest = built(tmp_path, storing=StoringConfig(side_px=side_px), name="toy")
    child, _ = take_down(tmp_path, manifest, kind, "--purge", "--name", "toy")
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


def test_a_list_without_an_entry_is_refused_and_entries_that_name_no_picture_are_told(tmp_path: Path) -> None:
    manifest = built(tmp_path)

    def said(text: str) -> str:
        (tmp_path / "list.txt").write_text(text)
        with in_process():
            done = CliRunner().invoke(app, ["data", "takedown", manifest.uri, str(tmp_path / "list.txt")])
        return f"{done.exit_code} {' '.join(done.output.split())}"

    for text in ("", "# url:https://example.com/x.png\n\n", "{}"):
        assert said(text).startswith("1 ")
        assert "expected at least one entry" in said(text)
    told = f"2 entries of the list name no picture of this version, for example url:{URL}?"
    assert told in said(f"url:{URL}\nurl:{URL}?\ndomain:example.org\n")


def test_garbage_is_not_looked_for_where_there_is_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "gc", str(tmp_path / "misspelled")])
    assert (done.exit_code, "there is no such folder" in " ".join(done.output.split())) == (1, True)


def test_a_version_that_does_not_come_before_stays_and_is_named(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    other = built(tmp_path, seed=7, validation_share=0.3)
    child, said = take_down(tmp_path, manifest, "sha256", "--purge")
    assert f"still held by {other.uri}" in said
    assert (verify(other), verify(child)) == ((), ())


OPERATIONS = ("list_files", "read_bytes", "write_text", "delete_tree", "exists")
"""All that a purge asks of the storage."""


class Killed(BaseException):
    """A process that ends at once."""


def without_it(manifest: Manifest) -> Manifest:
    """Return the next version, without the listed picture."""
    spec = BuildDatasetSpec.from_json(
        {**manifest.head.spec, "output": manifest.root, "parent": manifest.uri, "source": None, "fingerprint": ""}
        | {"takedown": TakedownList(urls=(URL,)).hidden().to_json()}
    )
    with in_process():
        return Manifest.load(run(spec.replace(partitions=2 if manifest.parts else None)).manifest)


@pytest.mark.parametrize("partitions", [None, 2])
def test_a_purge_that_is_killed_at_any_operation_of_the_storage_ends_when_it_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int | None, exhaustive: bool
) -> None:
    child = without_it(built(tmp_path / "whole", partitions=partitions))
    assert bool(child.parts) == bool(partitions)
    left = 10**9

    def counted(name: str) -> object:
        real = getattr(storage, name)

        def called(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*args, **options)

        return called

    for name in OPERATIONS:
        monkeypatch.setattr(storage, name, counted(name))
    number, done = 0, False
    while not done:
        top = tmp_path / "copy"
        left = 10**9
        shutil.rmtree(top, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", top)
        copied = Manifest.load(child.uri.replace(f"{tmp_path}/whole", str(top)))
        left = number
        try:
            purge(copied, TakedownList(urls=(URL,)))
            done = True
        except Killed:
            left = 10**9
            purge(copied, TakedownList(urls=(URL,)))
        left = 10**9
        assert traces(top / "out") == [], number
        assert verify(copied) == ()
        number += 1 if exhaustive else 2
    assert number > 20


def test_a_purge_of_a_manifest_in_parts_deletes_what_one_of_a_whole_manifest_deletes(tmp_path: Path) -> None:
    children = [without_it(built(tmp_path / str(partitions), partitions=partitions)) for partitions in (None, 3)]
    whole, parted = (purge(child, TakedownList(urls=(URL,))) for child in children)
    assert parted.deleted == whole.deleted
    assert [traces(tmp_path / name / "out") for name in ("None", "3")] == [[], []]


def test_a_purge_decodes_no_more_than_a_row_group_of_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = without_it(built(tmp_path, partitions=2))

    def never(*_: object) -> None:
        raise AssertionError("the whole manifest was decoded")

    for name in ("whole", "column", "values"):
        for kind in (ParquetColumns, PartedColumns):
            monkeypatch.setattr(kind, name, never)
    assert purge(child, TakedownList(urls=(URL,))).deleted["versions"] == 1


def test_an_unreadable_row_goes_by_its_address(tmp_path: Path) -> None:
    address = "https://example.com/broken.png"
    rows = [{"file_name": f"{i}.png", "text": f"picture {i}"} for i in range(5)]
    rows += [{"file_name": "broken.png", "text": "nothing", "url": address}]
    files = {f"{i}.png": encoded(noise(seed=i)) for i in range(5)} | {"broken.png": b"\x89PNG"}
    source = image_folder(tmp_path / "in", files, rows)
    with in_process():
        manifest = Manifest.load(run(BuildDatasetSpec(source=str(source), output=str(tmp_path / "out"))).manifest)
    purge(manifest, TakedownList(urls=(address,)))
    held = [path for path in (tmp_path / "out").rglob("*.parquet") if address in repr(pq.read_table(path).to_pylist())]
    assert [path for path in held if path.parent.parent.name in ("facts", "quarantine")] == []


def test_garbage_is_what_no_version_names(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    out = tmp_path / "out"
    (out / "shards" / "orphan.tar").write_bytes(b"x")
    (out / "shards" / ".orphan.0123.part").write_bytes(b"x")
    about = {"info": {"path": "shards/orphan.tar"}}
    (out / "shards" / "index" / "0.json").write_text(json.dumps(about))
    assert collect_garbage(str(out), 3600) == {}
    for root in (str(out), out.as_uri()):
        assert collect_garbage(root, 0, dry_run=True) == {"indices": 1, "shards": 1, "drafts": 1}
    done = CliRunner().invoke(app, ["data", "gc", str(out), "--older-than-hours", "0"])
    assert "deleted: 1 indices, 1 shards, 1 drafts" in done.output
    assert collect_garbage(str(out), 0) == {}
    assert verify(manifest) == ()
    assert Image.open(io.BytesIO(manifest.read_image(0)))


def test_garbage_in_a_bucket_goes_by_its_age(tmp_path: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path)
    storage.upload_folder(tmp_path / "out", s3_server)
    before = storage.list_files(s3_server)
    for number in (0, 1):  # an index goes with its shard, however young it is
        path = f"shards/{number}.tar"
        storage.write_bytes(storage.join(s3_server, path), b"x")
        storage.write_text(storage.join(s3_server, f"shards/index/{number}.json"), json.dumps({"info": {"path": path}}))
    assert collect_garbage(s3_server, 3600) == {}
    monkeypatch.setattr(purge_job, "time", SimpleNamespace(time=lambda: time.time() + 2 * 3600))
    assert collect_garbage(s3_server, 3600) == {"indices": 2, "shards": 2}
    assert storage.list_files(s3_server) == before
