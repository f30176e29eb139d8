"""A slice of addresses becomes one file: every row accounted for, the same bytes every time, fetched once."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.sources.checking import fetch
from infinity.data.sources.download import slices
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.download.slices import SliceCounts, download_slice
from infinity.data.sources.opening import URL_LIST, Slice, open_source
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers import picture_server as server
from tests.fixtures.servers.picture_server import HOST, Site, lookup, picture, plain, serving, status

CONFIG = DownloadConfig(allow_hosts=(HOST,), timeout_s=AGES_S, retries=0)
ANSWERS = {f"/{i}": plain(i) for i in range(8)} | {"/gone": status(404), "/cut": server.short}


def url_list(folder: Path, site: Site) -> Path:
    urls = [site.url(f"/{i}") for i in range(4)] + [site.url("/gone"), None, site.url("/cut"), "http://10.0.0.1/x"]
    texts = [f"picture {i}" for i in range(len(urls))]
    table = pa.table({"URL": urls, "TEXT": texts, "long_caption": [None, "a long one", *[None] * (len(urls) - 2)]})
    pq.write_table(table, folder / "urls.parquet")
    return folder / "urls.parquet"


def only_slice(path: Path) -> Slice:
    source = open_source(str(path))
    assert source.kind == URL_LIST
    (piece,) = source.slices
    return piece


def test_every_row_is_a_picture_or_a_reason_in_the_order_of_the_list(tmp_path: Path) -> None:
    with serving(ANSWERS) as site:
        piece = only_slice(url_list(tmp_path, site))
        counts = download_slice(piece, str(tmp_path / "out" / "0.parquet"), CONFIG, lookup)
    failed = {"address_not_public": 1, "bad_row": 1, "body_incomplete": 1, "http_status": 1}
    assert (counts.read, counts.failed) == (8, failed)
    source = open_source(str(tmp_path / "out"))
    assert source.kind == "Parquet"
    found = [record for part in source.slices for record in part.read()]
    reasons = [record.problem.reason if record.problem else None for record in found]
    assert reasons == [None] * 4 + ["http_status", "bad_row", "body_incomplete", "address_not_public"]
    assert [fetch(record) for record in found[:4]] == [picture(i) for i in range(4)]
    assert [record.caption for record in found] == ["picture 0", "a long one", *(f"picture {i}" for i in range(2, 8))]
    assert (found[1].caption_long, found[1].caption_short) == ("a long one", "picture 1")
    assert found[0].url == site.url("/0")


def test_same_answers_give_the_same_bytes_and_finished_slices_are_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ANSWERS) as site:
        piece = only_slice(url_list(tmp_path, site))
        first = download_slice(piece, str(tmp_path / "a.parquet"), CONFIG, lookup)
        asked = len(site.asked)
        assert download_slice(piece, str(tmp_path / "a.parquet"), CONFIG, lookup) == first
        assert len(site.asked) == asked
        monkeypatch.setattr(slices, "_GROUP_BYTES", 2**24)
        assert download_slice(piece, str(tmp_path / "b.parquet"), CONFIG.replace(connections=1), lookup) == first
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_interrupted_slice_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise storage.StorageError("no space left")

    with serving(ANSWERS) as site:
        piece = only_slice(url_list(tmp_path, site))
        monkeypatch.setattr(slices, "_row", full)
        with pytest.raises(storage.StorageError, match="no space left"):
            download_slice(piece, str(tmp_path / "out.parquet"), CONFIG, lookup)
    assert not storage.exists(str(tmp_path / "out.parquet"))


def test_groups_of_the_file_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "_GROUP_BYTES", 1)
    with serving(ANSWERS) as site:
        counts = download_slice(only_slice(url_list(tmp_path, site)), str(tmp_path / "0.parquet"), CONFIG, lookup)
    assert pq.ParquetFile(tmp_path / "0.parquet").metadata.num_row_groups >= 4
    assert isinstance(counts, SliceCounts)
    assert len([record for part in open_source(str(tmp_path / "0.parquet")).slices for record in part.read()]) == 8


def test_impossible_addresses_are_rows_with_a_reason_and_no_row_ends_a_slice(tmp_path: Path) -> None:
    hosts = [
        "cdn..example.com",
        "a" * 64 + ".x",
        ".x",
        "[::1",
        "x:99999",
        "x:-1",
        "x y",
        "x" * 10_000,
        "\ud800",
        "a\0b",
    ]
    hosts += [
        "xn--\u00e4",
        "unknown.test",
        "例え.テスト",
        "-",
        "_",
        "%",
        "",
        "[]",
        "[::ffff:1.2.3.4]",
        "0x7f.1",
        "1.2.3.4.5",
    ]
    with serving({"/x": plain()}) as site:
        rows = [{"url": site.url("/x"), "text": "good"}]
        rows += [{"url": f"http://{host}/a.png", "text": "bad"} for host in hosts]
        (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (piece,) = open_source(str(tmp_path / "list.jsonl")).slices
        counts = download_slice(piece, str(tmp_path / "0.parquet"), CONFIG, lookup)
    assert counts.read == len(rows)
    assert sum(counts.failed.values()) == len(hosts)
    assert set(counts.failed) <= {"url_malformed", "host_unknown", "address_not_public"}
