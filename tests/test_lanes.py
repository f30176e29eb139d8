"""Several processes share the tests: each is run once, by one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lanes import TOGETHER, claimed, units_of, verdict

REPOSITORY = Path(__file__).parents[1]
CONFTEST = """import os
from pathlib import Path
from tests.lanes import CLAIMS, Lane
def pytest_configure(config):
    config.pluginmanager.register(Lane(Path(os.environ.pop(CLAIMS))), "lane")
"""
PLAIN = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Environment of the runs: their tests need no plugin, whose imports take most of a run."""

TEST = """import os, pytest
from pathlib import Path
@pytest.mark.parametrize("number", range(3))
def test_it(number):
    with (Path(__file__).parent / "ran").open("a") as file:
        file.write(f"{Path(__file__).stem} {number} {os.getpid()}\\n")
    assert (Path(__file__).stem, number) != ("test_2", 1)
"""


SECOND = """from pathlib import Path
ran = Path(__file__).with_name("ran")
def test_it():
    with ran.open("a") as file:
        file.write("it\\n")
    count = ran.read_text().count("it")
    assert not (FAILS)
def test_other():
    with ran.open("a") as file:
        file.write("other\\n")
"""


def lanes(folder: Path, test: str, *options: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Return the run of one file of tests in two lanes, and the lines that the tests wrote."""
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_one.py").write_text(test)
    command = [
        sys.executable,
        "-m",
        "tests.lanes",
        "--lanes",
        "2",
        *options,
        "-q",
        "-p",
        "no:cacheprovider",
        str(folder),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, env=PLAIN, capture_output=True, text=True, timeout=600)
    return done, (folder / "ran").read_text().splitlines()


def test_every_test_runs_once_a_file_stays_together_and_a_failure_counts(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number in range(6):
        (tmp_path / f"test_{number}.py").write_text(TEST)
    command = [
        sys.executable,
        "-m",
        "tests.lanes",
        "--once",
        "--lanes",
        "3",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, env=PLAIN, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted((name, number) for name, number, _ in ran) == [
        (f"test_{i}", str(n)) for i in range(6) for n in range(3)
    ]
    for name in {name for name, _, _ in ran}:
        assert len({process for each, _, process in ran if each == name}) == 1
    assert sum(map(int, re.findall(r"(\d+) passed", done.stdout))) == 17
    assert re.findall(r"(\d+) failed", done.stdout) == ["1"]


@pytest.mark.parametrize(
    ("fails", "code", "told"),
    [
        ("count == 1", 0, "UNSTEADY: failed beside others, passed alone: test_one.py::test_it"),
        ("count < 3", 1, "FAILED TWICE: test_one.py::test_it"),
    ],
    ids=["once", "twice"],
)
def test_a_failure_gets_one_second_try_alone_and_is_named(tmp_path: Path, fails: str, code: int, told: str) -> None:
    done, ran = lanes(tmp_path, SECOND.replace("FAILS", fails))
    assert done.returncode == code, done.stdout + done.stderr
    assert ran.count("it") == 2
    assert ran.count("other") == 1  # only what failed is repeated
    assert [line for line in done.stdout.splitlines() if line.startswith(("UNSTEADY", "FAILED TWICE"))] == [told]


def test_many_failures_and_a_run_that_asks_for_it_get_no_second_try(tmp_path: Path) -> None:
    many = SECOND.replace("FAILS", "True") + "".join(f"def test_{n}(): assert 0\n" for n in range(3))
    assert lanes(tmp_path / "many", many)[1].count("it") == 1
    done, ran = lanes(tmp_path / "once", SECOND.replace("FAILS", "count == 1"), "--once")
    assert (done.returncode, ran.count("it")) == (1, 1)


class Item:
    """What lanes ask a test for."""

    def __init__(self, file: str, name: str, *fixtures: str, mark: str = "") -> None:
        self.nodeid, self.fixturenames, self._mark = f"{file}::{name}", fixtures, mark

    def get_closest_marker(self, name: str) -> str | None:
        return self._mark if name == self._mark else None


def test_files_that_need_the_server_go_together_and_all_others_alone() -> None:
    items: list[Any] = [
        Item("tests/a.py", "one"),
        Item("tests/flows/b.py", "two"),
        Item("tests/infra/c.py", "three"),
        Item("tests/infra/c.py", "four", "prefect_server", "prefect_stack"),
        Item("tests/infra/d.py", "five", "tmp_path"),
    ]
    units = {unit: [item.nodeid.partition("::")[2] for item in tests] for unit, tests in units_of(items).items()}
    assert units == {"tests/a.py": ["one"], TOGETHER: ["two", "three", "four"], "tests/infra/d.py": ["five"]}


def test_heavy_files_come_first_and_are_left_alone_by_the_light_lane(tmp_path: Path) -> None:
    items: list[Any] = [
        Item("tests/a.py", "one"),
        Item("tests/b.py", "two"),
        Item("tests/b.py", "three", mark="ray"),
        Item("tests/flows/c.py", "four"),
        Item("tests/d.py", "five"),
    ]

    def names(folder: str, *, light: bool) -> list[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        return [item.nodeid.partition("::")[2] for item in claimed(items, tmp_path / folder, light=light)]

    assert names("alone", light=False) == ["four", "two", "three", "one", "five"]
    assert names("shared", light=True) == ["one", "five"]
    assert names("shared", light=False) == ["four", "two", "three"]
    assert names("shared", light=False) == []


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([0, 1], 1), ([5, 0], 0), ([5, 5], 5), ([0, -9], -9), ([2, 1], 2)]
)
def test_one_bad_lane_is_a_bad_run(codes: list[int], expected: int) -> None:
    assert verdict(codes) == expected
