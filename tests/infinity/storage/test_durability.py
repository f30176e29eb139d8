"""What counts is on the disk before something older goes: seen by a recorder of what is asked of the system.

The recorder knows what a crash of the machine could take away: a name in a folder until that folder is synced, the
content of a file until the file is synced.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity import storage
from infinity.checkpoint import save_checkpoint
from infinity.training.checkpoints import StateConfig, StateStore
from infinity.training.learner import LoopConfig
from tests.fixtures.jobs.toy_training import BATCH, run

CONFIG = LoopConfig(
    num_steps=12, batch_size=BATCH, log_every_steps=50, save_every_steps=4, sample_every_steps=100, ema_decay=0.9
)


class Disk:
    """What of a tree would survive if the machine crashed now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: dict[Path, bool] = {}
        self.contents: dict[int, bool] = {}
        self.numbers: dict[Path, int] = {}
        self.deleted: list[Path] = []

    def named(self, path: Path) -> None:
        self.names[path], self.numbers[path] = False, path.stat().st_ino

    def synced(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self.names.update((name, True) for name in self.names if name.parent == path)
        else:
            self.contents[os.fstat(descriptor).st_ino] = True

    def survives(self, path: Path) -> bool:
        """The file with its content, and every folder on the way."""
        above = [each for each in path.parents if self.root in each.parents]
        return all(self.names.get(each, False) for each in (path, *above)) and self.contents.get(
            self.numbers[path], False
        )

    def lost(self, folder: Path) -> list[Path]:
        """Files of a folder that a crash would take."""
        return [path for path in folder.rglob("*") if path.is_file() and not self.survives(path)]


@contextmanager
def recorded(
    root: Path, monkeypatch: pytest.MonkeyPatch, before_deletion: Any = lambda disk, path: None
) -> Iterator[Disk]:
    disk = Disk(root)
    real = {name: getattr(os, name) for name in ("mkdir", "replace", "link", "fsync", "unlink")}
    real_rmtree = shutil.rmtree

    def mkdir(path: Any, *arguments: Any, **named: Any) -> None:
        real["mkdir"](path, *arguments, **named)
        disk.named(Path(path))

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        disk.synced(descriptor)

    def move(name: str) -> Any:
        def call(source: Any, target: Any, **named: Any) -> None:
            real[name](source, target, **named)
            disk.named(Path(target))

        return call

    def unlink(path: Any, **named: Any) -> None:
        if not Path(path).name.endswith(".part") and not named:
            before_deletion(disk, Path(path))
        real["unlink"](path, **named)

    def rmtree(path: Any, *arguments: Any, **named: Any) -> None:
        before_deletion(disk, Path(path))
        disk.deleted.append(Path(path))
        real_rmtree(path, *arguments, **named)

    with monkeypatch.context() as patch:
        for name, call in {"mkdir": mkdir, "fsync": fsync, "replace": move("replace"), "link": move("link")}.items():
            patch.setattr(os, name, call)
        patch.setattr(os, "unlink", unlink)
        patch.setattr(shutil, "rmtree", rmtree)
        yield disk


def write(place: Path) -> None:
    storage.write_text(str(place), "x")


def write_if_absent(place: Path) -> None:
    storage.write_text(str(place), "x", if_absent=True)


def create(place: Path) -> None:
    with storage.create(str(place)) as file:
        file.write(b"x")


def draft(place: Path) -> None:
    with storage.draft(str(place.parent)) as file:
        file.write(b"x")
        file.publish(place.name)


def upload(place: Path) -> None:
    source = place.parents[3] / "source"
    source.mkdir(exist_ok=True)
    (source / place.name).write_text("x")
    storage.upload_folder(source, str(place.parent))


@pytest.mark.parametrize("act", [write, write_if_absent, create, draft, upload])
def test_a_file_in_new_folders_survives_a_crash_once_it_is_written(
    act: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a" / "b" / "file"
    (tmp_path / "neighbour").touch()
    with recorded(tmp_path, monkeypatch) as disk:
        act(place)
    assert disk.survives(place), disk.names


def test_a_file_from_a_bucket_survives_a_crash_once_it_is_there(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_text(f"{s3_server}/a/b", "x")
    with recorded(tmp_path, monkeypatch) as disk:
        storage.download_folder(s3_server, tmp_path / "copy")
    assert disk.survives(tmp_path / "copy" / "a" / "b")


def test_a_folder_that_a_killed_process_left_empty_is_synced_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded(tmp_path, monkeypatch) as disk:
        os.mkdir(tmp_path / "a")  # and then it was killed
        write(tmp_path / "a" / "b" / "file")
    assert disk.survives(tmp_path / "a" / "b" / "file")


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash may leave the name with a short file."""
    order: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        order.append("folder" if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir() else "file")
        real_fsync(descriptor)

    def replace(source: Any, target: Any) -> None:
        order.append("name")
        real_replace(source, target)

    (tmp_path / "neighbour").touch()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "file")
    assert order == ["file", "name", "folder"]


def test_a_deletion_is_on_the_disk_before_what_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("marker", "folder/file"):
        write(tmp_path / name)
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.delete_tree(str(tmp_path / "marker"))
    storage.delete_tree(str(tmp_path / "folder"))
    storage.delete_tree(str(tmp_path / "was never there"))
    assert synced == [tmp_path, tmp_path]


def test_a_state_survives_a_crash_before_an_older_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "job" / "state"

    def check(disk: Disk, path: Path) -> None:
        newer = [each for each in folder.iterdir() if each.name > path.name]
        assert newer
        for each in newer:
            assert (each / "COMMITTED").exists()
            assert disk.lost(each) == [], f"{path.name} goes, but of {each.name} a crash would take files"

    with recorded(tmp_path, monkeypatch, check) as disk:
        store = StateStore(str(folder), background=False)
        run(CONFIG, save=store.save)
    assert [path.name for path in disk.deleted] == ["step-00000000", "step-00000004"]


def test_a_marker_comes_after_all_that_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "model", list[str]()
    with recorded(tmp_path, monkeypatch) as disk:
        real = storage.write_text

        def write_text(uri: str, text: str, **options: Any) -> None:
            assert uri.endswith("COMMITTED")
            assert disk.lost(folder) == []
            seen.append(uri)
            real(uri, text, **options)

        monkeypatch.setattr(storage, "write_text", write_text)
        save_checkpoint(str(folder), kind="x", config=StateConfig(step=1), tensors={"w": torch.ones(3)})
    assert len(seen) == 1
    assert disk.lost(folder) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_system_is_really_asked(tmp_path: Path) -> None:
    """The same seen from outside: folders made, synced into their parents, file synced, named, folder synced."""
    (tmp_path / "neighbour").touch()
    code = f"from infinity import storage; storage.write_text({str(tmp_path / 'a' / 'b' / 'file')!r}, 'x')"
    trace = tmp_path / "trace"
    options = ["-f", "-y", "-o", str(trace), "-e", "trace=mkdir,mkdirat,fsync,rename,renameat,renameat2"]
    done = subprocess.run(
        ["strace", *options, sys.executable, "-c", code],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0 and "ptrace" in done.stderr:
        pytest.skip(f"strace may not look into processes here: {done.stderr.strip()[:100]}")
    assert done.returncode == 0, done.stderr
    calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if str(tmp_path) in line]
    kinds = [(call.partition("(")[0].rstrip("at2"), call) for call in calls]
    assert [kind for kind, _ in kinds] == ["mkdir", "fsync", "mkdir", "fsync", "fsync", "rename", "fsync"]
    places = [call.rpartition("<")[2].partition(">")[0] for kind, call in kinds if kind == "fsync"]
    assert places[:2] == [str(tmp_path), str(tmp_path / "a")]
    assert places[2].endswith(".part")
    assert places[3] == str(tmp_path / "a" / "b")
