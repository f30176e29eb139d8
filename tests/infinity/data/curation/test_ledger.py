"""read = kept + dropped for each reason + quarantined, exactly, whatever a source holds, in every form of source."""

import csv
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.curation.decisions import decide
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import FilterConfig
from infinity.data.sources.opening import open_source
from tests.fixtures.data.pictures_on_disk import encoded, huge_png, noise
from tests.fixtures.faults.hostile_pictures import damaged, others, polyglots

JPEG = encoded(noise(seed=9), "JPEG")
BAD_PICTURES = [huge_png(), *damaged().values(), *others("/nowhere").values(), *list(polyglots().values())[:4]]
BAD_CAPTIONS = [None, "", " ", "x", "a\0b", "a\x1bb", "\ud800 half", "…" * 5000, "a" * 100_000, "12345"]
ODD_SIZES = [encoded(noise(8, 8)), encoded(noise(30, 200)), encoded(noise(1, 1)), encoded(noise(24, 24))]
BAD_LINES = [
    b"{",
    b"[]",
    b"1",
    b"null",
    b'{"a": 1}',
    b"\xff\xfe",
    b"[" * 5000,
    b'{"file_name": 1}',
    b'"x"',
    b"\0\0",
    b"{}",
]
BAD_LINES += [
    b'{"file_name": "../x.png"}',
    b'{"file_name": "/etc/passwd"}',
    b'{"file_name": "gone.png", "text": "gone"}',
]
BAD_LINES += [
    b'{"file_name": "0.png", "text": 1}',
    b'{"file_name": "0.png", "text": ["a"]}',
    b'{"file_name": ""}',
    b"x" * 2**21,
]
BAD_CSV_ROWS = [b"one", b"a,b,c", b"\xff,\xfe", b'"a"b,c', b"../x.png,a", b"/etc/passwd,a", b",", b"gone.png,gone"]
BAD_CSV_ROWS += [b'"open', b"http://127.0.0.1/x.png,a", b"x" * 2**21]

KINDS = sum(map(len, (BAD_PICTURES, BAD_CAPTIONS, ODD_SIZES, BAD_LINES, BAD_CSV_ROWS)))

Row = tuple[bytes, str | None]
"""A picture and its caption."""

captions = st.one_of(st.just("a fine caption"), st.sampled_from(BAD_CAPTIONS), st.text(max_size=20))
pictures = st.one_of(st.integers(0, 5).map(lambda seed: encoded(noise(seed=seed))), st.sampled_from([JPEG, *ODD_SIZES]))
rows = st.lists(
    st.tuples(st.one_of(pictures, st.sampled_from(BAD_PICTURES), st.binary(max_size=50)), captions), max_size=8
)


def json_lines(folder: Path, content: Sequence[Row], bad: Sequence[bytes]) -> int:
    lines = []
    for number, (image, caption) in enumerate(content):
        (folder / f"{number}.png").write_bytes(image)
        lines.append(json.dumps({"file_name": f"{number}.png", "text": caption}).encode())
    (folder / "metadata.jsonl").write_bytes(b"\n".join([*lines, *bad]))
    return len(lines) + len(bad)


def comma_separated(folder: Path, content: Sequence[Row], bad: Sequence[bytes]) -> int:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(("file_name", "text"))
    for number, (image, caption) in enumerate(content):
        (folder / f"{number}.png").write_bytes(image)
        csv.writer(text, lineterminator="\n").writerow((f"{number}.png", caption))
    head = text.getvalue().encode("utf-8", "replace")
    (folder / "metadata.csv").write_bytes(head + b"\n".join(bad))
    return len(content) + len(bad)


def parquet(folder: Path, content: Sequence[Row], bad: Sequence[bytes]) -> int:
    texts = [None if caption is None else caption.encode("utf-8", "replace").decode() for _, caption in content]
    images = pa.array([image for image, _ in content] + [None] * len(bad), pa.binary())
    table = pa.table({"image": images, "text": pa.array(texts + [None] * len(bad), pa.string())})
    pq.write_table(table, folder / "x.parquet", row_group_size=3)
    return table.num_rows


def shard(folder: Path, content: Sequence[Row], bad: Sequence[bytes]) -> int:
    with tarfile.open(folder / "x.tar", "w") as tar:
        for number, (image, caption) in enumerate(content):
            text = [] if caption is None else [("txt", caption.encode("utf-8", "replace"))]
            for ending, data in [("png", image), *text]:
                info = tarfile.TarInfo(f"{number:06d}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        for number, data in enumerate(bad, start=len(content)):
            info = tarfile.TarInfo(f"{number:06d}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return len(content) + len(bad)


FORMS: dict[str, tuple[Callable[..., int], list[bytes]]] = {
    "jsonl": (json_lines, BAD_LINES),
    "csv": (comma_separated, BAD_CSV_ROWS),
    "parquet": (parquet, [b""]),
    "webdataset": (shard, BAD_LINES),
}


def check_ledger(folder: Path, expected: int) -> Any:
    """Measure and decide; the books must balance."""
    source = open_source(str(folder), rows_per_slice=3)
    measured = [measure_slice(piece, FilterConfig().max_pixels) for piece in source.slices]
    facts = pa.concat_tables(part.facts for part in measured)
    decisions = decide(facts, FilterConfig())
    tally = decisions.tally
    quarantined = sum(part.quarantine.num_rows for part in measured)
    joined = sum(each.number for each in source.not_read)  # captions that came in a row of their own
    assert tally.read == facts.num_rows == expected - joined
    assert quarantined == sum(tally.unreadable.values())
    assert tally.read == decisions.kept.num_rows + sum(tally.dropped.values()) + quarantined
    for part in measured:
        for row in part.quarantine.to_pylist():
            assert row["reason"]
            assert row["num_bytes"] == len(row["data"]) or not row["is_whole"]
    return decisions


def test_at_least_forty_kinds_of_malformed_rows_are_drawn_from() -> None:
    assert KINDS >= 40


@pytest.mark.parametrize("form", FORMS)
def test_every_row_is_kept_or_dropped_or_quarantined(form: str, exhaustive: bool) -> None:
    write, bad_rows = FORMS[form]

    @settings(max_examples=200 if exhaustive else 12, derandomize=not exhaustive)
    @given(rows, st.lists(st.sampled_from(bad_rows), max_size=4))
    def check(content: list[Row], bad: list[bytes]) -> None:
        if form == "csv" and b'"open' in bad:
            bad = [*(row for row in bad if row != b'"open'), b'"open']  # last: else the quote may close in a later row
        if not content and not bad:
            return
        with tempfile.TemporaryDirectory() as name:
            check_ledger(Path(name), write(Path(name), content, bad))

    check()


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_is_accounted_for(form: str, tmp_path: Path) -> None:
    write, bad_rows = FORMS[form]
    content = [(image, f"caption {i}") for i, image in enumerate(BAD_PICTURES + ODD_SIZES)]
    content += [(encoded(noise(seed=100 + i)), caption) for i, caption in enumerate(BAD_CAPTIONS)]
    content += [(JPEG, "a fine caption"), (JPEG, "another of the same")]
    decisions = check_ledger(tmp_path, write(tmp_path, content, bad_rows))
    assert 1 <= decisions.kept.num_rows <= 10


def test_a_carriage_return_without_quotes_breaks_no_row(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encoded(noise(seed=3)))
    (tmp_path / "metadata.csv").write_bytes(b"file_name,text\n0.png,a cup\rof tea\n")
    decisions = check_ledger(tmp_path, 1)
    assert decisions.kept["caption"].to_pylist() == ["a cup of tea"]
