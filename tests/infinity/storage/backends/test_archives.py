"""Files inside zip archives: read like files, from any program's archive; bombs and damage are errors with a reason."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from infinity import storage
from infinity.storage.backends import archives

CONTENT = {"a.txt": b"one", "b/c.bin": bytes(range(256)) * 40, "b/d": b"", "b/e": b"1", "bf/g": b"two"}


def write(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return storage.inside_archive(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_files_in_an_archive_are_listed_and_read_like_files(tmp_path: Path, method: int) -> None:
    inside = write(tmp_path / "x.zip", CONTENT, method)
    assert storage.list_files(inside) == tuple(f"{inside}/{name}" for name in sorted(CONTENT))
    assert storage.list_files(f"{inside}/b") == tuple(f"{inside}/b/{name}" for name in ("c.bin", "d", "e"))
    for name, data in CONTENT.items():
        uri = f"{inside}/{name}"
        assert (storage.read_bytes(uri), storage.size(uri), storage.exists(uri)) == (data, len(data), True)
        assert storage.read_bytes(uri, start=1, length=3) == data[1:4]
        with storage.local_copy(uri) as copy:
            assert copy.read_bytes() == data
    assert storage.exists(f"{inside}/b")
    assert storage.exists(f"{inside}/b/")
    assert storage.exists(inside)
    assert not storage.exists(f"{inside}/bf/g/h")
    assert not storage.exists(f"{inside}/f")
    for absent in ("e", "bf", "b"):
        with pytest.raises(storage.FileMissingError, match="no such file in the archive"):
            storage.read_bytes(f"{inside}/{absent}")
    assert not storage.exists(f"{inside}/e")
    storage.download_folder(inside, tmp_path / "out")
    assert (tmp_path / "out/b/c.bin").read_bytes() == CONTENT["b/c.bin"]


def test_nothing_is_written_into_an_archive(tmp_path: Path) -> None:
    inside = write(tmp_path / "x.zip", CONTENT)
    before = (tmp_path / "x.zip").read_bytes()
    for attempt in (
        lambda: storage.write_bytes(f"{inside}/a.txt", b"two"),
        lambda: storage.delete_tree(f"{inside}/a.txt"),
        lambda: storage.upload_folder(tmp_path, inside),
        lambda: storage.create(f"{inside}/e").__enter__(),
        lambda: storage.draft(inside).__enter__(),
    ):
        with pytest.raises(storage.StorageError, match="expected a place that can be written"):
            attempt()
    assert (tmp_path / "x.zip").read_bytes() == before


def test_an_archive_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    inside = write(tmp_path / "x.zip", {"a": b"one"})
    assert storage.read_bytes(f"{inside}/a") == b"one"
    (tmp_path / "y.zip").write_bytes(b"")
    write(tmp_path / "y.zip", {"a": b"two"})
    (tmp_path / "y.zip").replace(tmp_path / "x.zip")
    assert storage.read_bytes(f"{inside}/a") == b"two"


def test_what_a_place_may_name_ends_at_the_archive(tmp_path: Path) -> None:
    inside = write(tmp_path / "x.zip", CONTENT)
    own = storage.inside([inside])
    assert own(f"{inside}/a.txt")
    for other in (f"{inside}/../y", f"zip://{tmp_path}/y.zip!/a.txt", f"{tmp_path}/x.zip", f"{tmp_path}/a", "s3://b/a"):
        assert not own(other), other
    folder = storage.inside([str(tmp_path)])
    assert folder(f"{inside}/a.txt")
    assert not folder(f"{inside}/../../a.txt")
    assert not folder("zip:///etc/x.zip!/a.txt")


def test_a_link_to_an_archive_elsewhere_leads_out(tmp_path: Path) -> None:
    write(tmp_path / "x.zip", CONTENT)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/y.zip").symlink_to(tmp_path / "x.zip")
    assert not storage.inside([str(tmp_path / "source")])(f"zip://{tmp_path}/source/y.zip!/a.txt")


def test_entries_that_unpack_to_too_much_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = write(tmp_path / "x.zip", {"bomb": bytes(20 * 2**20), "flat": bytes(2**20)})
    with pytest.raises(storage.EntryError, match="as in a zip bomb"):
        storage.read_bytes(f"{inside}/bomb")
    assert len(storage.read_bytes(f"{inside}/flat")) == 2**20
    monkeypatch.setattr(archives, "MAX_ENTRY_BYTES", 100)
    inside = write(tmp_path / "y.zip", CONTENT)
    with pytest.raises(storage.EntryError, match=r"an entry of 10,240 bytes, more than 100"):
        storage.read_bytes(f"{inside}/b/c.bin")


def test_an_entry_that_states_a_wrong_size_unpacks_no_further_than_stated(tmp_path: Path) -> None:
    inside = write(tmp_path / "x.zip", {"a": bytes(10**7)})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.find(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, 1000)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(storage.EntryError, match="damaged: its content has not the size"):
        storage.read_bytes(f"{inside}/a")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("stated", [0, 1, 1000, 9_999, 10_001])
def test_content_that_only_begins_as_stated_is_damaged(tmp_path: Path, method: int, stated: int) -> None:
    """The checksum is that of what is stated, so that the size alone tells."""
    content = bytes(range(250)) * 40
    inside = write(tmp_path / "x.zip", {"a": content}, method)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.find(b"PK\1\2")
    struct.pack_into("<I", data, at + 16, zlib.crc32(content[:stated]))
    struct.pack_into("<I", data, at + 24, stated)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(storage.EntryError, match="damaged"):
        storage.read_bytes(f"{inside}/a")


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """As in the bombs without recursion, whose entries all point at one kernel."""
    inside = write(tmp_path / "x.zip", {"a": b"x" * 100, "b": b"x" * 100})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    second = data.find(b"PK\1\2", data.find(b"PK\1\2") + 1)
    struct.pack_into("<I", data, second + 42, 0)
    (tmp_path / "x.zip").write_bytes(data)
    for name in ("a", "b"):
        with pytest.raises(storage.EntryError, match="overlaps with others"):
            storage.read_bytes(f"{inside}/{name}")


def test_a_method_that_is_not_known_says_what_to_do(tmp_path: Path) -> None:
    inside = write(tmp_path / "x.zip", {"a": b"x" * 100}, zipfile.ZIP_LZMA)
    with pytest.raises(
        storage.EntryError, match=r"expected an entry packed by .*, found method 14; pack the archive again"
    ):
        storage.read_bytes(f"{inside}/a")


@pytest.mark.parametrize("name", ["größe.txt", "写真.txt"])
def test_names_in_utf8_without_a_flag_are_read_and_old_ones_too(tmp_path: Path, name: str) -> None:
    inside = write(tmp_path / "x.zip", {name: b"x"})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        struct.pack_into("<H", data, data.find(mark) + offset, 0)
    (tmp_path / "x.zip").write_bytes(data)
    assert storage.list_files(inside) == (f"{inside}/{name}",)
    old = "größe".encode("cp437")
    write(tmp_path / "y.zip", {"gr__e": b"x"})
    (tmp_path / "y.zip").write_bytes((tmp_path / "y.zip").read_bytes().replace(b"gr__e", old))
    assert storage.list_files(storage.inside_archive(f"{tmp_path}/y.zip"))[0].endswith("/größe")


def test_a_name_in_a_field_of_its_own_counts(tmp_path: Path) -> None:
    """Info-ZIP writes names that its code page lacks into a field of their own."""
    name, raw = "写.txt", b"_.txt"
    field = struct.pack("<HHBI", 0x7075, 5 + len(name.encode()), 1, zlib.crc32(raw)) + name.encode()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        info = zipfile.ZipInfo(raw.decode())
        info.extra = field
        file.writestr(info, b"x")
    assert storage.list_files(storage.inside_archive(f"{tmp_path}/x.zip"))[0].endswith(f"/{name}")


def test_a_directory_that_does_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_DIRECTORY_BYTES", 200)
    inside = write(tmp_path / "x.zip", {f"{n}.txt": b"" for n in range(20)})
    with pytest.raises(storage.StorageError, match="its directory has more than 200 bytes"):
        storage.list_files(inside)


def read_all(inside: str) -> tuple[list[bytes], str]:
    found: list[bytes] = []
    try:
        found += [storage.read_bytes(uri) for uri in storage.list_files(inside)]
    except storage.StorageError as error:
        return found, str(error)
    return found, ""


def test_any_changed_byte_is_read_or_an_error_with_a_reason(tmp_path: Path) -> None:
    """Every byte of a small archive, once with each of three values."""
    write(tmp_path / "x.zip", {"a.txt": b"one one one", "b/c": b"two"})
    data = (tmp_path / "x.zip").read_bytes()
    draw = random.Random(0)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= draw.choice((1, 0x80, 0xFF))
        archive = tmp_path / f"{place}.zip"
        archive.write_bytes(changed)
        contents, problem = read_all(storage.inside_archive(str(archive)))
        assert set(contents) <= {b"one one one", b"two", b""}
        assert not problem or str(archive) in problem


@pytest.mark.parametrize("cut", range(1, 200, 13))
def test_an_archive_that_is_cut_off_is_an_error(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "x.zip", CONTENT)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "y.zip").write_bytes(data[:-cut])
    with pytest.raises(storage.StorageError, match="expected a zip archive"):
        storage.list_files(storage.inside_archive(f"{tmp_path}/y.zip"))


def test_memory_stays_small_while_a_large_archive_is_listed_and_read(tmp_path: Path) -> None:
    """An archive of 60 MiB: only the directory and one entry are in memory."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_STORED) as file:
        for number in range(60):
            file.writestr(f"{number}.bin", bytes([number]) * 2**20)
    script = (
        "import resource, sys\nfrom infinity import storage\n"
        "inside = storage.inside_archive(sys.argv[1])\nstorage.list_files(inside)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for uri in storage.list_files(inside): storage.read_bytes(uri)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.zip")]
    grown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert int(grown) < 20 * 1024
    assert io.BytesIO((tmp_path / "x.zip").read_bytes()).getbuffer().nbytes > 60 * 2**20


@pytest.mark.parametrize(
    ("content", "packed", "fault"),
    [
        (2**24, 1, ""), (2**24 + 1, 1, "zip bomb"), (200 * 10**6, 10**6, ""), (200 * 10**6 + 1, 10**6, "zip bomb"),
        (2**28, 2**28, ""), (2**28 + 1, 2**28, "an entry of 268,435,457 bytes, more than 268,435,456"),
    ],
)  # fmt: skip
def test_limits_of_an_entry_are_as_they_are_stated(content: int, packed: int, fault: str) -> None:
    info = zipfile.ZipInfo("a")
    info.file_size, info.compress_size = content, packed
    found = archives._fault(info, overlaps=False)
    assert fault in found
    assert bool(found) == bool(fault)


def test_content_that_is_kept_for_threads_that_are_gone_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = write(tmp_path / "x.zip", CONTENT)
    for threads, kept in ((64, 65), (65, 1)):
        monkeypatch.setattr(archives, "_last", dict.fromkeys(range(-threads, 0), (("", None), b"")))
        assert storage.read_bytes(f"{inside}/a.txt") == b"one"
        assert len(archives._last) == kept


def test_an_archive_is_told_by_its_ending_and_what_lies_in_one_is_none(tmp_path: Path) -> None:
    assert storage.is_archive("a.zip")
    assert storage.is_archive("s3://b/A.ZIP")
    assert not storage.is_archive("a.tar")
    assert not storage.is_archive("zip:///a.zip!/b.zip")
    assert archives.outside(str(tmp_path)) == ()


def test_names_that_lead_out_links_and_earlier_entries_of_a_name_are_listed_apart(tmp_path: Path) -> None:
    path, link = tmp_path / "x.zip", zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    odd = ("../up", "/root", "a/../../b", "C:/x", "..\\y")
    with zipfile.ZipFile(path, "w") as file:
        for name in (*odd, "folder/", "./a//b", "C:", "twice"):
            file.writestr(name, name)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("twice", "later")
        file.writestr(link, "/etc/passwd")
        file.writestr("empty/", b"")
    inside = storage.inside_archive(str(path))
    assert set(archives.outside(inside)) == {f"{inside}/{name}" for name in (*odd, "C:")}
    assert [name.removeprefix(f"{inside}/") for name, _ in archives.left_out(inside)] == ["twice", "link"]
    assert storage.list_files(inside) == tuple(f"{inside}/{name}" for name in ("a/b", "folder", "twice"))
    assert storage.read_text(f"{inside}/twice") == "later"
