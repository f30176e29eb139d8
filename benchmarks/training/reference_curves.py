"""Make the reference curves of a recipe: train its stages with several seeds and store median and range.

``python -m benchmarks.training.reference_curves mini --seeds 5 --work FOLDER`` writes
infinity/reporting/reference/mini-*.json. Trainings that are done are not repeated. ``--runs FOLDER FOLDER FOLDER``
trains nothing and takes finished runs of the recipe, one per seed, such as those of ``python -m benchmarks.speedrun``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.speedrun.stage import seeded
from infinity import storage
from infinity.jobs.cluster.connection import connect, in_process
from infinity.jobs.registry import load_spec, run_spec
from infinity.jobs.spec import SPEC_FILE, is_done
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.runs import RECIPES, EndToEnd, RecipeName, end_to_end
from infinity.reporting.plots.curves import read_curves
from infinity.reporting.plots.reference import FOLDER, ReferenceCurves, build_bands, data_of, family_of
from infinity.training.metrics import METRICS_FILE

STAGES = ("tokenizer", "pretrain", "finetune")
PLACES = ("output", "manifest", "tokenizer", "seed", "workers", "reading", "encoded", "start_from")
"""Fields that say where things lie and by whom the work is done, and the seed."""

AnySpec = TrainTokenizerSpec | TrainTransformerSpec


def main() -> None:
    """Train, or find finished trainings, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", default="runs/reference")
    parser.add_argument("--here", action="store_true", help="train in this process, without Ray")
    parser.add_argument("--runs", nargs="+", help="folders of finished runs, one per seed; nothing is trained")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.runs:
        runs = [finished(options.recipe, folder) for folder in options.runs]
    else:
        runs = trained(options.recipe, options.seeds, storage.absolute(options.work), here=options.here)
    for stage in STAGES:
        reference = reference_of(options.recipe, [run[stage] for run in runs])
        path = FOLDER / f"{options.recipe}-{stage}.json"
        path.write_text(reference.dump(), encoding="utf-8")
        logging.info("%s: %d seeds", path, reference.num_seeds)


def trained(recipe: RecipeName, num_seeds: int, work: str, *, here: bool) -> list[dict[str, AnySpec]]:
    """Train what is not done, and return the trainings of every seed by their stages."""
    plan = end_to_end(recipe, source=None, output=work)
    plans: list[EndToEnd] = [seeded(plan, seed) for seed in range(num_seeds)]
    where: AbstractContextManager[None] = in_process() if here else connect()
    with where:
        run_spec(plan.dataset)
        for each in plans:
            for stage in STAGES:
                run_spec(getattr(each, stage))
    return [{stage: getattr(each, stage) for stage in STAGES} for each in plans]


def finished(recipe: RecipeName, folder: str) -> dict[str, AnySpec]:
    """Return the trainings of a finished run by their stages.

    Raises:
        ValueError: A stage is missing or not finished, or is not that of the recipe.
    """
    found: dict[str, AnySpec] = {}
    for path in sorted(Path(folder).glob(f"*/{SPEC_FILE}")):
        spec = load_spec(str(path))
        if isinstance(spec, TrainTokenizerSpec | TrainTransformerSpec):
            found[spec.stage] = spec
    plan = end_to_end(recipe, source=None, output=folder)
    for stage in STAGES:
        if stage not in found or not is_done(found[stage]):
            raise ValueError(f"{folder}: expected a finished training of the stage {stage}, found none")
        if _without_places(found[stage]) != _without_places(getattr(plan, stage)):
            raise ValueError(f"{found[stage].folder}: expected the recipe {recipe} of today, found another spec")
    return found


def reference_of(recipe: RecipeName, specs: Sequence[AnySpec]) -> ReferenceCurves:
    """Return the curves of one stage.

    Args:
        specs: Finished trainings that differ in their seeds.

    Raises:
        ValueError: Two trainings have the same seed, or read different data.
    """
    first, fields = specs[0], specs[0].to_json()
    if len({spec.seed for spec in specs}) < len(specs):
        raise ValueError(f"{first.stage}: expected different seeds, got {', '.join(str(spec.seed) for spec in specs)}")
    if len(data := {data_of(spec.to_json()) for spec in specs}) > 1:
        raise ValueError(f"{first.stage}: expected one data set, got {', '.join(sorted(data))}")
    return ReferenceCurves(
        recipe=recipe,
        stage=first.stage,
        num_seeds=len(specs),
        family=family_of(first.kind, fields),
        data=data_of(fields),
        spec=_without_places(first),
        bands=build_bands([read_curves(storage.join(spec.folder, METRICS_FILE)) for spec in specs]),
    )


def _without_places(spec: AnySpec) -> dict[str, object]:
    return {name: value for name, value in spec.to_json().items() if name not in PLACES}


if __name__ == "__main__":
    main()
