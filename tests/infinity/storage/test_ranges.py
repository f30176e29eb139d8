"""A file that is read range by range is the file, however it is read."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity import storage
from infinity.storage.ranges import RangeReader

CONTENT = bytes(range(100))

moves = st.one_of(
    st.tuples(st.just("seek"), st.integers(0, 120), st.just(io.SEEK_SET)),
    st.tuples(st.just("seek"), st.integers(-100, 0), st.just(io.SEEK_END)),
    st.tuples(st.just("read"), st.integers(-1, 40)),
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("ranges") / "file"
    path.write_bytes(CONTENT)
    return str(path)


@settings(max_examples=60)
@given(st.lists(moves, max_size=12), st.sampled_from([0, 7, 64, 1000]))
def test_it_reads_as_a_file_in_memory_does(uri: str, steps: list[tuple[Any, ...]], block_bytes: int) -> None:
    ours, theirs = RangeReader(uri, block_bytes), io.BytesIO(CONTENT)
    for name, *arguments in steps:
        assert getattr(ours, name)(*arguments) == getattr(theirs, name)(*arguments)
        assert ours.tell() == theirs.tell()
    where = ours.tell()
    assert ours.pread(5, 3) == CONTENT[5:8]
    assert ours.tell() == where
    assert ours.seek(2, io.SEEK_CUR) == where + 2
    assert (ours.size, ours.readable(), ours.seekable()) == (100, True, True)


def test_small_reads_next_to_one_another_are_one_request(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], storage.read_bytes

    def counted(uri: str, **where: int) -> bytes:
        asked.append((where["start"], where["length"]))
        return real(uri, **where)

    monkeypatch.setattr(storage, "read_bytes", counted)
    reader = RangeReader(uri, block_bytes=20)
    pieces = [reader.pread(start, 5) for start in (10, 15, 20, 25, 26, 9)]
    assert pieces == [CONTENT[start : start + 5] for start in (10, 15, 20, 25, 26, 9)]
    assert asked == [(10, 20), (26, 20), (9, 20)]
    assert reader.pread(0, 20) == CONTENT[:20]
    assert asked[-1] == (0, 20)
    reader.pread(9, 5)
    assert len(asked) == 4, "a large read leaves the block as it was"
