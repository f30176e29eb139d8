"""What is installed is what was tested, file by file: a package with another hash is refused."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import pytest

from infra.packages import installing
from infra.packages.installing import CHECKED, InstallError, install_torch, pip, torch_lock
from infra.packages.locking import (
    DEVELOPMENT,
    OTHER_BUILDS,
    ROOT,
    RUNTIME,
    TORCH,
    entries,
    hashes,
    normal,
    split,
    version_of,
)

LOCKS = (RUNTIME, DEVELOPMENT, TORCH)


def locked() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in LOCKS:
        part = entries((ROOT / name).read_text(encoding="utf-8"))
        assert not set(part) & set(found), "a package in two lock files"
        found |= part
    return found


def test_every_tested_version_is_locked_with_hashes_and_nothing_else_stands_in_a_lock_file() -> None:
    pins = re.findall(r"^([^#\s=]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    found = locked()
    assert {normal(name): version for name, version in pins}.items() <= {
        n: version_of(e) for n, e in found.items()
    }.items()
    assert all(hashes(entry) for entry in found.values())
    for name in LOCKS:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()[1:]:
            assert re.fullmatch(r"\S+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


def test_what_is_installed_here_has_the_locked_versions() -> None:
    found = locked()
    here = {normal(each.name): each.version.partition("+")[0] for each in metadata.distributions()}
    assert {"torch", "prefect", "ray", "pytest"} <= set(here) & set(found)
    other = {name: (here[name], version_of(found[name])) for name in set(here) & set(found)}
    assert {name: pair for name, pair in other.items() if pair[0] != pair[1]} == {}


def test_developers_tools_and_gpu_libraries_are_kept_apart() -> None:
    every = dict.fromkeys(["torch", "nvidia-nccl", "cuda-toolkit", "triton", "ray", "pytest", "triton-viz"], "a==1 \\")
    parts = split(every, {"torch": "", "ray": "", "nvidia-nccl": ""})
    assert set(parts[RUNTIME]) == {"ray"}
    assert set(parts[DEVELOPMENT]) == {"pytest", "triton-viz"}
    assert set(parts[TORCH]) == {"torch", "nvidia-nccl", "cuda-toolkit", "triton"}
    assert hashes(parts[TORCH]["torch"]) == set(OTHER_BUILDS["torch"])


def wheel(folder: Path, name: str, version: str, *requirements: str, text: str = "") -> str:
    """Write the smallest wheel that pip installs; its SHA-256."""
    about = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": text,
        f"{about}/METADATA": head + "".join(f"Requires-Dist: {each}\n" for each in requirements),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty environment for pip, which sees the wheels of this folder and nothing else."""
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "TARGET": str(tmp_path / "site")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return tmp_path / "site"


def test_a_file_with_another_hash_is_refused(tmp_path: Path, target: Path) -> None:
    good = wheel(tmp_path, "lockedtoy", "1.0")
    for sha256, is_right in ((good[:-1] + ("0" if good[-1] != "0" else "1"), False), (good, True)):
        (tmp_path / "toy.lock").write_text(f"lockedtoy==1.0 \\\n    --hash=sha256:{sha256}\n")
        if is_right:
            pip(*CHECKED, "--requirement", str(tmp_path / "toy.lock"))
        else:
            with pytest.raises(InstallError, match="ended with code 1"):
                pip(*CHECKED, "--requirement", str(tmp_path / "toy.lock"))
        assert (target / "lockedtoy.py").exists() == is_right


def torch_and_library(folder: Path, *requirements: str) -> Path:
    """A lock file of two wheels, of which torch may ask for the other."""
    listed = {
        "torch": ("0.0.1", wheel(folder, "torch", "0.0.1", *requirements)),
        "nvidia-toy": ("1.0", wheel(folder, "nvidia_toy", "1.0")),
    }
    lock = folder / "torch.lock"
    lines = [f"{name}=={version} \\\n    --hash=sha256:{sha256}" for name, (version, sha256) in listed.items()]
    lock.write_text("# a comment\n" + "\n".join(lines) + "\n")
    return lock


@pytest.mark.parametrize("needs", [(), ("nvidia-toy==1.0; sys_platform == 'linux'",)])
def test_a_listed_build_of_torch_brings_the_libraries_it_asks_for(
    tmp_path: Path, target: Path, needs: tuple[str, ...]
) -> None:
    install_torch(torch_and_library(tmp_path, *needs), None)
    assert (target / "torch.py").exists()
    assert (target / "nvidia_toy.py").exists() == bool(needs)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """URL of a package index on this machine that offers a build of torch which no lock file lists."""
    folder = tmp_path / "index" / "torch"
    folder.mkdir(parents=True)
    wheel(folder, "torch", "0.0.1+mine", text="another = True")
    handler = partial(QuietHandler, directory=str(folder.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_another_build_of_torch_is_refused_unless_its_index_is_named(
    tmp_path: Path, target: Path, index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = torch_and_library(tmp_path)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index)
    with pytest.raises(InstallError, match=r"torch 0\.0\.1\+mine with SHA-256 \w+, which torch\.lock does not list"):
        install_torch(lock, None)
    assert not (target / "torch.py").exists()
    install_torch(lock, index)
    assert "another" in (target / "torch.py").read_text()
    assert "a build of the index that was named" in capsys.readouterr().out


def test_another_build_of_torch_in_a_folder_that_pip_was_told_of_is_installed_and_said(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = torch_and_library(tmp_path)
    wheel(tmp_path, "torch", "0.0.1+mine", text="another = True")
    install_torch(lock, None)
    assert "another" in (target / "torch.py").read_text()
    assert "a build of a folder that pip's settings name" in capsys.readouterr().out


def test_the_lock_file_of_torch_lists_the_tested_version_with_its_builds() -> None:
    version, known = torch_lock(ROOT / TORCH)
    assert version == metadata.version("torch").partition("+")[0]
    assert set(OTHER_BUILDS["torch"]) < known
    with pytest.raises(InstallError, match="lists no torch"):
        torch_lock(ROOT / DEVELOPMENT)
    assert installing.needs_gpu_libraries(["filelock", "nvidia-nccl-cu13==2"])
    assert not installing.needs_gpu_libraries(["filelock", "numpy; extra == 'x'"])
