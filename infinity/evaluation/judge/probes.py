"""Drift alarm: pictures and questions whose answers are known; a judge that answers otherwise has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import Config, digest_of
from infinity.evaluation.judge.answers import Answerer, JudgeConfig, load_judge
from infinity.evaluation.judge.questions import JudgeQuestion
from infinity.evaluation.judge.suites import SUITES, SuiteName
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import read_picture
from infinity.ranges import ShareBelowOne
from infinity.storage.lines import json_objects
from infinity.storage.pinned import PinnedFile


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSet(Config):
    """Probes with the answers that a judge once gave.

    Attributes:
        file: JSON lines with picture (path from the file's folder), question (fields of `JudgeQuestion`), and the
            recorded reply, with its probability p where the benchmark is soft.
        most: Largest change of a probability that is no drift; a reply without probability must be the same.
    """

    file: PinnedFile
    most: ShareBelowOne = 0.02

    def content(self) -> str:
        """Return 16 hexadecimal digits over the file and its pictures; empty where the file is not there.

        Raises:
            ValueError: A line is no probe.
            StorageError: A file cannot be read.
        """
        uri = self.file.uri
        if "://" not in uri and not storage.exists(uri):
            return ""
        places = [_place(uri, where, line) for where, line in json_objects(self.file.read(), uri)]
        return digest_of(
            [self.file.content_digest(), [storage.sha256(each) for each in places if storage.exists(each)]]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRun(Config):
    """All that the answers to the probes depend on; the key under which a worker keeps them.

    Attributes:
        suite: Benchmark whose wording is used.
    """

    probes: ProbeSet
    judge: JudgeConfig
    suite: SuiteName


def drift(networks: Networks, run: ProbeRun) -> dict[str, Any]:
    """Return how the judge answers the probes now: their number, how many changed, and the largest change.

    A probe whose answer did not come, such as after a time-out, is "silent" and no change. The probes are asked once
    per worker.

    Raises:
        ValueError: The file cannot be read, or has no probe.
    """
    found: dict[str, Any] = networks.get(run, lambda config, device: _ask(networks, config))
    return found


def _ask(networks: Networks, run: ProbeRun) -> dict[str, Any]:
    uri, lines = run.probes.file.uri, list(json_objects(run.probes.file.read(), run.probes.file.uri))
    if not lines:
        raise ValueError(f"{uri}: expected probes, found none")
    asked = [(where, line, JudgeQuestion.from_json(line.get("question"), where=where)) for where, line in lines]
    pictures = [read_picture(_place(uri, where, line)) for where, line, _ in asked]
    judge: Answerer = load_judge(networks, run.judge)
    pairs = [(picture, question) for picture, (_, _, question) in zip(pictures, asked, strict=True)]
    answers = judge.answer(SUITES[run.suite], pairs)
    changed, largest, first, silent = 0, 0.0, "", 0
    for (where, line, question), answer in zip(asked, answers, strict=True):
        if not isinstance(line.get("reply"), str):
            raise ValueError(f"{where}: expected the recorded reply, found {line.get('reply')!r}")
        if answer.passing:
            silent += 1
            continue
        if answer.probability is None or not isinstance(line.get("p"), float | int):
            change = 0.0 if answer.reply == line["reply"] else 1.0
        else:
            change = abs(answer.probability - float(line["p"]))
        largest = max(largest, change)
        if change > run.probes.most:
            changed += 1
            first = first or f"{question.text!r}: {line['reply']!r} is now {answer.reply or answer.gap!r}"
    found = {"number": len(lines), "changed": changed, "largest": largest, "first": first}
    return found | ({"silent": silent} if silent else {})


def record(uri: str, suite: SuiteName, judge: Answerer, wanted: Sequence[tuple[str, JudgeQuestion]]) -> None:
    """Write a file of probes with the judge's present answers.

    Args:
        uri: File to write, JSON lines.
        suite: Benchmark whose wording is used.
        wanted: Paths of pictures from the file's folder, each with a question.

    Raises:
        ValueError: The judge has no answer to a question.
    """
    pictures = [read_picture(storage.join(storage.parent(uri), name)) for name, _ in wanted]
    pairs = [(picture, question) for picture, (_, question) in zip(pictures, wanted, strict=True)]
    lines = []
    for (name, question), answer in zip(wanted, judge.answer(SUITES[suite], pairs), strict=True):
        if answer.gap is not None:
            raise ValueError(f"{name}, {question.text!r}: expected an answer to record, got none ({answer.gap})")
        lines.append({"picture": name, "question": question.to_json(), **answer.to_record()})
    storage.write_text(uri, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _place(uri: str, where: str, line: Any) -> str:
    name = line.get("picture")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: expected the path of a picture, found {name!r}")
    return name if "://" in name or name.startswith("/") else storage.join(storage.parent(uri), name)
