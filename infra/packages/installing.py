"""Install all packages into the environment of the Python that runs this, each file checked by its SHA-256.

``python infra/packages/installing.py [--dev] [--torch-index URL]`` needs nothing but pip. It installs from
``requirements*.lock`` what they list for this Python and platform, then torch, then Infinity as an editable package.

torch exists in several builds under one version. The build that pip would choose is installed if its hash is listed. If
not, it is refused, unless ``--torch-index`` names an index that is trusted with it, or it lies in a folder of this
machine that pip's settings name.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
CHECKED = ("install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:")

_TORCH = re.compile(r"^torch==(\S+).*((?:\n    --hash=\S+.*)+)", re.MULTILINE)


class InstallError(RuntimeError):
    """Packages cannot be installed; the text is for the user."""


def pip(*arguments: str) -> str:
    """Run pip and return what it printed to the standard output.

    Raises:
        InstallError: pip failed; it has said why.
    """
    done = subprocess.run([*PIP, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"pip {' '.join(arguments)} ended with code {done.returncode}")
    return done.stdout


def torch_lock(lock: Path) -> tuple[str, frozenset[str]]:
    """Return the version of torch in a lock file, and the SHA-256 sums of its builds."""
    match = _TORCH.search(lock.read_text(encoding="utf-8"))
    if match is None:
        raise InstallError(f"{lock} lists no torch")
    return match[1], frozenset(re.findall(r"sha256:([0-9a-f]{64})", match[2]))


def install_torch(lock: Path, index: str | None) -> None:
    """Install torch and, where its build needs them, the listed libraries for GPUs.

    Args:
        lock: Lock file that lists torch and the libraries.
        index: URL of a further package index, or None.

    Raises:
        InstallError: The build is not listed and comes from an index that was not named, or pip failed.
    """
    version, known = torch_lock(lock)
    if index is None and _installed("torch").partition("+")[0] == version:
        return
    more = ["--extra-index-url", index] if index else []
    asked = pip(
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--report",
        "-",
        *more,
        f"torch=={version}",
    )
    (found,) = json.loads(asked)["install"]
    chosen, sha256 = found["metadata"]["version"], found["download_info"]["archive_info"]["hashes"]["sha256"]
    if sha256 not in known:
        local = found["download_info"]["url"].startswith("file:")  # a folder that pip's own settings name
        if index is None and not local:
            raise InstallError(
                f"pip would install torch {chosen} with SHA-256 {sha256}, which {lock.name} does not list; name the "
                "index that you trust with it (make setup TORCH_INDEX_URL=...), or remove it from pip's settings"
            )
        source = "of a folder that pip's settings name" if local else "of the index that was named"
        print(f"torch {chosen} is a build {source}; {lock.name} does not list its hash")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "torch.txt")
        file.write_text(f"torch=={chosen} --hash=sha256:{sha256}\n", encoding="utf-8")
        pip(*CHECKED, *more, "--requirement", str(file))
    if not needs_gpu_libraries(found["metadata"].get("requires_dist", ())):
        return
    if sha256 in known:
        pip(*CHECKED, "--requirement", str(lock))
    else:
        pip("install", "--quiet", *more, f"torch=={chosen}")


def needs_gpu_libraries(requirements: Sequence[str]) -> bool:
    """Return whether a build of torch asks for libraries for GPUs."""
    return any(re.match(r"nvidia|cuda|triton", requirement) for requirement in requirements)


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Install everything; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python infra/packages/installing.py", description="Install from the lock files."
    )
    parser.add_argument("--dev", action="store_true", help="with what tests, checks and documentation need")
    parser.add_argument("--torch-index", help="URL of an index with another build of torch", default="")
    options = parser.parse_args(arguments)
    try:
        for name in ("requirements.lock", *(["requirements-dev.lock"] if options.dev else [])):
            pip(*CHECKED, "--requirement", name)
        install_torch(ROOT / "requirements-torch.lock", options.torch_index or None)
        pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
        pip("check", "--quiet")
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
