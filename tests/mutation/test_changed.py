"""Young lines are those that a commit has not seen: added or changed, in files new, changed or moved."""

import subprocess
from pathlib import Path

import pytest

from tests.mutation.changed import changed_lines, parsed_diff


def git(folder: Path, *arguments: str) -> None:
    about = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *about, *arguments], cwd=folder, check=True, capture_output=True)


def test_lines_that_a_commit_has_not_seen_are_young(tmp_path: Path) -> None:
    library = tmp_path / "infinity"
    library.mkdir()
    old = [f"x{i} = {i}" for i in range(30)]
    for name in ("a.py", "b.py", "c.py"):
        (library / name).write_text("\n".join(old) + "\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "old")
    (library / "a.py").write_text("\n".join([*old[:3], "y = 1", "z = 2", *old[4:10], *old[12:]]) + "\n")
    (library / "b.py").unlink()
    (library / "new.py").write_text("y = 1\nz = 2\n")
    (tmp_path / "other.py").write_text("y = 1\n")
    git(tmp_path, "mv", "infinity/c.py", "infinity/moved.py")
    git(tmp_path, "add", ".")
    found = {path: lines for path, lines in changed_lines("HEAD", tmp_path).items() if lines}
    assert found.pop("infinity/a.py") == {4, 5}
    assert found.pop("infinity/new.py") == {1, 2}
    assert found == {}


def test_a_commit_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(SystemExit, match="--since: expected a commit, found 'nowhere'"):
        changed_lines("nowhere", tmp_path)


def test_a_hunk_that_only_deletes_has_no_line() -> None:
    assert parsed_diff(["+++ b/infinity/a.py", "@@ -3,2 +2,0 @@", "-x", "@@ -9 +8 @@ def f():", "+y"]) == {
        "infinity/a.py": {8}
    }
