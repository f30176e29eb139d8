"""Doors of what others hand over: replies and files of judges, files of HPSv3, working files, trackers, archives."""

from __future__ import annotations

import json
import os
import random
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infinity.data.curation.partitioned.buckets import read_bucket, read_told, write_buckets
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import open_source
from infinity.evaluation.judge.answers import LocalJudge, WholeQuestions, hard_answer, soft_answer, whole_answers
from infinity.evaluation.judge.benchmark import JudgeBenchmark
from infinity.evaluation.judge.published import Checkout, WholeRequest
from infinity.evaluation.judge.questions import JudgeQuestion
from infinity.jobs.live_tracking import tracked
from infinity.perception.language.endpoint import Endpoint, EndpointConfig, EndpointReply
from infinity.perception.preference.hps3 import Hps3Config, fitting_size, read_instruction
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.benchmark_checkouts import CHECKOUTS, TIIF_SCRIPT, UNIGENBENCH_SCRIPT
from tests.fixtures.data.question_files import WRITERS
from tests.fuzz.doors import command
from tests.fuzz.mutations import NUMBERS, TEXTS, odd_bytes, odd_json, odd_text, odd_value
from tests.fuzz.world import World

_COMPLETION: dict[str, Any] = {
    "model": "m-2026", "system_fingerprint": "f", "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    "choices": [{"finish_reason": "stop", "message": {"content": "yes", "refusal": None}, "logprobs": {"content": [
        {"token": "yes", "top_logprobs": [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -3}]}]}}],
}  # fmt: skip
_INSTRUCTION = 'INSTRUCTION = "Score {text_prompt}."\nprompt_with_special_token = "It is <|Reward|>."\n'
_WORDS = ["yes", "no", "Yes,", "\n", "<analysis>", "</analysis>", "<score>", "</score>", "[", "]", "1", "0", ",", "'a'"]


def judge_answers(world: World, rng: random.Random) -> None:
    """Replies of a judge, as an endpoint sends them and as questions understand them."""
    endpoint = Endpoint(EndpointConfig(url="http://127.0.0.1:9/v1", model="m", key_env=""))
    reply = endpoint._read(odd_json(rng, _COMPLETION).encode("utf-8", "replace"))
    text = rng.choice([reply.text or "", odd_text(rng), " ".join(rng.choices(_WORDS, k=rng.randrange(20)))])
    question = JudgeQuestion(
        text="?", answer=rng.choice(["yes", "two", "red"]), choices=("red", "yes", "two") if rng.random() < 0.3 else ()
    )
    hard_answer(question, text)
    soft_answer(question, EndpointReply(text=text, tokens=reply.tokens), {})
    for form in ("lines", "scores"):
        request = WholeRequest.from_json({"text": "?", "form": form})
        asked = WholeQuestions(
            picture=np.zeros((1, 1, 3), np.uint8), request=request, questions=(question,) * rng.randrange(1, 4)
        )
        assert len(whole_answers(asked, text)) == len(asked.questions)


def judge_files(world: World, rng: random.Random) -> None:
    """Question files and checkouts with odd content."""
    suite = rng.choice(list(WRITERS))
    source = WRITERS[suite](world.scratch)
    for file in (source.file, source.prompts):
        if file is not None and rng.random() < 0.7:
            _spoil(file.uri, rng)
    fields: dict[str, Any] = {
        "suite": suite, "questions": [source.to_json()], "answerer": {"kind": "local", "vqa": {"model": "/none"}},
    }  # fmt: skip
    if suite in CHECKOUTS:
        script = {"tiif": TIIF_SCRIPT, "unigenbench": UNIGENBENCH_SCRIPT}[suite]
        folder = CHECKOUTS[suite](world.scratch / "repo", odd_script(rng, script))
        fields["checkout"] = {"uri": rng.choice([folder, folder, rng.choice(TEXTS)])}
    benchmark = JudgeBenchmark.from_json(fields)
    assert isinstance(benchmark.answerer, LocalJudge)
    benchmark.items()
    if benchmark.checkout is not None:
        assert isinstance(benchmark.checkout, Checkout)
        assert benchmark.checkout.content()
        assert benchmark.rules.describe()


def _spoil(path: str, rng: random.Random) -> None:
    with open(path, "rb") as file:
        data = file.read()
    if rng.random() < 0.5:
        data = odd_bytes(rng, data)
    elif path.endswith(".jsonl"):
        data = "\n".join(odd_json(rng, json.loads(line)) for line in data.splitlines()).encode("utf-8", "replace")
    elif path.endswith(".json"):
        data = odd_json(rng, json.loads(data)).encode("utf-8", "replace")
    else:
        data = data.replace(rng.choice([b",", b'"', b"\n", b"0", b"["]), odd_text(rng).encode("utf-8", "replace"), 1)
    with open(path, "wb") as file:
        file.write(data)


def odd_script(rng: random.Random, script: str) -> str:
    """A Python file with some texts in it replaced, often no Python any more."""
    marks = ['"', "'", "{", "}", "=", "##YNQuestions##", "\n", "(", "LANG_CONFIGS", "en", "prompt", "testpoint"]
    more = ["{a.b}", "{0}", "{prompt!r}", "{prompt:>9}", "((" * 99, "-" * 999, "\0", "A = A + A\n", "f''", "*[]"]
    for _ in range(rng.randrange(3)):
        script = script.replace(rng.choice(marks), rng.choice([odd_text(rng), *more]), rng.choice([1, 2, -1]))
    return script.encode("utf-8", "replace").decode()


def hps3_files(world: World, rng: random.Random) -> None:
    """HPSv3's settings and its instruction, and pictures of any size."""
    file = world.scratch / "data.py"
    file.write_bytes(odd_script(rng, _INSTRUCTION).encode("utf-8", "replace"))
    if rng.random() < 0.3:
        file.write_bytes(odd_bytes(rng, file.read_bytes()))
    plain = Hps3Config(instruction=PinnedFile(uri=str(file)), instruction_sha256=None).to_json()
    config = Hps3Config.parse(odd_json(rng, plain)) if rng.random() < 0.5 else Hps3Config(**_of(plain))
    if config.instruction.uri == str(file):
        assert read_instruction(config)
    height, width = (rng.choice([1, 2, 27, 28, 29, 1000, 10**6]) for _ in range(2))
    rows, columns = fitting_size(height, width, config.pixels)
    assert rows >= 28
    assert columns >= 28


def _of(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "weights": PinnedFile(**plain["weights"]), "instruction": PinnedFile(**plain["instruction"])}


def partitions(world: World, rng: random.Random) -> None:
    """Working files of a decision in parts that a disk has damaged."""
    uri = str(world.scratch / "rows/000000.parquet")
    rows = pa.table({"row": list(range(9)), "text": [odd_text(rng).encode("utf-8", "replace").decode()] * 9})
    write_buckets(uri, rows, np.arange(9) % 3, {"rows": 9})
    with open(uri, "rb") as file:
        data = file.read()
    if rng.random() < 0.3:
        table = rows.replace_schema_metadata(
            {rng.choice([b"infinity.buckets", b"infinity.told"]): odd_json(rng, [1]).encode("utf-8", "replace")}
        )
        pq.write_table(table, uri)
    else:
        with open(uri, "wb") as file:
            file.write(odd_bytes(rng, data))
    read_told(uri)
    assert read_bucket([uri], rng.randrange(4)).num_rows <= 9


def trackers(world: World, rng: random.Random) -> None:
    """Names, folders and projects of experiment trackers."""
    names = ["tensorboard", "tensorboard,tensorboard", " tensorboard ,", "wandb,mlflow", "x", ",", *TEXTS]
    odd = [text for text in (*TEXTS, *map(str, NUMBERS)) if "\0" not in text and "\ud800" not in text]
    values = {
        "INFINITY_TRACKERS": rng.choice([text for text in names if "\0" not in text and "\ud800" not in text]),
        "INFINITY_TRACKING": rng.choice(["", str(world.scratch / "t"), str(world.manifest), "/dev/null/x"]),
        "INFINITY_TRACKING_PROJECT": rng.choice(odd),
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        with tracked(str(world.scratch / rng.choice(["job", "none", "a b"]))):
            pass
        command("track", world.folder / "summary", "--to", odd_value(rng), "-o", world.scratch / "t")
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def archives(world: World, rng: random.Random) -> None:
    """Zip archives of pictures with bytes changed anywhere."""
    file = world.scratch / "a.zip"
    with zipfile.ZipFile(
        file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    ) as packed:
        for path in sorted(world.pictures.rglob("*")):
            packed.write(path, path.relative_to(world.pictures).as_posix())
        packed.writestr("x" + odd_text(rng).encode("utf-8", "replace").decode(), "a text")
    file.write_bytes(odd_bytes(rng, file.read_bytes()))
    for piece in open_source(str(rng.choice([file, world.scratch]))).slices:
        for record in piece.read():
            try:
                fetch(record)
            except ValueError:
                continue


NETWORKS = {
    "judge-answers": judge_answers,
    "judge-files": judge_files,
    "hps3": hps3_files,
    "partitions": partitions,
    "trackers": trackers,
    "archives": archives,
}
