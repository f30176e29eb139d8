"""Several processes share the tests: each is run once, by one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lanes import MOST_CASES, TOGETHER, claimed, files_of, sample_of, units_of, verdict

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


IMPORTED = """from pathlib import Path
with (Path(__file__).parent / "ran").open("a") as file:
    file.write(f"imported {Path(__file__).stem}\\n")
"""


def test_a_file_is_imported_once_and_one_that_cannot_be_makes_a_bad_run(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(IMPORTED + SECOND.replace("FAILS", "False"))
    done, ran = lanes(tmp_path, IMPORTED + SECOND.replace("FAILS", "False"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(ran) == ["imported test_one", "imported test_two", "it", "it", "other", "other"]
    done, _ = lanes(tmp_path, "import nothing_of_this_name")
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr


MANY = """import pytest
from pathlib import Path
MARK
@pytest.mark.parametrize("number", range(20))
def test_it(number):
    with (Path(__file__).parent / "ran").open("a") as file:
        file.write(f"{number}\\n")
"""
OPTION = """def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true")
"""


def test_of_many_cases_a_sample_runs_and_all_if_asked_for(tmp_path: Path) -> None:
    _, ran = lanes(tmp_path / "sample", MANY.replace("MARK", ""))
    assert ran == ["0", "9", "19"]
    every = [str(number) for number in range(20)]
    assert lanes(tmp_path / "things", MANY.replace("MARK", "@pytest.mark.every_case"))[1] == every
    itself = MANY.replace("MARK", "@pytest.fixture\ndef exhaustive(): ...").replace("(number)", "(number, exhaustive)")
    assert lanes(tmp_path / "itself", itself)[1] == every
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "test_one.py").write_text(MANY.replace("MARK", ""))
    (folder / "conftest.py").write_text(CONFTEST + OPTION)
    command = [sys.executable, "-m", "tests.lanes", "--lanes", "1", "--exhaustive", "-q", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, env=PLAIN, check=True, capture_output=True, timeout=600)
    assert (folder / "ran").read_text().split() == every


def test_a_sample_has_the_first_and_the_last_case_of_every_test_and_nothing_twice() -> None:
    for count in range(1, 60):
        ids = [f"tests/a.py::test_it[{number}]" for number in range(count)]
        sample = sample_of([*ids, "tests/a.py::test_other"])
        assert {ids[0], ids[-1], "tests/a.py::test_other"} <= sample
        assert len(sample) == min(count, MOST_CASES) + 1


def test_arguments_name_files_and_keep_what_is_chosen_of_them(tmp_path: Path) -> None:
    for name in ("tests/a/test_one.py", "tests/test_two.py", "tests/helper.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    one, two = "tests/a/test_one.py", "tests/test_two.py"
    assert files_of(["tests"], tmp_path) == {one: [one], two: [two]}
    assert files_of([f"{one}::test_a", f"{one}::test_b", two], tmp_path) == {
        one: [f"{one}::test_a", f"{one}::test_b"],
        two: [two],
    }


TEXTS = {
    "tests/a.py": "def test_one(): ...",
    "tests/b.py": "@pytest.mark.ray\ndef test_two(): ...",
    "tests/flows/c.py": "def test_three(): ...",
    "tests/infra/d.py": "def test_four(tmp_path: Path, prefect_server: str): ...",
    "tests/e.py": "the prefect_server and a mark of rays",
}


def test_files_that_need_the_server_go_together_first_and_heavy_ones_before_others() -> None:
    assert list(units_of(TEXTS).items()) == [
        (TOGETHER, ["tests/flows/c.py", "tests/infra/d.py"]),
        *((file, [file]) for file in ("tests/b.py", "tests/a.py", "tests/e.py")),
    ]


def test_heavy_files_are_left_alone_by_the_light_lane(tmp_path: Path) -> None:
    assert list(claimed(TEXTS, tmp_path, light=True)) == [["tests/a.py"], ["tests/e.py"]]
    assert list(claimed(TEXTS, tmp_path)) == [["tests/flows/c.py", "tests/infra/d.py"], ["tests/b.py"]]
    assert list(claimed(TEXTS, tmp_path)) == []


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([0, 1], 1), ([5, 0], 0), ([5, 5], 5), ([0, -9], -9), ([2, 1], 2)]
)
def test_one_bad_lane_is_a_bad_run(codes: list[int], expected: int) -> None:
    assert verdict(codes) == expected
