"""CSV, webdataset shards, address lists and quarantines: the same records whatever the slices and wherever they lie."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources import quarantine
from infinity.data.sources.checking import fetch
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.opening import URL_LIST, fingerprint, open_source
from infinity.data.sources.quarantine import Quarantine
from infinity.data.sources.samples import Record, SourceError
from infinity.data.sources.tables import table_rows
from infinity.data.sources.tables.table_rows import cut, lines, quoted_rows
from infinity.data.sources.webdataset import ROWS_PER_SHARD
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.infinity.data.sources.test_opening import check_laws, records

CAPTION = 'two lines,\n"quoted", and a comma'


def shard(path: Path, *samples: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for number, files in enumerate(samples):
            for ending, data in files.items():
                info = tarfile.TarInfo(f"{path.stem}{'x' * 120}/{number:05d}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def csv_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        (folder / f"{i}.png").write_bytes(encoded(noise(seed=i)))
    quoted = '"' + CAPTION.replace('"', '""') + '"'
    rows = ["File_Name,Text,long_caption", f"0.png,{quoted},", "1.png,one,a longer one", "", "2.png,,only long"]
    (folder / "metadata.csv").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([*rows, "3.png,three,", "4.png,four,"]).encode()
    )
    return folder


@pytest.mark.parametrize("rows_per_slice", [1, 2, 64])
def test_csv_folder_gives_its_rows(tmp_path: Path, rows_per_slice: int) -> None:
    source = open_source(str(csv_folder(tmp_path)), rows_per_slice=rows_per_slice)
    found = records(source)
    assert [record.caption for record in found] == [CAPTION, "a longer one", "only long", "three", "four"]
    assert (found[1].caption_long, found[1].caption_short) == ("a longer one", "one")
    assert found[2].caption_long is found[2].caption_short is None
    assert [fetch(record) for record in found] == [encoded(noise(seed=i)) for i in range(5)]
    short = records(open_source(str(tmp_path), captions="short"))
    assert [record.caption for record in short] == [CAPTION, "one", "only long", "three", "four"]
    check_laws(source)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_give_their_samples_in_order(tmp_path: Path, format: int) -> None:
    facts = {"url": "https://example.com/x.png", "long_caption": "a longer one"}
    for name in ("b", "a"):
        samples = [{"png": encoded(noise(seed=i)), "txt": f"{name} {i}".encode()} for i in range(4)]
        samples[2]["json"] = json.dumps(facts).encode()
        samples[3] = {"seg.png": encoded(noise(seed=3)), "json": b'{"caption": "in json", "other": 1}'}
        shard(tmp_path / f"{name}.tar", *samples, format=format)
    source = open_source(str(tmp_path))
    assert (source.kind, len(source.slices)) == ("webdataset", 2)
    found = records(source)
    assert [record.caption for record in found[:4]] == ["a 0", "a 1", "a longer one", "in json"]
    assert (found[2].caption_short, found[2].url) == ("a 2", "https://example.com/x.png")
    assert [record.row for record in found] == [*range(4), *range(ROWS_PER_SHARD, ROWS_PER_SHARD + 4)]
    assert [fetch(record) for record in found[4:]] == [encoded(noise(seed=i)) for i in range(4)]
    check_laws(source)


def test_shards_are_preferred_to_the_tables_that_downloaders_leave_beside_them(tmp_path: Path) -> None:
    shard(tmp_path / "00000.tar", {"jpg": encoded(noise(), "JPEG"), "txt": b"a cat"})
    pq.write_table(pa.table({"url": ["https://example.com"], "caption": ["a cat"]}), tmp_path / "00000.parquet")
    assert open_source(str(tmp_path)).kind == "webdataset"


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl"])
def test_lists_of_addresses_are_recognised(tmp_path: Path, ending: str) -> None:
    rows = [{"URL": f"https://example.com/{i}.jpg", "TEXT": f"picture {i}"} for i in range(3)]
    path = tmp_path / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "," if ending == "csv" else "\t"
        path.write_text("".join(mark.join(row) + "\n" for row in (["URL", "TEXT"], *(row.values() for row in rows))))
    for uri in (str(path), str(tmp_path)):
        source = open_source(uri)
        assert source.kind == URL_LIST
        assert [(r.url, r.caption) for r in records(source)] == [(row["URL"], row["TEXT"]) for row in rows]
        check_laws(source)
    assert fingerprint(str(path)) == fingerprint(str(path))
    with pytest.raises(UnreadableError) as caught:
        fetch(records(open_source(str(path)))[0])  # the data stage itself opens no address
    assert caught.value.reason == "not_accessible"


def test_columns_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("where,what,text\nhttps://example.com/x.jpg,a cat,wrong\n")
    with pytest.raises(SourceError, match="found where,what,text; name the columns"):
        open_source(str(tmp_path / "list.csv"))
    assert fingerprint(str(tmp_path / "list.csv"))
    columns = SourceColumns(url="where", caption="what")
    (record,) = records(open_source(str(tmp_path / "list.csv"), columns=columns))
    assert (record.url, record.caption) == ("https://example.com/x.jpg", "a cat")


def test_quarantine_is_a_source_that_gives_its_rows_once_more(tmp_path: Path) -> None:
    rows = Quarantine()
    problem = UnreadableError("truncated", "cut")
    rows.add(Record(row=7, name="a", image="gone.png", caption="a", url="https://example.com"), problem, b"bytes")
    rows.add(Record(row=8, name="b\ud800", problem=UnreadableError("bad_row", "no"), raw=b"{"), problem)
    rows.add(Record(row=9, name="c", image=str(tmp_path / "large.png")), problem, bytes(quarantine.MAX_KEPT_BYTES + 1))
    storage.write_bytes(str(tmp_path / "0.parquet"), quarantine.to_bytes(rows.table()))
    source = open_source(str(tmp_path))
    assert source.kind == "quarantine"
    first, second, third = records(source)
    assert (first.image, first.caption, first.url) == (b"bytes", "a", "https://example.com")
    assert second.problem is not None
    assert second.raw == b"{"
    assert third.image == str(tmp_path / "large.png")
    assert quarantine.load(str(tmp_path / "0.parquet"))["num_bytes"].to_pylist() == [
        5,
        1,
        quarantine.MAX_KEPT_BYTES + 1,
    ]
    check_laws(source)


def test_every_form_in_s3_equals_the_local_one(tmp_path: Path, s3_server: str) -> None:
    csv_folder(tmp_path / "csv")
    (tmp_path / "tar").mkdir()
    shard(tmp_path / "tar" / "a.tar", *({"png": encoded(noise(seed=i)), "txt": b"a cat"} for i in range(3)))
    (tmp_path / "list.csv").write_text("url,text\nhttps://example.com/x.jpg,a cat\n")
    storage.upload_folder(tmp_path, s3_server)
    for name in ("csv", "tar", "list.csv"):
        here, there = open_source(str(tmp_path / name)), open_source(f"{s3_server}/{name}")
        assert here.kind == there.kind
        assert [(r.row, r.caption) for r in records(here)] == [(r.row, r.caption) for r in records(there)]
        if here.kind != URL_LIST:
            assert [fetch(r) for r in records(here)] == [fetch(r) for r in records(there)]
        check_laws(there)


def test_table_in_s3_names_no_local_file(s3_server: str) -> None:
    storage.write_text(f"{s3_server}/rows.jsonl", '{"image_path": "/etc/passwd", "text": "a"}\n')
    (record,) = records(open_source(f"{s3_server}/rows.jsonl"))
    assert record.problem is not None
    assert record.problem.reason == "outside_source"


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["a,b\n", '"x\ny",b\n', "\n", '"\n', "long" * 10 + "\n", '""",\n']), max_size=12),
    st.integers(1, 4),
)
def test_cut_tables_hold_the_rows_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.csv"
    path.write_text("".join(parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_rows, "MAX_ROW_BYTES", 30)
        patch.setattr(table_rows, "_CHUNK_BYTES", 7)
        for read in (lines, quoted_rows):
            whole = list(read(str(path), 0, None))
            assert sum(row.num_bytes for row in whole) == path.stat().st_size
            spans, num_rows = cut(str(path), read, 0, size)
            assert num_rows == len(whole)
            found = [row for span in spans for row in read(str(path), span.start, span.num_bytes)]
            assert found == whole[: len(found)]
            assert all(row.is_blank for row in whole[len(found) :])
            assert [span.row for span in spans] == [
                whole.index(next(read(str(path), s.start, s.num_bytes))) for s in spans
            ]
