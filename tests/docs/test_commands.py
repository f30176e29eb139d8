"""Every command in README and documents exists as it is written; cheap ones run in miniature."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from tests.fixtures.data.pictures_on_disk import good_folder
from tests.fixtures.data.small_world import write_model
from tests.fixtures.documents import REPOSITORY, Command, blocks, commands, documents, example_commands, name_of

COMMANDS = [command for document in documents() for command in commands(document)] + example_commands()
PYTEST_OPTIONS = {"-s": False, "-x": False, "-q": False, "--exhaustive": False, "--share": True, "-k": True}
"""Options of pytest that documents use, and whether a value follows."""


def of_tool(*tools: str) -> list[Command]:
    return [command for command in COMMANDS if command.words[0] in tools]


def named(cases: Sequence[Command]) -> Any:
    unique = {(each.document, each.text): each for each in cases}
    return pytest.mark.parametrize("command", unique.values(), ids=str)


def test_documents_have_commands_of_every_tool_and_none_of_an_unknown_one() -> None:
    known = {"infinity", "make", "pytest", "python", "prefect", "bash", "source", "jq", "pip"}
    unknown = {str(command) for command in COMMANDS if command.words[0] not in known}
    assert not unknown
    assert known <= {command.words[0] for command in COMMANDS}
    assert len(COMMANDS) > 150


def _faults_of(command: click.Command, arguments: list[str]) -> set[str]:
    """Return the kind of error that parsing ends with; by name, since typer may carry a copy of click of its own."""
    try:
        command.make_context(str(command.name), arguments)
    except Exception as error:
        return {type(error).__name__}
    return set()


@named(of_tool("infinity"))
def test_commands_of_infinity_parse(command: Command) -> None:
    node: click.Command = typer.main.get_command(app)
    rest = list(command.words[1:])
    while isinstance(node, click.Group) or hasattr(node, "commands"):
        name = rest.pop(0) if rest else "--help"
        if name == "--help":
            return
        assert name in node.commands, f"{command}: no command {name!r} among {sorted(node.commands)}"  # type: ignore[attr-defined]
        node = node.commands[name]  # type: ignore[attr-defined]
    faults = _faults_of(node, rest)
    if not command.whole:  # in a sentence, arguments and values may be left out
        faults -= {"MissingParameter", "BadOptionUsage"}
    assert not faults, f"{command}: {faults}"


@named(of_tool("make"))
def test_targets_and_variables_of_make_exist(command: Command) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[0].split())
    for word in command.words[1:]:
        name, is_variable, _ = word.partition("=")
        assert f"$({name})" in makefile if is_variable else name in targets, f"{command}: {name}"


def _module_file(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"no module {name}"
    assert spec.origin is not None, f"no module {name}"
    if spec.submodule_search_locations:
        return Path(spec.origin).parent / "__main__.py"
    return Path(spec.origin)


@named([command for command in of_tool("python") if command.words[1] == "-m"])
def test_modules_exist_and_know_their_options(command: Command) -> None:
    # The module that people name hands its command line to a file of its own.
    path = _module_file({"infra.stack": "infra.stack_commands"}.get(command.words[2], command.words[2]))
    assert path.is_file(), f"{command}: {path} is not there"
    texts = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for word in command.words[3:]:
        if word.startswith("--"):
            assert word.partition("=")[0] in texts, f"{command}: {path.name} has no option {word}"
    if command.words[2] == "infra.stack":
        assert command.words[3] in texts, str(command)


def test_modules_print_their_help(exhaustive: bool) -> None:
    modules = sorted({each.words[2] for each in of_tool("python") if each.words[1] == "-m"})
    for module in modules if exhaustive else ["benchmarks.structure", "flows.demo"]:
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
        )
        text = done.stdout + done.stderr
        assert "usage" in text.lower(), f"{module}: {text[-500:]}"
        assert "Traceback" not in text, f"{module}: {text[-500:]}"


@named([command for command in of_tool("python", "bash", "source") if command.words[1] != "-m"])
def test_scripts_exist(command: Command) -> None:
    if command.words[1] == ".venv/bin/activate":  # made by `make setup`
        return
    assert (REPOSITORY / command.words[1]).is_file(), str(command)


@named(of_tool("jq"))
def test_figures_are_read_from_reports(command: Command) -> None:
    assert re.fullmatch(r'\."[a-z_.]+"', command.words[1]), str(command)
    assert command.words[2].endswith("report.json"), str(command)


@named(of_tool("pip"))
def test_extras_exist(command: Command) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, _, extra = command.words[-1].rstrip("]").partition("[")
    assert name == project["name"]
    assert extra in project["optional-dependencies"]


def _flow(command: Command) -> Any:
    deployment, _, pool = command.words[3].partition("/")
    assert pool == "local", str(command)
    entries = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    module = deployment.replace("-", "_")
    assert f"flows/{module}.py:{module}" in {entry["entrypoint"] for entry in entries}, f"{command}: no {deployment}"
    return getattr(importlib.import_module(f"flows.{module}"), module)


@named([command for command in of_tool("prefect") if command.words[1:3] != ("deployment", "run")])
def test_other_commands_of_prefect_exist(command: Command) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "prefect", *command.words[1:3], "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert told.returncode == 0, f"{command}: {told.stderr[-500:]}"
    for word in command.words[3:]:
        assert not word.startswith("--") or word in told.stdout, f"{command}: no {word}"


@named([command for command in of_tool("prefect") if command.words[1:3] == ("deployment", "run")])
def test_deployments_take_the_parameters_that_are_given(command: Command) -> None:
    flow = _flow(command)
    rest = [word for word in command.words[4:] if word != "--watch"]
    assert set(rest[::2]) <= {"--param"}, str(command)
    given = dict(word.split("=", 1) for word in rest[1::2])
    flow.validate_parameters({name: _value(text) for name, text in given.items()})


def _value(text: str) -> Any:
    return json.loads(text) if text[:1] in "{[" else text


def _arguments(command: Command) -> tuple[list[str], str]:
    """Return the paths and the ``-k`` expression of a pytest command."""
    paths, expression, words = [], "", list(command.words[1:])
    while words:
        word = words.pop(0)
        if word in PYTEST_OPTIONS:
            value = words.pop(0) if PYTEST_OPTIONS[word] else ""
            expression = value if word == "-k" else expression
        else:
            assert not word.startswith("-"), f"{command}: add {word} to PYTEST_OPTIONS"
            paths.append(word)
    return paths, expression


@named(of_tool("pytest"))
def test_paths_of_pytest_exist(command: Command) -> None:
    paths, _ = _arguments(command)
    for path in paths:
        assert (REPOSITORY / path).exists(), f"{command}: {path} is not there"


def _collected(paths: list[str]) -> list[str]:
    """Return the ids of the tests of some paths."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--exhaustive", "-p", "no:cacheprovider", *paths],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


def _written(paths: list[str]) -> list[str]:
    """Return what names the tests of some paths as it is written: each function, and each text in its file."""
    folders = [REPOSITORY / path for path in paths]
    files = {file for path in folders for file in (path.rglob("test_*.py") if path.is_dir() else [path])}
    return [
        f"{file.relative_to(REPOSITORY).as_posix()}::{node.name if isinstance(node, ast.FunctionDef) else node.value!s}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.Constant)
    ]


def test_selections_of_pytest_select_something(exhaustive: bool) -> None:
    """By the names and texts of the files; by what pytest collects with --exhaustive."""
    cases = [(command, *_arguments(command)) for command in of_tool("pytest")]
    cases = [case for case in cases if case[2]]
    assert cases
    paths = sorted({path.partition("::")[0] for _, found, _ in cases for path in found})
    tests = _collected(paths) if exhaustive else _written(paths)
    for command, found, expression in cases:
        below = [test for test in tests if test.startswith(tuple(found))]
        for part in expression.split(" or "):
            # As pytest does: anywhere in the name of the file, the test or its parameters, whatever the case.
            assert any(part.lower() in _name(test) for test in below), f"{command}: {part}"


def _name(test: str) -> str:
    """Return the file's own name and what follows, in small letters; parameters may hold paths."""
    file, colons, rest = test.partition("::")
    return (file.rpartition("/")[2] + colons + rest).lower()


RUN = {"generate", "info", "data show", "data verify", "data gallery", "tokenizer-spec", "registry show"}
"""Commands that take well under a second beside their imports, with models and data sets of the right shape."""


def _runs(command: Command) -> bool:
    names = {command.words[1], " ".join(command.words[1:3])} if len(command.words) > 1 else set()
    absent = ("cuda", "models/2b", "models/125m", "--lora")
    return command.whole and bool(names & RUN) and not any(word in command.words for word in absent)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    spec = BuildDatasetSpec(
        source=str(good_folder(folder / "in", 8, sizes=[(32, 32)])), output=str(folder / "out"), validation_share=0.3
    )
    with in_process():
        return run(spec).manifest


@named([command for command in of_tool("infinity") if _runs(command)])
def test_cheap_commands_run_in_miniature(
    command: Command, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFINITY_RUNS", str(tmp_path))
    model = write_model(tmp_path)
    given = {
        "PLACEHOLDERmodel_folder": model,
        "PLACEHOLDERmanifest": manifest,
        "PLACEHOLDERmanifest.parquet": manifest,
    }
    words = []
    for word in command.words[1:]:
        start_from = word.startswith("PLACEHOLDERmodel_folder_of_stage")
        words.append(str(tmp_path / "tokenizer-source") if start_from else given.get(word, word))
    for name in ("vgg16-397923af.pth", "vgg.pth"):
        Path(name).write_bytes(b"looked at when the training begins")
    Path("watermark.key").write_text("the key of a test")
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, f"{command}: {done.output}"


PAGES = [document for document in documents() if blocks(document.read_text(encoding="utf-8"), "python")]


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_python_blocks_run_in_order(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's blocks in one namespace, where the model of the demo is one with random weights.

    A block with an ellipsis for a name that only the reader knows is compiled and not run.
    """
    (tmp_path / "runs").mkdir()
    write_model(tmp_path / "made")
    (tmp_path / "made" / "model").rename(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*.png"))
    namespace: dict[str, Any] = {}
    ran = False
    for block in blocks(document.read_text(encoding="utf-8"), "python"):
        code = compile(block, name_of(document), "exec")
        if "..." not in block:
            exec(code, namespace)
            ran = True
    assert not ran or set(tmp_path.rglob("*.png")) - before
