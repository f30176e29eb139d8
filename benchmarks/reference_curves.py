"""Make the reference curves of a recipe: train its stages with several seeds and store median and band.

``python -m benchmarks.reference_curves mini --seeds 5 --work FOLDER`` writes infinity/reporting/reference/mini-*.json.
Trainings that are done are not repeated.
"""

from __future__ import annotations

import argparse
import logging

from infinity import storage
from infinity.jobs.cluster.connection import connect, in_process
from infinity.jobs.registry import run_spec
from infinity.jobs.spec import load_report
from infinity.jobs.training.base import MODEL_FOLDER, TrainReport
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.runs import RECIPES, end_to_end
from infinity.reporting.plots.curves import read_curves
from infinity.reporting.plots.reference import FOLDER, ReferenceCurves, build_bands, family_of

PLACES = ("output", "manifest", "tokenizer", "seed", "workers", "reading", "encoded", "start_from")


def main() -> None:
    """Train and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", default="runs/reference")
    parser.add_argument("--here", action="store_true", help="train in this process, without Ray")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    specs = end_to_end(options.recipe, source=None, output=storage.absolute(options.work))
    with in_process() if options.here else connect():
        run_spec(specs.dataset)
        tokenizers = [specs.tokenizer.replace(seed=seed) for seed in range(options.seeds)]
        _write(options.recipe, tokenizers)
        models = [
            specs.pretrain.replace(seed=seed, tokenizer=storage.join(tokenizer.folder, MODEL_FOLDER))
            for seed, tokenizer in enumerate(tokenizers)
        ]
        _write(options.recipe, models)


def _write(recipe: str, specs: list[TrainTokenizerSpec] | list[TrainTransformerSpec]) -> None:
    for spec in specs:
        run_spec(spec)
    curves = [read_curves(load_report(spec, TrainReport).training.metrics) for spec in specs]
    first = specs[0]
    fields = first.to_json()
    reference = ReferenceCurves(
        recipe=recipe,
        stage=first.stage,
        num_seeds=len(specs),
        family=family_of(first.kind, fields),
        spec={name: value for name, value in fields.items() if name not in PLACES},
        bands=build_bands(curves),
    )
    path = FOLDER / f"{recipe}-{first.stage}.json"
    path.write_text(reference.dump(), encoding="utf-8")
    logging.info("%s", path)


if __name__ == "__main__":
    main()
