"""What cannot fit into memory is refused with a sentence, whoever reads it and wherever it lies."""

import json
from pathlib import Path

import pytest

from infinity import storage
from infinity.config import ConfigError
from infinity.generation.watermark.key import read_watermark_key
from infinity.jobs.registry import MAX_SPEC_BYTES, load_spec
from infinity.storage import StorageError, room
from infinity.storage.json_files import read_json
from infinity.storage.pinned import PinnedFile
from infinity.storage.room import ASKED_FROM_BYTES, machine_bytes, room_for


@pytest.fixture(name="huge")
def _huge(tmp_path: Path) -> str:
    """A file without content that says it is larger than any machine's memory, and takes no place on the disk."""
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**42)
    return str(path)


def test_a_file_larger_than_the_memory_is_named_by_every_reader(huge: str) -> None:
    readers = (
        storage.read_bytes,
        storage.read_text,
        lambda uri: read_json(uri, remedy="restore it"),
        lambda uri: PinnedFile(uri=uri).read(),
        read_watermark_key,
    )
    for reader in readers:
        with pytest.raises(StorageError, match=r"huge\.json: 4,398,046,511,104 bytes, and this machine has [\d,]+ "):
            reader(huge)
    assert storage.read_bytes(huge, start=2**41, length=3) == bytes(3), "a part of it fits"


def test_a_spec_is_not_read_beyond_what_a_spec_can_have(huge: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"huge\.json: expected a spec of at most 67,108,864 bytes"):
        load_spec(huge)
    full = tmp_path / "full.json"
    full.write_bytes(json.dumps("x").encode().ljust(MAX_SPEC_BYTES))
    with pytest.raises(ConfigError, match=r"full\.json: expected an object with exactly the keys"):
        load_spec(str(full))


def test_what_a_process_may_not_have_is_said_with_place_and_size() -> None:
    told = r"^cannot read s3://bucket/key: no memory for its 5 bytes$"
    with pytest.raises(StorageError, match=told), room_for("s3://bucket/key", 5):
        raise MemoryError


def test_the_whole_memory_of_the_machine_is_allowed_and_small_files_are_not_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with room_for("x", machine_bytes()):
        pass
    with pytest.raises(StorageError, match="and this machine has"), room_for("x", machine_bytes() + ASKED_FROM_BYTES):
        pass
    monkeypatch.setattr(room, "machine_bytes", lambda: 10)
    with room_for("x", ASKED_FROM_BYTES):
        pass
    told = "x: 268,435,457 bytes, and this machine has 10 bytes of memory"
    with pytest.raises(StorageError, match=told), room_for("x", ASKED_FROM_BYTES + 1):
        pass


def test_an_object_in_a_bucket_is_asked_for_its_size(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = storage.join(s3_server, "object")
    storage.write_bytes(uri, b"12345")
    monkeypatch.setattr(room, "ASKED_FROM_BYTES", 2)
    assert storage.read_bytes(uri) == b"12345"
    monkeypatch.setattr(room, "machine_bytes", lambda: 4)
    for options in ({}, {"start": 0, "length": 5}):
        with pytest.raises(StorageError, match=r"object: 5 bytes, and this machine has 4 bytes"):
            storage.read_bytes(uri, **options)
    assert storage.read_bytes(uri, start=1, length=2) == b"23"
