"""Write the lock files: every package at its tested version, with the SHA-256 of every file that may be installed.

``python -m infra.packages.locking`` resolves pyproject.toml within constraints.txt for all supported Pythons and
platforms, by means of uv (``pip install uv``), and writes ``requirements*.lock``. ``python
infra/packages/installing.py`` installs from them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME, DEVELOPMENT, TORCH = "requirements.lock", "requirements-dev.lock", "requirements-torch.lock"

OLDEST_PYTHON = "3.11.5"
"""Oldest Python for which every tool of the development set exists."""

OTHER_BUILDS = {"torch": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}
"""SHA-256 of wheels that other indexes offer under the same version: torch 2.13.0+cpu for Python 3.11 on Linux."""

_ENTRY = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
_GPU_BUILD = re.compile(r"torch|triton|(nvidia|cuda)-.*")
_HEADS = {
    RUNTIME: "What Infinity runs with, except torch",
    DEVELOPMENT: "What tests, checks and documentation need besides",
    TORCH: "torch as the package index offers it, and the libraries that its GPU build needs",
}


def entries(text: str) -> dict[str, str]:
    """Return the entries of a lock file by normalized package name, each with its hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := _ENTRY.match(line):
            name = normal(match[1])
            found[name] = line
        elif line.startswith("    --hash=") and name:
            found[name] += f"\n{line}"
    return found


def normal(name: str) -> str:
    """Return a package name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(entry: str) -> str:
    """Return the version of an entry."""
    match = _ENTRY.match(entry)
    assert match is not None
    return match[2]


def hashes(entry: str) -> set[str]:
    """Return the SHA-256 sums that an entry allows."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))


def split(all_entries: Mapping[str, str], runtime: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the entries of each lock file: torch and its GPU libraries, what runs, what only developers need."""
    parts: dict[str, dict[str, str]] = {RUNTIME: {}, DEVELOPMENT: {}, TORCH: {}}
    for name, entry in sorted(all_entries.items()):
        if _GPU_BUILD.fullmatch(name):
            for sha256 in OTHER_BUILDS.get(name, ()):
                entry += f" \\\n    --hash=sha256:{sha256}"
            parts[TORCH][name] = entry
        else:
            parts[RUNTIME if name in runtime else DEVELOPMENT][name] = entry
    return parts


def _resolved(options: Sequence[str]) -> dict[str, str]:
    if (uv := shutil.which("uv")) is None:
        raise FileNotFoundError("uv is not on the PATH; pip install uv")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "all.lock")
        command = [uv, "pip", "compile", "pyproject.toml", "--constraints", "constraints.txt", "--universal",
                   "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate", "--no-header", "--quiet",
                   "--output-file", str(output), *options]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True)
        return entries(output.read_text(encoding="utf-8"))


def _lines(name: str, part: Mapping[str, str]) -> Iterator[str]:
    yield f"# {_HEADS[name]}. Written by: python -m infra.packages.locking"
    yield from part.values()


def main() -> int:
    """Write the lock files; the exit code."""
    argparse.ArgumentParser(
        prog="python -m infra.packages.locking", description="Write the lock files anew."
    ).parse_args()
    try:
        parts = split(_resolved(["--extra", "dev"]), _resolved([]))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, part in parts.items():
        (ROOT / name).write_text("\n".join(_lines(name, part)) + "\n", encoding="utf-8")
        print(f"{name}: {len(part)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
