"""Replay of recorded GenEval scoring: kept boxes, verdicts, reasons and the summary of every group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from infinity.evaluation.geneval.scoring import ClassDetections, Detections, GenevalConfig, GenevalPrompt, judge, keep
from infinity.evaluation.geneval.state import GenevalState
from tests.parity.scores.evaluation import Compare, Figures


def geneval_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file whose groups have prompts and thresholds."""
    groups = data.get("groups") if isinstance(data, dict) else None
    if not isinstance(groups, list) or not groups or not all("prompts" in group for group in groups):
        return None
    return lambda figures: _compare(groups, figures)


def _compare(groups: list[dict[str, Any]], figures: Figures) -> None:
    pictures = 0
    for group in groups:
        config = GenevalConfig.from_json(group["config"])
        judged = []
        for entry in group["prompts"]:
            prompt = GenevalPrompt.from_metadata(entry["metadata"])
            for number, image in enumerate(entry["images"]):
                name = f"{group['name']}.{entry['id']}.{number}"
                detections = _detections(image)
                kept = keep(detections, counting=prompt.task == "counting", config=config)
                figures.equal(f"{name}.kept", {key: len(value.boxes) for key, value in kept.items()}, image["kept"])
                verdict = judge(prompt, detections, config)
                figures.equal(f"{name}.correct", verdict.correct, image["correct"])
                figures.equal(f"{name}.reason", verdict.reason, image["reason"])
                judged.append((prompt, verdict))
                pictures += 1
        _compare_summary(group["name"], GenevalState.of(judged), group["summary"], figures)
    figures.information["pictures"] = pictures


def _compare_summary(group: str, state: GenevalState, summary: dict[str, Any], figures: Figures) -> None:
    found = {
        "tasks": {task: {"correct": correct, "total": total} for task, (correct, total) in state.tasks.items()},
        "total_images": state.num_pictures,
        "total_prompts": len(state.prompts),
        "pct_correct_images": f"{state.num_correct / state.num_pictures:.2%}",
        "pct_correct_prompts": f"{state.share_of_prompts:.2%}",
        "overall": round(state.overall, 5),
    }
    if "stdout" in summary:
        # The order of the tasks is that of the public scorer's folders, which says nothing.
        figures.equal(f"{group}.stdout", sorted(_printed(state)), sorted(_words(summary["stdout"])))
    figures.same_names(f"{group}.summary", set(found) | ({"stdout"} & set(summary)), summary)
    for name, value in found.items():
        figures.equal(f"{group}.{name}", value, summary.get(name))


def _words(text: str) -> list[str]:
    """Lines with single blanks."""
    return [re.sub(r"\s+", " ", line.strip()) for line in text.splitlines() if line.strip()]


def _printed(state: GenevalState) -> list[str]:
    """The lines that the public scorer prints."""
    lines = ["Summary", "=======", f"Total images: {state.num_pictures}", f"Total prompts: {len(state.prompts)}"]
    lines += [
        f"% correct images: {state.num_correct / state.num_pictures:.2%}",
        f"% correct prompts: {state.share_of_prompts:.2%}",
        "Task breakdown",
        "==============",
    ]
    lines += [f"{task} = {right / total:.2%} ({right} / {total})" for task, (right, total) in state.tasks.items()]
    return [*lines, f"Overall score (avg. over tasks): {state.overall:.5f}"]


def _detections(image: dict[str, Any]) -> Detections:
    found = {}
    for name, rows in image["detections"].items():
        table = np.array(rows, np.float32).reshape(-1, 5)
        found[name] = ClassDetections(table[:, :4], table[:, 4], image["colors"][name])
    return found
