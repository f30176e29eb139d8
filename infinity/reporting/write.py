"""Files of a report: ``report.json`` for scripts, ``report.html`` for people, ``summary.json`` to render it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.reporting.render import render_page
from infinity.reporting.summary import RunSummary


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """URIs of the written files."""

    html: str
    json: str
    summary: str


def write_report(run: RunSummary, folder: str) -> ReportFiles:
    """Write the three files into ``folder`` (a path or URI); ``report.json`` last, since scripts wait for it.

    Raises:
        StorageError: A file that the summary names is missing, or the folder cannot be written.
    """
    files = ReportFiles(*(storage.join(folder, name) for name in ("report.html", "report.json", "summary.json")))
    storage.write_text(files.summary, run.dump())
    storage.write_text(files.html, render_page(run))
    storage.write_text(files.json, json.dumps(figures(run), indent=2, ensure_ascii=False) + "\n")
    return files


def figures(run: RunSummary) -> dict[str, Any]:
    """Return the numbers of a run by name.

    Every number stands under its dotted name ("reconstruction.psnr_db"), and also under the nested name, for readers
    that take the dot as a step into an object. ``scores`` adds sample size, interval and protocol; a score that was not
    measured is null.
    """
    flat: dict[str, Any] = {score.metric: score.value for score in run.scores}
    flat |= {f"dataset.{name}": count for name, count in run.dataset.counts.items()}
    flat |= {f"seconds.{stage.name}": round(stage.seconds, 3) for stage in run.stages}
    flat["seconds.total"] = round(sum(stage.seconds for stage in run.stages), 3)
    return {
        "title": run.title,
        "digest": run.run_digest,
        "command": run.command,
        **flat,
        **_nested(flat),
        "scores": [score.to_json() for score in run.scores],
        "stages": {stage.name: {"folder": stage.folder, "command": stage.command} for stage in run.stages},
        "notes": list(run.notes),
    }


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        group, _, rest = name.partition(".")
        if rest:
            tree.setdefault(group, {})[rest] = value
    return tree
