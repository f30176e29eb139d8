"""The table of verdicts says what stands in the results, and the document holds that table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.study_verdicts import kept, results, table, without_places
from infinity.reporting.study import ContrastResult, Cost, StudyResult, StudyRow, Verdict
from infinity.studies.pages import names

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "studies.md"


def result(name: str, number: int, verdict: Verdict, **per_seed: float) -> StudyResult:
    contrast = ContrastResult(
        name="a better than b", rule="", per_seed=per_seed, mean=0.25 if per_seed else None,
        low=0.125 if len(per_seed) > 1 else None, high=0.375 if len(per_seed) > 1 else None, sign_p=None,
        verdict="holds", why="",
    )  # fmt: skip
    cost = Cost(estimated_s=None, spent_s=1.0, jobs_s=9.0, num_jobs=1, num_done_before=0, processor_s=90.0)
    return StudyResult(
        name=name, number=number, title="", claim="", source="", size="small", seeds=(0, 1, 2), metric="m",
        verdict=verdict, reason="", contrasts=(contrast,), paper=(), cost=cost,
        rows=(
            StudyRow(arm="a", seed=0, values={"m": 1.0}, folders=("/somewhere",)),
            StudyRow(arm="a", seed=1, values={}, note="not run: the budget was spent"),
        ),
    )  # fmt: skip


def write(folder: Path, *found: StudyResult) -> Path:
    for place, each in enumerate(found):
        (folder / f"study-{place}").mkdir(parents=True)
        (folder / f"study-{place}" / "study.json").write_text(each.dump())
    return folder


def test_a_claim_has_its_contrast_interval_seeds_and_minutes() -> None:
    *_, line = table([result("memory", 1, "holds", s0=0.2, s1=0.3)]).splitlines()
    assert line == "| 1 memory | **holds** | a better than b | 0.25 (0.12 to 0.38): holds | 2 of 3 | 1.5 |"


def test_what_was_not_run_is_said() -> None:
    *_, line = table([result("bits", 2, "not run")]).splitlines()
    assert line == "| 2 bits | not run |  |  | 0 of 3 |  |"


def test_of_two_results_the_more_complete_counts_and_claims_come_in_order(tmp_path: Path) -> None:
    found = results(
        write(tmp_path, result("b", 2, "holds", x=1.0), result("b", 2, "holds", x=1.0, y=1.0), result("a", 1, "holds"))
    )
    assert [(each.name, each.complete_seeds) for each in found] == [("a", 0), ("b", 2)]


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study\.json"):
        results(tmp_path)


def test_kept_results_name_no_folder() -> None:
    assert without_places(result("a", 1, "holds")).rows == (StudyRow(arm="a", seed=0, values={"m": 1.0}),)
    assert all(not row.folders for each in kept() for row in each.rows)


def test_the_document_holds_the_table_of_the_kept_results_of_all_studies() -> None:
    assert [each.name for each in kept()] == names()
    assert table(kept()) in DOCUMENT.read_text(encoding="utf-8")
