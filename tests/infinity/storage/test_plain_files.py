"""A pipe, a socket or a device where a file is expected is named at once, whoever would read it; nobody waits."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from infinity.generation.files.picture_files import read_drawing
from infinity.perception.loading import load_tokenizer, model_folder
from infinity.storage import StorageError
from infinity.storage.leases.lease import acquire
from infinity.storage.names import LEASE_FILE
from infinity.storage.pinned import PinnedFile
from infinity.storage.plain_files import check_plain_files
from infinity.text.t5 import T5TextConfig, T5TextEncoder
from infinity.text.t5_folder import look_at
from tests.fixtures.limits import AGES_S


@pytest.fixture(autouse=True)
def _never_for_ever() -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("waits for a pipe")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, AGES_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, unix_socket, device])
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    check_plain_files(folder)
    make(folder / "odd")
    for place in (folder, folder / "odd"):
        with pytest.raises(StorageError, match=r"m/odd: expected a file, found a pipe, a socket or a device"):
            check_plain_files(place)


def test_hub_names_folders_and_links_that_lead_nowhere_pass(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "inner").mkdir()
    for place in (tmp_path, tmp_path / "gone", tmp_path / "loop", "google/flan-t5-xl", "\0", "x" * 5000, ""):
        check_plain_files(place)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a text model that is looked at": ("config.json", lambda folder: look_at(str(folder))),
    "its weights": ("model.safetensors", lambda folder: look_at(str(folder))),
    "its pickled weights": ("pytorch_model.bin", lambda folder: look_at(str(folder))),
    "a text model that is loaded": ("config.json", lambda folder: T5TextEncoder(T5TextConfig(model=str(folder)))),
    "a network": ("config.json", lambda folder: model_folder("a network", str(folder), None)),
    "a tokenizer": ("tokenizer.json", lambda folder: load_tokenizer(str(folder))),
    "a drawing": ("a.png", lambda folder: read_drawing(folder / "a.png")),
    "a pinned file": ("a.pth", lambda folder: PinnedFile(uri=str(folder / "a.pth")).fetch()),
    "the bytes of a pinned file": ("a.pth", lambda folder: PinnedFile(uri=str(folder / "a.pth")).read()),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_a_pipe(tmp_path: Path, reader: str) -> None:
    name, read = READERS[reader]
    pipe(tmp_path / name)
    with pytest.raises((OSError, ValueError), match=rf"{tmp_path}.*expected a file, found"):
        read(tmp_path)


def test_a_lease_that_is_a_pipe_is_an_error(tmp_path: Path) -> None:
    pipe(tmp_path / LEASE_FILE)
    with pytest.raises(StorageError, match=r"\.lease"):
        acquire(str(tmp_path), silence_s=1.0)
