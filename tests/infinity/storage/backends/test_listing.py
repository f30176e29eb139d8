"""A folder is listed once, whatever links lead back into it, and what lies elsewhere is named but not looked at."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity import storage


def files(folder: Path) -> list[str]:
    return [uri.removeprefix(f"{folder}/") for uri in storage.list_files(str(folder))]


def tree(top: Path) -> Path:
    """Two folders with a file each, one in the other."""
    folder = top / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"1")
    (folder / "a" / "b" / "y").write_bytes(b"22")
    return folder


@pytest.mark.parametrize(
    "links",
    [
        {"self": "."},
        {"one": ".", "two": "."},
        {"a/up": "..", "a/b/up": "../.."},
        {"a/b/there": "../../a"},
        {"first": "second", "second": "first"},
        {"itself": "itself"},
        {"a/b/absolute": None},
        {f"many{number}": "." for number in range(40)},
    ],
)
def test_links_that_lead_back_add_nothing_and_end(tmp_path: Path, links: dict[str, str | None]) -> None:
    folder = tree(tmp_path)
    for name, target in links.items():
        os.symlink(folder if target is None else target, folder / name)
    assert files(folder) == ["a/b/y", "a/x"]


def test_two_folders_that_lead_into_each_other_are_listed_once_each(tmp_path: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")
        os.symlink(f"../{other}", tmp_path / name / "other")
    assert files(tmp_path) == ["one/file", "two/file"]
    assert files(tmp_path / "one") == ["file", "other/file"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_every_real_folder_is_listed_once_whatever_the_links(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int]]
) -> None:
    top = tmp_path_factory.mktemp("links")
    folders = [top, top / "0", top / "1", top / "1" / "2"]
    for folder in folders[1:]:
        folder.mkdir()
        (folder / "file").write_bytes(b"")
    for number, (place, target) in enumerate(links):
        os.symlink(folders[target], folders[place] / f"link{number}")
    assert files(top) == ["0/file", "1/2/file", "1/file"]


def test_links_to_other_places_are_named_and_nothing_behind_them_is_read(tmp_path: Path) -> None:
    folder, other = tree(tmp_path), tmp_path / "tree-beside"
    other.mkdir(mode=0o000)  # could not be listed
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink("../secret", folder / "file")
    os.symlink(other, folder / "a" / "folder")
    os.symlink("/", folder / "everything")
    os.symlink("a/x", folder / "fine")
    os.symlink("../../gone", folder / "a" / "dangling")
    infos, outside = storage.list_inside(str(folder), [str(folder)])
    assert [info.uri.removeprefix(f"{folder}/") for info in infos] == ["a/b/y", "a/x", "fine"]
    assert [uri.removeprefix(f"{folder}/") for uri in outside] == ["a/dangling", "a/folder", "everything", "file"]
    infos, outside = storage.list_inside(str(folder), [str(folder), str(tmp_path / "secret")])
    assert "file" in [info.uri.removeprefix(f"{folder}/") for info in infos]
    other.chmod(0o700)


def test_a_source_that_is_itself_a_link_is_inside(tmp_path: Path) -> None:
    os.symlink(tree(tmp_path), tmp_path / "link")
    infos, outside = storage.list_inside(f"{tmp_path}/link", [f"{tmp_path}/link"])
    assert [info.uri for info in infos] == [f"{tmp_path}/link/a/b/y", f"{tmp_path}/link/a/x"]
    assert not outside
