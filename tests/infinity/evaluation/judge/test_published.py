"""The published forms of TIIF-Bench and UniGenBench++: read from a checkout, asked whole, parsed as published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.config import parse_json
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.contents import contents
from infinity.evaluation.judge.answers import LocalJudge
from infinity.evaluation.judge.benchmark import JudgeBenchmark
from infinity.evaluation.judge.published import Checkout, WholeRequest, answers_of, request_of
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder
from infinity.perception.language import endpoint as module
from infinity.perception.language.endpoint import EndpointConfig
from infinity.perception.language.vqa import VqaConfig
from tests.fixtures.data.benchmark_checkouts import CHECKOUTS, TIIF_SCRIPT, UNIGENBENCH_SCRIPT
from tests.fixtures.data.question_files import WRITERS
from tests.fixtures.models.tiny_networks import write_llava
from tests.fixtures.servers.endpoint_stub import StubHandler, endpoint

JUDGE = EndpointConfig(url="http://127.0.0.1:1/v1", model="stub", key_env="", attempts=2)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)


def benchmark_of(folder: Path, suite: str, **changes: object) -> JudgeBenchmark:
    fields = {"suite": suite, "questions": [WRITERS[suite](folder).to_json()], "answerer": JUDGE.to_json()}
    checkout = Checkout(uri=CHECKOUTS[suite](folder / "repo"), licence="for tests")
    return JudgeBenchmark.from_json(fields).replace(checkout=checkout, **changes)


def judged(benchmark: JudgeBenchmark, folder: Path) -> BenchmarkResult:
    for number, item in enumerate(benchmark.items()):
        path = folder / f"pictures/{item.id}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(path)
    samples = benchmark.find(PictureFolder(uri=str(folder / "pictures")), benchmark.items())
    judge = benchmark.judge(Networks("cpu"))
    records = judge(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def scores(result: BenchmarkResult) -> dict[str, float | None]:
    return {score.metric: score.value for score in result.scores}


def test_tiifs_questions_are_asked_in_one_request_and_answered_in_lines(tmp_path: Path) -> None:
    def say(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        handler.reply("Sure.\nYes, a cup.\nyes: it is blue" if "cup" in question else "NO - three")

    with endpoint(say) as (url, asked):
        benchmark = benchmark_of(tmp_path, "tiif", answerer=JUDGE.replace(url=url))
        result = judged(benchmark, tmp_path)
    found = scores(result)
    assert found["judge_tiif.overall"] == 100 * (0.5 + 0) / 2
    assert found["judge_tiif.gaps"] == 0
    assert found["judge_tiif.tokens"] == 16
    body = next(each["body"] for each in asked if "cup" in each["question"])
    assert body["messages"][0] == {"role": "system", "content": "You look closely."}
    assert [part["type"] for part in body["messages"][1]["content"]] == ["text", "image_url"]
    assert "\nIs there a cup?\nIs the cup blue?\n" in body["messages"][1]["content"][0]["text"]
    assert (body["temperature"], body["max_tokens"]) == (1.0, 4096)
    assert "logprobs" not in body
    (protocol,) = {score.protocol for score in result.scores}
    assert "public script (eval_with_vlm.py sha256 " in protocol
    assert "one request per picture" in protocol
    assert "wording of this project" not in protocol


def test_unigenbenchs_points_are_asked_in_one_request_and_scored_in_a_list(tmp_path: Path) -> None:
    def say(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        two = "Color" in question
        handler.reply(f"<analysis>{['a', 'b'][: 1 + two]}</analysis>\n<score>\n{[0, 1][1 - two :]} </score>")

    with endpoint(say) as (url, asked):
        benchmark = benchmark_of(tmp_path, "unigenbench", answerer=JUDGE.replace(url=url, max_tokens=99))
        found = scores(judged(benchmark, tmp_path))
    assert found["judge_unigenbench.overall"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert found["judge_unigenbench.group.attribute_color"] == 0
    assert found["judge_unigenbench.group.style"] == 100
    body = next(each["body"] for each in asked if "Color" in each["question"])
    assert body["messages"][0]["content"][0]["text"] == (
        "Asked: [a red cup], points ['Attribute - Color', 'Style'].\n"
        "Explained:「\nAttribute - Color: which colour it has\nStyle: how it is made\n」\n"
        "Described:「\nAttribute - Color: red\nStyle: photo\n」\n"
        "Answer with <analysis>[...]</analysis><score>[...]</score> and {nothing} else."
    )
    assert body["max_tokens"] == 99
    assert "temperature" not in body


@pytest.mark.parametrize("suite", CHECKOUTS)
def test_a_reply_of_another_form_is_asked_for_again_and_then_a_counted_gap(tmp_path: Path, suite: str) -> None:
    def say(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        if "dogs" in question:
            handler.reply("I see two dogs.")
        elif len(handler.asked) < 3:
            handler.reply("yes\nno\nyes, three lines")
        else:
            handler.reply("yes\nno<analysis>['', '']</analysis><score>[1, 1]</score>")

    with endpoint(say) as (url, asked):
        benchmark = benchmark_of(tmp_path, suite, answerer=JUDGE.replace(url=url, concurrency=1))
        result = judged(benchmark, tmp_path)
    assert len(asked) == 4
    gaps = next(score for score in result.scores if score.metric.endswith(".gaps"))
    assert (gaps.value, gaps.n) == (1, 3)
    assert "found" in gaps.note
    overall = next(score for score in result.scores if score.metric.endswith(".overall"))
    assert overall.value == 100
    assert "INCOMPLETE: 1 of 2 prompts" in overall.note
    assert scores(result)[f"judge_{suite}.tokens"] == 4 * 8


@pytest.mark.parametrize("suite", CHECKOUTS)
def test_a_real_model_with_random_weights_is_asked_in_the_published_form(tmp_path: Path, suite: str) -> None:
    (tmp_path / "vlm").mkdir()
    local = LocalJudge(vqa=VqaConfig(model=write_llava(tmp_path / "vlm"), batch_size=1, max_new_tokens=3))
    found = scores(judged(benchmark_of(tmp_path, suite, answerer=local), tmp_path))
    assert found[f"judge_{suite}.overall"] is None
    assert found[f"judge_{suite}.gaps"] == 3


@pytest.mark.parametrize(
    ("number", "reply", "expected"),
    [
        (2, "yes\n\n  NO. because", ["yes", "no"]),
        (1, "yesterday\nYes", ["yes"]),
        (1, "**yes**", None),
        (2, "yes, no", None),
        (1, "yes\nyes", None),
        (1, "", None),
    ],
)
def test_lines_are_read_as_the_public_script_reads_them(number: int, reply: str, expected: list[str] | None) -> None:
    found = answers_of(WholeRequest(text="?", form="lines"), number, reply)
    assert found == expected if expected else "expected" in found


@pytest.mark.parametrize(
    ("number", "analysis", "score", "expected"),
    [
        (2, "['a', 'b']", "[1, 0]", ["yes", "no"]),
        (1, "['it\\d']", " [1.0] ", ["yes"]),
        (1, "['a']", "['1']", ["no"]),
        (1, "['a']", "[2]", ["no"]),
        (1, "['a', 'b']", "[1]", None),
        (1, "['a']", "[1, 1]", None),
        (1, "a", "[1]", None),
        (1, "['a']", "1", None),
        (1, "['a']", "[__import__('os').getpid()]", None),
        (1, "['a']", "{[]: 1}", None),
        (1, "['a']", "(" * 300 + "1" + ")" * 300, None),
        (1, "['a']", "-" * 100_000 + "1", None),
    ],
)
def test_scores_are_read_as_the_public_script_reads_them(
    number: int, analysis: str, score: str, expected: list[str] | None
) -> None:
    reply = f"so:\n<analysis>{analysis}</analysis>\n<score>{score}</score>"
    found = answers_of(WholeRequest(text="?", form="scores"), number, reply)
    assert found == expected if expected else "expected a list" in found


@pytest.mark.parametrize(
    ("suite", "script"),
    [
        ("tiif", "prompt = 'Answer: {questions}'"),
        ("tiif", "def f(:"),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace("LANG_CONFIGS", "CONFIGS")),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace('"en"', '"fr"')),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace("[{prompt}]", "{prompt.__class__}")),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace("[{prompt}]", "{prompt!r:>99999999}")),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace("[{prompt}]", "{unknown}")),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace("[{prompt}]", "{prompt")),
        ("unigenbench", UNIGENBENCH_SCRIPT.replace('"Style":', '"Styles":')),
    ],
)
def test_a_script_of_another_form_is_refused_with_one_sentence(tmp_path: Path, suite: str, script: str) -> None:
    benchmark = benchmark_of(tmp_path, suite)
    CHECKOUTS[suite](tmp_path / "repo", script)
    with pytest.raises(ValueError, match=r"eval_(with_vlm|common)\.py") as error:
        benchmark.items()
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkout_is_refused_where_it_changes_nothing_or_is_not_there(tmp_path: Path) -> None:
    fields = {"suite": "dsg", "questions": [WRITERS["dsg"](tmp_path).to_json()], "answerer": JUDGE.to_json()}
    with pytest.raises(ValueError, match="expected one with tiif or unigenbench, got it with dsg"):
        JudgeBenchmark.from_json({**fields, "checkout": {"uri": "x"}})
    benchmark = benchmark_of(tmp_path, "tiif").replace(checkout=Checkout(uri=str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match=r"nothing: expected a checkout .* with eval/eval_with_vlm\.py"):
        benchmark.items()


def test_a_benchmark_without_a_checkout_keeps_its_digest_and_its_wording(tmp_path: Path) -> None:
    plain = benchmark_of(tmp_path, "tiif").replace(checkout=None)
    assert "checkout" not in plain.identity()
    assert all(set(item.about) == {"questions"} for item in plain.items())
    assert plain.judge_settings()["wording"] == [plain.rules.wording, False]


def test_another_wording_in_a_checkout_is_another_evaluation(tmp_path: Path) -> None:
    benchmark = benchmark_of(tmp_path, "tiif")
    before, items = contents(None, {"judge": benchmark}), benchmark.items()
    CHECKOUTS["tiif"](tmp_path / "repo", TIIF_SCRIPT.replace("Look at it", "Look away").replace("Is it so", "Or not"))
    assert contents(None, {"judge": benchmark}) != before
    assert all(new.about != old.about for new, old in zip(benchmark.items(), items, strict=True))


def test_a_script_can_be_named_itself_and_every_template_is_used(tmp_path: Path) -> None:
    lines = [{"type": "style", "yn_question_list": [f"Is it {n}?"], "yn_answer_list": ["yes"]} for n in range(40)]
    prompts = [{"type": "style", "short_description": f"prompt {n}", "long_description": "x"} for n in range(40)]
    for name, listed in (("questions.jsonl", lines), ("prompts.jsonl", prompts)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in listed))
    script = f"{CHECKOUTS['tiif'](tmp_path / 'repo')}/eval/eval_with_vlm.py"
    source = {"file": {"uri": f"{tmp_path}/questions.jsonl"}, "prompts": {"uri": f"{tmp_path}/prompts.jsonl"}}
    benchmark = JudgeBenchmark.from_json(
        {"suite": "tiif", "questions": [source], "answerer": JUDGE.to_json(), "checkout": {"uri": script}}
    )
    requests = [request_of(item) for item in benchmark.items()]
    assert {request.text.split("\n")[0] or "first" for request in requests if request} == {"first", "Is it so?"}
    assert [request_of(item) for item in benchmark.items()] == requests
    assert parse_json(json.dumps([item.about for item in benchmark.items()]), where="")
