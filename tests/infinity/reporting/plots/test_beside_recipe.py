"""The page of a training says whether it lies inside the range of its recipe's healthy runs, and draws the range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infinity.recipes.runs import EndToEnd, RecipeName, end_to_end
from infinity.reporting.plots.beside_recipe import beside_recipe
from infinity.reporting.plots.curves import Points, read_curves
from infinity.reporting.plots.reference import ReferenceCurves, curves_for, reference_for, shipped_references
from infinity.reporting.render import render_training
from infinity.reporting.summary import TrainingSummary
from tests.infinity.reporting.pages import check_page

SHIPPED = [(each.recipe, each.stage) for each in shipped_references()]


def plan(recipe: str, folder: Path) -> EndToEnd:
    name: RecipeName = "demo" if recipe == "demo" else "mini"
    return end_to_end(name, source=None, output=str(folder))


def write_run(folder: Path, recipe: str, stage: str, shift: float = 0.0, **changes: Any) -> tuple[str, ReferenceCurves]:
    """Write spec and log of a training whose curves are the medians of healthy runs, moved in the second half."""
    spec = getattr(plan(recipe, folder), stage).replace(**changes)
    reference = reference_for(spec.kind, spec.to_json())
    assert reference is not None
    (folder / "spec.json").write_text(json.dumps(spec.to_file()))
    band = reference.bands["loss"]
    half = band.steps[len(band.steps) // 2]
    rows = [{"step": s, "loss": y + shift * (s > half)} for s, y in zip(band.steps, band.median, strict=True)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "metrics.jsonl"), reference


def page(metrics: str) -> str:
    summary = TrainingSummary(
        stage="s", title="T", metrics=metrics, final={}, samples=(), num_parameters=1, num_steps=1
    )
    return render_training(summary, "From here.")


@pytest.mark.parametrize(("recipe", "stage"), SHIPPED)
def test_a_median_run_is_inside_and_a_shifted_one_outside_since_its_shift(
    recipe: str, stage: str, tmp_path: Path
) -> None:
    metrics, reference = write_run(tmp_path, recipe, stage)
    found = beside_recipe(metrics, read_curves(metrics))
    assert found is not None
    assert found.is_inside
    assert f"recipe {recipe} ({stage}, {reference.num_seeds} seeds)" in found.sentence
    assert set(found.ribbons) == {"loss", "bit_accuracy", "psnr_db"} & set(reference.bands)
    metrics, reference = write_run(tmp_path, recipe, stage, shift=1.0)
    found = beside_recipe(metrics, read_curves(metrics))
    assert found is not None
    assert not found.is_inside
    steps = reference.bands["loss"].steps
    assert f"loss above the band since step {steps[len(steps) // 2 + 1]}" in found.sentence
    assert f"infinity diagnose {tmp_path}" in found.sentence


@pytest.mark.parametrize(("recipe", "stage"), SHIPPED)
def test_every_page_draws_the_range_and_is_well_formed(recipe: str, stage: str, tmp_path: Path) -> None:
    metrics, _ = write_run(tmp_path, recipe, stage, shift=1.0)
    html = page(metrics)
    check_page(html, num_scripts=1)
    assert html.count('<polygon class="ribbon"') == 1
    assert "Outside the range of healthy runs" in html


def test_other_pictures_are_not_compared_though_the_shape_is_the_recipes(tmp_path: Path) -> None:
    other = str(tmp_path / "dataset-0123456789abcdef" / "manifest.parquet")
    metrics, _ = write_run(tmp_path, "mini", "pretrain", shift=1.0, manifest=other)
    assert beside_recipe(metrics, read_curves(metrics)) is None
    assert "healthy runs" not in page(metrics)
    stored = json.loads((tmp_path / "spec.json").read_text())["spec"]
    assert reference_for("transformer", stored) is not None, "its settings can still be compared"
    assert curves_for("transformer", stored) is None


def test_a_log_without_a_spec_beside_it_has_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    curves: dict[str, Points] = {"loss": ((1.0, 0.5),)}
    assert beside_recipe(str(tmp_path / "metrics.jsonl"), curves) is None


def stored_fields(today: Any, stored: Any) -> Any:
    """Today's values of the fields that were there when the curves were made."""
    if not isinstance(stored, dict):
        return today
    return {name: stored_fields(today[name], value) for name, value in stored.items()}


@pytest.mark.parametrize(("recipe", "stage"), SHIPPED)
def test_shipped_curves_are_those_of_the_recipe_and_its_data_of_today(recipe: str, stage: str, tmp_path: Path) -> None:
    spec = getattr(plan(recipe, tmp_path), stage)
    found = curves_for(spec.kind, spec.to_json())
    assert found is not None
    assert (found.recipe, found.stage) == (recipe, stage)
    assert stored_fields(spec.to_json(), found.spec) == found.spec
