"""Secrets of a state folder are made once, and nobody else can read them."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.server import keys
from infra.server.keys import KeyFileError, key, key_file, private_folder, write_private

NAMES = (keys.PREFECT_AUTH, keys.FILES_TOKEN, keys.RAY_TOKEN)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_made_at_first_use_kept_and_its_owners_alone(tmp_path: Path, name: str) -> None:
    secret = key(tmp_path, name)
    assert len(secret) >= 43
    assert key(tmp_path, name) == secret
    path = key_file(tmp_path, name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_no_two_secrets_are_equal(tmp_path: Path) -> None:
    assert len({key(tmp_path / state, name) for state in "ab" for name in NAMES}) == 2 * len(NAMES)


def test_the_authentication_string_has_a_name_and_a_password(tmp_path: Path) -> None:
    name, _, password = key(tmp_path, keys.PREFECT_AUTH).partition(":")
    assert name == "infinity"
    assert len(password) >= 43


def test_of_many_at_once_all_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: key(tmp_path, keys.RAY_TOKEN), range(64)))) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666])
def test_a_secret_that_others_could_read_is_not_used(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, keys.PREFECT_AUTH)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"found mode {mode:04o} .* delete the file"):
        key(tmp_path, keys.PREFECT_AUTH)


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_an_empty_secret_is_not_used(tmp_path: Path, content: str) -> None:
    key_file(tmp_path, keys.FILES_TOKEN).write_text(content)
    with pytest.raises(KeyFileError, match="is empty; delete it"):
        key(tmp_path, keys.FILES_TOKEN)


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "of an earlier version"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    assert stat.S_IMODE(private_folder(folder).stat().st_mode) == 0o700


def test_a_private_file_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for replace, kept in ((False, "1"), (False, "1"), (True, "3")):
        write_private(path, kept if replace or not path.exists() else "2", replace=replace)
        assert path.read_text() == kept
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
