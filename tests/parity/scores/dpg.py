"""Replay of recorded DPG-Bench scoring: every tile and picture, failed pictures with their reason, all categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infinity.evaluation.dpg.benchmark import pool
from infinity.evaluation.dpg.scoring import (
    MissingParentError,
    PictureScore,
    Table,
    UnknownItemError,
    questions_of,
    read_table,
    score_picture,
)
from tests.parity.scores.evaluation import Compare, Figures

RELATIVE = 1e-12
"""Of means over pictures, whose terms may be added in another order."""


def dpg_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file whose groups name a table of questions."""
    groups = data.get("groups") if isinstance(data, dict) else None
    if not isinstance(groups, list) or not groups or not all("csv" in group for group in groups):
        return None
    return lambda figures: _compare(path, groups, figures)


def _compare(path: Path, groups: list[dict[str, Any]], figures: Figures) -> None:
    pictures = 0
    for group in groups:
        table = path.parent / group["csv"]
        questions = read_table(table.read_bytes(), "reference", where=str(table))
        scored: dict[str, PictureScore] = {}
        failed: dict[str, str] = {}
        for image in group["images"]:
            recorded = group["per_image"].get(image, {"failed": True})
            score = _score(questions, image, recorded, group["pic_num"])
            if isinstance(score, str):
                failed[image] = score
                figures.equal(f"{group['name']}.{image}.failed", True, recorded.get("failed", False))
                continue
            scored[image] = score
            _compare_picture(f"{group['name']}.{image}", score, recorded, figures)
        _compare_summary(group, scored, failed, figures)
        pictures += len(group["images"])
    figures.information["pictures"] = pictures


def _score(table: Table, image: str, recorded: dict[str, Any], number: int) -> PictureScore | str:
    """The score of one picture, or the text of the public script's error."""
    try:
        questions = questions_of(table, image)
        answers = [{int(key): text for key, text in tile.items()} for tile in recorded["answers"][:number]]
        return score_picture(questions, answers, "reference")
    except UnknownItemError:
        return "'NoneType' object is not subscriptable"
    except MissingParentError as error:
        return str(error.parent)


def _compare_picture(name: str, score: PictureScore, recorded: dict[str, Any], figures: Figures) -> None:
    figures.equal(f"{name}.failed", False, recorded.get("failed", False))
    figures.equal(f"{name}.crop_scores", [tile.score for tile in score.tiles], recorded["crop_scores"])
    figures.equal(f"{name}.average", score.average, recorded["average"])
    raw = {str(key): value for key, value in score.tiles[-1].raw.items()}
    figures.equal(f"{name}.raw_last_crop", raw, recorded["raw_last_crop"])


def _compare_summary(
    group: dict[str, Any], scored: dict[str, PictureScore], failed: dict[str, str], figures: Figures
) -> None:
    name, expected = group["name"], group["expected"]
    figures.equal(f"{name}.scored", len(scored), expected["scored"])
    figures.equal(f"{name}.failed", failed, expected["failed"])
    overall = 100 * sum(score.average for score in scored.values()) / len(scored)
    figures.close(f"{name}.overall", overall, expected["overall"], relative=RELATIVE)
    for level in ("l1", "l2"):
        pooled = pool(scored, "reference", level)
        if figures.same_names(f"{name}.{level}", pooled, expected[level]):
            for category, values in pooled.items():
                found = sum(total for total, _ in values.values()) / sum(number for _, number in values.values())
                figures.close(f"{name}.{level}.{category}", found, expected[level][category], relative=RELATIVE)
