"""A judge by command: on pictures of another model, with a local model or an endpoint, through faults and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.evaluation.results import below, load
from infinity.perception.language import endpoint as module
from tests.fixtures.data.question_files import WRITERS
from tests.fixtures.models.tiny_networks import write_llava
from tests.fixtures.servers.endpoint_stub import StubHandler, bright, endpoint

KEY = "sk-secret-987654321"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)


def run(*args: object) -> tuple[int, str]:
    with in_process():
        result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def write_prompts(folder: Path, number: int) -> dict[str, object]:
    """Write questions over some prompts and a picture of each; return the settings of the benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"prompt": f"prompt {n}", "questions": ["Is it bright?", "Is it a photo?"]} for n in range(number)]
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "flux").mkdir(exist_ok=True)
    for n in range(number):
        picture = np.full((6, 6, 4), (n * 37 % 256, n * 91 % 256, 120, n % 256), np.uint8)
        Image.fromarray(picture, "RGBA").save(folder / f"flux/{n:05d}.png")
    return {"suite": "questions", "questions": [{"file": {"uri": str(folder / "own.jsonl")}, "licence": "CC0"}]}


def endpoint_settings(url: str, **changes: object) -> dict[str, object]:
    return {"kind": "endpoint", "url": url, "model": "stub", "key_env": "JUDGE_KEY", **changes}


def evaluate(folder: Path, settings: dict[str, object], *more: object) -> tuple[int, str]:
    about = f"judge={json.dumps(settings)}"
    return run("evaluate", "--pictures", folder / "flux", "--name", "FLUX.9", "-b", about, "-o", folder / "out", *more)


def test_a_local_model_judges_pictures_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "flux").mkdir()
    for number in range(2):
        Image.new("RGBA", (16, 16), (200, 90 * number, 30, 7)).save(
            tmp_path / f"flux/{number:05d}_0.webp", lossless=True
        )
    source = WRITERS["geneval2"](tmp_path)
    (tmp_path / "vlm").mkdir()
    answerer = {"kind": "local", "vqa": {"model": write_llava(tmp_path / "vlm")}}
    settings = {"suite": "geneval2", "questions": [source.to_json()], "answerer": answerer}
    code, output = evaluate(tmp_path, settings)
    assert code == 0, output
    (folder,) = below(str(tmp_path / "out"))
    scores = {score.metric: score for score in load(folder).report.scores}
    overall = scores["judge_geneval2.overall"]
    assert overall.value is not None
    assert overall.note.startswith("pictures of FLUX.9, drawn elsewhere")
    assert "licence: written for tests" in overall.protocol
    assert "Soft-TIFA" in overall.protocol


def test_refusals_nonsense_and_time_outs_are_gaps_and_time_outs_are_asked_again(tmp_path: Path) -> None:
    settings, sick = write_prompts(tmp_path, 12), [True]

    def moody(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        kind = int(picture[0, 0, 0]) // 37 if picture[0, 0, 0] % 37 == 0 else 9
        if kind == 0 and sick[0]:
            handler.send(b"busy", 503)
        elif kind == 1:
            handler.reply("", refusal="I will not judge this")
        elif kind == 2:
            handler.reply("purple", {"purple": 0.9, "green": 0.1})
        elif kind == 3:
            handler.reply("Yes")  # without probabilities
        else:
            bright(handler, question, picture)

    with endpoint(moody) as (url, asked):
        settings["answerer"] = endpoint_settings(url, attempts=2, price_per_million=[2, 8])
        code, output = evaluate(tmp_path, settings)
        assert code == 0, output
        first = {score.metric: score for score in load(below(str(tmp_path / "out"))[0]).report.scores}
        overall, gaps = first["judge_questions.overall"], first["judge_questions.gaps"]
        assert overall.n == 8
        assert overall.note.partition("; ")[2].startswith("INCOMPLETE: 4 of 12 prompts")
        assert (gaps.value, gaps.n) == (8, 24)
        assert "stub-2026-01-01" in overall.protocol
        tokens = first["judge_questions.tokens"]
        assert tokens.value == 8 * 22
        assert "cost 0.0005 at 2 and 8 per million" in tokens.note
        sick[0], before = False, len(asked)
        code, output = evaluate(tmp_path, {**settings, "again": 1})
        assert code == 0, output
        folders = below(str(tmp_path / "out"))
        scores = [{s.metric: s for s in load(folder).report.scores} for folder in folders]
        assert sorted(found["judge_questions.overall"].n for found in scores) == [8, 9]
        assert len(asked) > before
    everything = "".join(file.read_text(errors="replace") for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert KEY not in everything + output


def test_an_endpoint_that_refuses_the_key_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    settings = write_prompts(tmp_path, 2)
    with endpoint(lambda handler, question, picture: handler.send(b"wrong key", 401)) as (url, _):
        code, output = evaluate(tmp_path, {**settings, "answerer": endpoint_settings(url)})
    assert code == 1
    assert "status 401" in output
    assert "Traceback" not in output
    assert not below(str(tmp_path / "out"))


SCRIPT = """
import sys
from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
with in_process():
    app(sys.argv[1:])
"""


def killed(folder: Path, settings: dict[str, object], kills: int, asked: list[dict[str, object]]) -> None:
    """Run the command in a process of its own, and kill it whenever some more questions were asked."""
    about = f"judge={json.dumps(settings)}"
    arguments = ["evaluate", "--pictures", str(folder / "flux"), "--name", "F", "-b", about, "-o", str(folder / "out")]
    command = [sys.executable, "-c", SCRIPT, *arguments, "--set", "batch_size=2"]
    for number in range(kills + 1):
        before = len(asked)
        with subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            while number < kills and process.poll() is None and len(asked) < before + 5 + 2 * number:
                time.sleep(0.01)
            if number < kills and process.poll() is None:
                process.send_signal(signal.SIGKILL)
            output, _ = process.communicate(timeout=300)
        if number == kills:
            assert process.returncode == 0, output.decode()


def files(folder: Path) -> dict[str, bytes]:
    (found,) = below(str(folder / "out"))
    return {
        name: (Path(found) / name).read_bytes()
        for name in ("judge_questions_answers.jsonl", "scores.json", "items.jsonl")
    }


def test_a_key_that_is_revoked_for_a_while_costs_no_answer(tmp_path: Path) -> None:
    """The command ends with an error in the middle, three times, and then with the files of an uninterrupted one."""
    good: list[int] = []
    limit = [9]

    def metered(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        if len(good) >= limit[0]:
            handler.send(b"no credit", 402)
            return
        good.append(1)
        bright(handler, question, picture)

    with endpoint(metered) as (url, _):
        answerer = endpoint_settings(url, concurrency=1)
        broken = {**write_prompts(tmp_path / "killed", 10), "answerer": answerer}
        for _ in range(3):
            code, output = evaluate(tmp_path / "killed", broken, "--set", "batch_size=2")
            assert code == 1
            assert "status 402" in output
            limit[0] += 5
        limit[0] = 1000
        assert evaluate(tmp_path / "killed", broken, "--set", "batch_size=2")[0] == 0
        assert len(good) <= 20 + 3 * 3, "what was answered is not asked again"
        whole = {**write_prompts(tmp_path / "whole", 10), "answerer": answerer}
        assert evaluate(tmp_path / "whole", whole, "--set", "batch_size=2")[0] == 0
    assert_same_files(tmp_path / "killed", tmp_path / "whole")


def assert_same_files(one: Path, other: Path) -> None:
    found, expected = files(one), files(other)
    assert found["judge_questions_answers.jsonl"] == expected["judge_questions_answers.jsonl"]
    assert found["items.jsonl"] == expected["items.jsonl"]
    values = [
        [(score["metric"], score["value"], score["low"]) for score in json.loads(each["scores.json"])]
        for each in (found, expected)
    ]
    assert values[0] == values[1]


def test_a_command_killed_five_times_ends_with_the_files_of_an_uninterrupted_one(
    tmp_path: Path, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("six processes; run with --exhaustive")

    def slow(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        time.sleep(0.05)
        bright(handler, question, picture)

    kills = 5
    for name in ("whole", "killed"):
        write_prompts(tmp_path / name, 40)
    with endpoint(slow) as (url, asked):
        answerer = endpoint_settings(url, concurrency=1)
        whole = {**write_prompts(tmp_path / "whole", 40), "answerer": answerer}
        assert evaluate(tmp_path / "whole", whole, "--set", "batch_size=2")[0] == 0
        number = len(asked)
        killed(tmp_path / "killed", {**write_prompts(tmp_path / "killed", 40), "answerer": answerer}, kills, asked)
        assert number < len(asked) - number <= number + 4 * kills, "what was answered is not asked again"
    assert_same_files(tmp_path / "killed", tmp_path / "whole")
