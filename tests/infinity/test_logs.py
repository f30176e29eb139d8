"""Logs are JSON lines by one switch, here and in Prefect's processes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from infinity.logs import SWITCH, JsonLines, wants_json
from infra.settings import REPOSITORY, Settings
from infra.stack import Server, Stack
from tests.fixtures.limits import AGES_S


def line(record: dict[str, object], **names: str) -> dict[str, str]:
    text = JsonLines(**names).format(logging.makeLogRecord(record))
    assert "\n" not in text
    loaded: dict[str, str] = json.loads(text)
    return loaded


def test_a_record_is_one_object_whatever_its_message_holds() -> None:
    found = line({"msg": 'two\nlines, "quoted" %s', "args": ("ü\u2028",), "levelname": "ERROR", "name": "a.b"})
    assert found["message"] == 'two\nlines, "quoted" ü\u2028'
    assert (found["level"], found["logger"]) == ("ERROR", "a.b")
    assert found["time"].endswith("+00:00")


def test_run_and_stage_are_named_by_the_process_or_by_prefect() -> None:
    assert {"run": "demo", "stage": "tokenizer-0"}.items() <= line({}, run="demo", stage="tokenizer-0").items()
    prefect = {"flow_run_name": "demo: pretrain", "task_run_name": "pretrain", "flow_run_id": "12"}
    expected = {"run": "demo: pretrain", "stage": "pretrain", "flow_run_id": "12"}
    assert expected.items() <= line(dict(prefect)).items()


def test_an_error_keeps_its_trace() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        found = line({"exc_info": sys.exc_info()})
    assert "ValueError: no" in found["error"]


@pytest.mark.parametrize(("value", "wants"), [("", False), ("text", False), ("json", True)])
def test_the_switch(monkeypatch: pytest.MonkeyPatch, value: str, wants: bool) -> None:
    monkeypatch.setenv(SWITCH, value)
    assert wants_json() is wants


def test_another_value_of_the_switch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "xml")
    with pytest.raises(ValueError, match="INFINITY_LOG_FORMAT: expected json or text, got 'xml'"):
        wants_json()


def test_processes_of_the_stack_get_the_setting_from_the_one_switch(tmp_path: object) -> None:
    server = Server("http://127.0.0.1:1/api")
    environment = Stack(Settings(state=str(tmp_path), log_format="json")).client_environment(server)  # type: ignore[arg-type]
    assert environment["PREFECT_LOGGING_SETTINGS_PATH"] == str(REPOSITORY / "infra" / "logging.yaml")
    plain = Stack(Settings(state=str(tmp_path))).client_environment(server)  # type: ignore[arg-type]
    assert "PREFECT_LOGGING_SETTINGS_PATH" not in plain


def test_prefect_writes_json_lines_with_this_configuration() -> None:
    script = (
        "from prefect.logging import get_logger; from prefect.logging.configuration import setup_logging; "
        "setup_logging(); get_logger('infinity').warning('hello %d', 3)"
    )
    environment = {**os.environ, "PREFECT_LOGGING_SETTINGS_PATH": str(REPOSITORY / "infra" / "logging.yaml")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=AGES_S
    )
    assert done.returncode == 0, done.stderr
    (found,) = map(json.loads, done.stderr.splitlines())
    assert (found["message"], found["logger"]) == ("hello 3", "prefect.infinity")


def test_a_stage_that_is_run_by_hand_says_run_and_stage(tmp_path: object) -> None:
    command = [sys.executable, "-m", "infinity.cli", "run", f"{tmp_path}/demo/tokenizer-1/spec.json"]
    environment = {**os.environ, SWITCH: "json"}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=AGES_S)
    assert done.returncode == 1
    (found,) = map(json.loads, done.stderr.splitlines())
    assert (found["run"], found["stage"], found["level"]) == ("demo", "tokenizer-1", "ERROR")
