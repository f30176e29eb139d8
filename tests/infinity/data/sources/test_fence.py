"""What lies outside of a source is named with its reason, and its bytes are nowhere, whichever way leads to it."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.curation.facts import measure_slice
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources import quarantine
from infinity.data.sources.opening import fingerprint, open_source
from infinity.data.sources.quarantine import Quarantine
from infinity.data.sources.samples import Record, SourceError
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.sources import recorded_sources
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, noise

SECRET = encoded(noise(seed=77), "PNG") + b"the secret"
"""A picture that would be kept, and bytes that a quarantine would keep if it were none."""


def lines(*names: str, column: str = "file_name") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        rows = [{column: name.replace("{top}", str(folder.parent)), "text": "taken"} for name in names]
        with (folder / "metadata.jsonl").open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    return write


def link(target: str, name: str = "images/link.png", caption: bool = True) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        os.symlink(target.replace("{top}", str(folder.parent)), folder / name)
        if caption:
            lines(name)(folder)

    return write


def folder_link(folder: Path) -> None:
    os.symlink("..", folder / "up")
    lines("up/secret.png", "up/secrets/0.png")(folder)


def chain_of_links(folder: Path) -> None:
    os.symlink("two.png", folder / "one.png")
    os.symlink("images/../../secret.png", folder / "two.png")
    lines("one.png")(folder)


def csv_row(folder: Path) -> None:
    (folder / "metadata.jsonl").unlink()
    rows = "".join(f"images/{i:03d}.png,picture {i}\n" for i in range(4))
    (folder / "metadata.csv").write_text(f"file_name,text\n{rows}../secret.png,taken\n{folder.parent}/secret.png,a\n")


def only_url(*urls: str) -> Callable[[Path], None]:
    return lines(*urls, column="url")


def parquet(folder: Path) -> None:
    (folder / "metadata.jsonl").unlink()
    names = [f"images/{i:03d}.png" for i in range(4)] + ["../secret.png", str(folder.parent / "secret.png")]
    names += [(folder.parent / "secret.png").as_uri(), "images/../../secret.png"]
    image = [{"bytes": None, "path": name} for name in names]
    pq.write_table(pa.table({"image": image, "text": [f"picture {i}" for i in range(8)]}), folder / "x.parquet")


def parquet_url(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    (folder / "metadata.jsonl").unlink()
    data = [encoded(noise(seed=i)) for i in range(4)]
    urls = [*("https://example.com/x.png",) * 4, (folder.parent / "secret.png").as_uri()]
    columns = {"image": pa.array([*data, None], pa.binary()), "url": urls, "text": [f"picture {i}" for i in range(5)]}
    pq.write_table(pa.table(columns), folder / "x.parquet")


def strangers_quarantine(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    (folder / "metadata.jsonl").unlink()
    rows, problem = Quarantine(), UnreadableError("missing_file", "gone")
    for number in range(4):
        image = encoded(noise(seed=number))
        rows.add(Record(row=number, name=f"{number}", image=image, caption=f"picture {number}"), problem, image)
    for image in (
        str(folder.parent / "secret.png"),
        f"{folder}/../secret.png",
        (folder.parent / "secret.png").as_uri(),
    ):
        rows.add(Record(row=9, name="secret", image=image, caption="taken"), problem)
    storage.write_bytes(str(folder / "0.parquet"), quarantine.to_bytes(rows.table()))


def linked_table(folder: Path) -> None:
    (folder.parent / "rows.jsonl").write_text('{"file_name": "secret.png", "text": "the secret"}\n')
    (folder / "b").mkdir()
    os.symlink("../../rows.jsonl", folder / "b" / "metadata.jsonl")


def linked_shard(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    (folder / "metadata.jsonl").unlink()
    for path in (folder / "0.tar", folder.parent / "secret.tar"):
        with tarfile.open(path, "w") as tar:
            for number in range(4):
                data = encoded(noise(seed=number)) if path.parent == folder else SECRET
                for ending, content in (("png", data), ("txt", b"a caption")):
                    info = tarfile.TarInfo(f"{number}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    os.symlink("../secret.tar", folder / "1.tar")


WAYS: dict[str, Callable[[Path], None]] = {
    "link to a picture": link("../../secret.png"),
    "absolute link": link("{top}/secret.png"),
    "link that no row names": link("../../secret.png", caption=False),
    "link to no picture": link("../../secret.txt", "images/note.png"),
    "link to a folder": folder_link,
    "chain of links": chain_of_links,
    "climbing name": lines("../secret.png", "images/../../secret.png", "./../secret.png"),
    "absolute name": lines("{top}/secret.png"),
    "absolute name of the reference": lines("{top}/secret.png", "../secret.png", column="image_path"),
    "file URI": lines("file://{top}/secret.png", "file://localhost{top}/secret.png", "FILE://{top}/secret.png"),
    "file URI with escapes": lines("file://{top}/in/%2e%2e/secret.png"),
    "address that is none": only_url("file://{top}/secret.png", "{top}/secret.png", "../secret.png", "s3://b/k"),
    "csv": csv_row,
    "parquet": parquet,
    "address in a parquet": parquet_url,
    "quarantine": strangers_quarantine,
    "link to a table": linked_table,
    "link to a shard": linked_shard,
}


def source_with(top: Path, way: str) -> Path:
    folder = good_folder(top / "in", 4)
    (top / "secret.png").write_bytes(SECRET)
    (top / "secret.txt").write_bytes(b"the secret")
    (top / "secrets").mkdir()
    (top / "secrets" / "0.png").write_bytes(SECRET)
    WAYS[way](folder)
    return folder


def measured(folder: Path, roots: tuple[str, ...] = ()) -> tuple[list[str | None], bytes]:
    """Problems of all rows, and the bytes of all facts and quarantines."""
    problems: list[str | None] = []
    kept = b""
    for piece in open_source(str(folder), roots=roots).slices:
        part = measure_slice(piece, 10**6)
        problems += part.facts["problem"].to_pylist()
        kept += b"".join(value for value in part.quarantine["data"].to_pylist())
        kept += b"".join(value for value in part.facts["content"].to_pylist() if value)
    return problems, kept


@pytest.mark.parametrize("way", WAYS)
def test_nothing_outside_is_read_and_every_row_that_names_it_has_its_reason(tmp_path: Path, way: str) -> None:
    folder = source_with(tmp_path, way)
    problems, kept = measured(folder)
    assert problems.count(None) == 4
    assert set(problems) - {None} <= {"outside_source", "url_scheme", "missing_file"}
    assert {"outside_source", "url_scheme"} & set(problems)
    assert b"the secret" not in kept
    assert quarantine.hashlib.sha256(SECRET).digest() not in kept
    assert fingerprint(str(folder)) == fingerprint(str(folder))


@pytest.mark.parametrize("way", WAYS)
def test_an_allowed_root_opens_the_way(tmp_path: Path, way: str) -> None:
    folder = source_with(tmp_path, way)
    problems, _ = measured(folder, (str(tmp_path),))
    assert "outside_source" not in problems


@pytest.mark.parametrize("way", ["link to a picture", "absolute name", "quarantine", "parquet"])
def test_no_file_below_the_output_holds_a_byte_of_the_outside(tmp_path: Path, way: str) -> None:
    folder, out = source_with(tmp_path, way), tmp_path / "out"
    with in_process():
        report = run(BuildDatasetSpec(source=str(folder), output=str(out)))
    assert report.summary.counts["kept"] == 4
    assert report.unreadable["outside_source"] >= 1
    for path in out.rglob("*"):
        assert path.is_dir() or b"the secret" not in path.read_bytes()


def test_links_and_names_that_stay_inside_are_read(tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "in", 2)
    (folder / "tables").mkdir()
    (folder / "metadata.jsonl").rename(folder / "tables" / "metadata.jsonl")
    os.symlink("../images", folder / "tables" / "images")
    os.symlink("000.png", folder / "images" / "link.png")
    names = ("../images/000.png", "images/001.png", f"{folder}/images/000.png", (folder / "images/001.png").as_uri())
    rows = [{"file_name": name, "text": "a"} for name in (*names, "images/link.png")]
    (folder / "tables" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems, _ = measured(folder)
    assert set(problems) == {None}


def test_a_folder_of_nothing_but_links_to_other_places_says_so(tmp_path: Path) -> None:
    """As caches of model hubs lay data sets out."""
    (tmp_path / "blobs").mkdir()
    pq.write_table(pa.table({"image": [encoded(noise())], "text": ["a"]}), tmp_path / "blobs" / "0123")
    (tmp_path / "snapshot").mkdir()
    os.symlink("../blobs/0123", tmp_path / "snapshot" / "x.parquet")
    with pytest.raises(SourceError, match=r"1 links that lead out of it.*allow their folder as a root"):
        open_source(str(tmp_path / "snapshot"))
    assert measured(tmp_path / "snapshot", (str(tmp_path / "blobs"),))[0] == [None]


@pytest.mark.parametrize("name", ["../other/x.png", "s3://other-bucket/x.png", "/etc/passwd", "file:///etc/passwd"])
def test_a_table_in_a_bucket_names_nothing_outside_of_its_prefix(s3_server: str, name: str) -> None:
    storage.write_bytes(f"{s3_server}/other/x.png", SECRET)
    storage.write_text(f"{s3_server}/in/rows.jsonl", json.dumps({"image_path": name, "text": "a"}) + "\n")
    for source in (f"{s3_server}/in", f"{s3_server}/in/rows.jsonl"):
        (record,) = (record for piece in open_source(source).slices for record in piece.read())
        assert record.problem is not None
        assert record.problem.reason == "outside_source"


def test_an_export_of_a_strangers_quarantine_copies_no_file_of_ours(tmp_path: Path) -> None:
    folder = source_with(tmp_path, "quarantine")
    assert quarantine.export(str(folder), str(tmp_path / "export")) == 7
    rows = [json.loads(line) for line in (tmp_path / "export" / "metadata.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rows].count("outside_source") == 3
    assert all(b"the secret" not in path.read_bytes() for path in (tmp_path / "export").iterdir())


def built(tmp_path: Path) -> Manifest:
    with in_process():
        report = run(BuildDatasetSpec(source=str(good_folder(tmp_path / "in", 4)), output=str(tmp_path / "out")))
    return Manifest.load(report.manifest)


@pytest.mark.parametrize("shard", ["../secret.tar", "shards/../../secret.tar", "a/../shards/x.tar", "link/x.tar"])
def test_a_manifest_names_no_shard_outside_of_its_data_set(tmp_path: Path, shard: str) -> None:
    manifest = built(tmp_path)
    (tmp_path / "secret.tar").write_bytes(SECRET)
    os.symlink(tmp_path, tmp_path / "out" / "link")
    column = manifest.table.schema.get_field_index("shard")
    table = manifest.table.set_column(column, "shard", pa.array([shard] * len(manifest), pa.string()))
    head = manifest.head.replace(shards=(manifest.head.shards[0].replace(path=shard),))
    evil = Manifest.write(str(tmp_path / "out" / "evil" / "manifest.parquet"), head, [table])
    from infinity.data.dataset.verify import verify

    for use in (lambda: evil.read_image(0), lambda: verify(evil)):
        with pytest.raises(ManifestError, match="leads out of it"):
            use()
    spec = BuildDatasetSpec(parent=evil.uri, output=str(tmp_path / "out"))
    with in_process(), pytest.raises(ManifestError, match="leads out of it"):
        run(spec)


def test_a_manifest_whose_sources_have_no_fingerprint_opens_none(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    assert recorded_sources(manifest) == manifest.head.sources
    manifest.head = manifest.head.replace(sources=(manifest.head.sources[0].replace(fingerprint=""),))
    with pytest.raises(ManifestError, match="expected the fingerprint of every source"):
        recorded_sources(manifest)
