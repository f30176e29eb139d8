"""A run as the page that compares runs shows it, from its plan and whatever of its stages is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infinity import storage
from infinity.jobs.dataset.build import BuildDatasetReport
from infinity.jobs.evaluation.evaluate import EvaluateReport
from infinity.jobs.spec import DAMAGED_REPORT, REPORT_FILE, JobSpec
from infinity.jobs.training.base import SAMPLES_FOLDER
from infinity.jobs.upkeep.inventory import PLAN_FILE, STAGE_NAME, Inventory, StageFolder, take_inventory
from infinity.jobs.upkeep.plans import PLAN_KINDS, planned_specs
from infinity.reporting.plots.curves import Points, read_curves
from infinity.reporting.run_comparison import RunView, check_number
from infinity.storage.errors import FileMissingError
from infinity.storage.json_files import read_config
from infinity.training.metrics import METRICS_FILE

_SAMPLES = re.compile(rf"{SAMPLES_FOLDER}/step-\d+\.png")
STORE = "encoded-"
"""Begin of the names of stores of latents, which follow from the trainings that fill them."""
TRAININGS = ("tokenizer", "pretrain", "finetune")


def place_of_run(name: str, root: str) -> tuple[str, str]:
    """Return the URI of a run and of the folder of runs that it lies in.

    Args:
        name: Name of a run below the root, or a path or URI of its folder.
        root: Folder or URI that holds all runs.

    Raises:
        StorageError: The place cannot be reached.
    """
    given, below = storage.absolute(name), storage.join(storage.absolute(root), name)
    is_place = "://" in name or name.startswith("/")
    if not is_place and not storage.exists(storage.join(below, PLAN_FILE)):
        is_place = storage.exists(storage.join(given, PLAN_FILE))
    return (given, storage.parent(given)) if is_place else (below, storage.absolute(root))


def views(names: Sequence[str], root: str) -> list[RunView]:
    """Return runs for the page that compares them.

    Args:
        names: Names of two or more runs below the root, or paths or URIs of their folders.
        root: Folder or URI that holds all runs.

    Raises:
        ValueError: Too few or too many runs, a place without a run, or a plan of another version.
        StorageError: A file cannot be read.
    """
    check_number(names)
    places = [place_of_run(name, root) for name in names]
    inventories = {above: take_inventory(above) for above in dict.fromkeys(above for _, above in places)}
    return [view(folder, inventories[above]) for folder, above in places]


def view(folder: str, inventory: Inventory) -> RunView:
    """Return a run for the page.

    Args:
        folder: URI of the run's folder.
        inventory: What lies below the root of runs.

    Raises:
        ValueError: There is no run in this folder, or its plan is of another version.
        StorageError: A file cannot be read.
    """
    uri = storage.join(folder, PLAN_FILE)
    try:
        specs = planned_specs(storage.read_bytes(uri), uri)
    except FileMissingError as error:
        names = ", ".join(run[len(inventory.root) + 1 :] for run in inventory.runs) or "no run"
        raise ValueError(
            f"{uri}: expected the plan of a run, found none; below {inventory.root} lies {names}"
        ) from error
    stages = {name: stage for name, spec in specs.items() if (stage := _folder(spec, folder, inventory)) is not None}
    sheets = [sheet for name in TRAININGS if name in stages if (sheet := _sheet(stages[name])) is not None]
    own = {storage.name(spec.folder) for spec in specs.values()}
    dataset, evaluation = stages.get("dataset"), stages.get("evaluation")
    return RunView(
        name=storage.name(folder),
        folder=folder,
        settings={path: value for name in specs for path, value in _flat(name, specs[name].to_json(), own)},
        data=_report(dataset, BuildDatasetReport).summary.counts if dataset and dataset.is_done else {},
        curves={name: _curves(stages[name]) for name in TRAININGS if name in stages},
        scores=_report(evaluation, EvaluateReport).scores if evaluation and evaluation.is_done else (),
        picture=sheets[-1] if sheets else None,
    )


def _folder(spec: JobSpec, run: str, inventory: Inventory) -> StageFolder | None:
    places = (storage.join(run, storage.name(spec.folder)), storage.absolute(spec.folder))
    return next((stage for place in places for stage in inventory.stages if stage.uri == place), None)


def _report(stage: StageFolder, report_type: type[Any]) -> Any:
    uri = stage.paths[REPORT_FILE].uri
    return read_config(uri, report_type, remedy=DAMAGED_REPORT)


def _curves(stage: StageFolder) -> dict[str, Points]:
    if METRICS_FILE not in stage.paths:
        return {}
    return {name: points for name, points in read_curves(stage.paths[METRICS_FILE].uri).items() if "." not in name}


def _sheet(stage: StageFolder) -> str | None:
    names = sorted(path for path in stage.paths if _SAMPLES.fullmatch(path))
    return stage.paths[names[-1]].uri if names else None


def _flat(path: str, value: Any, own: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every setting; where the run lies, and the digests of its own stages, are no settings."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name != "output" or path not in PLAN_KINDS:
                yield from _flat(f"{path}.{name}", each, own)
    elif isinstance(value, str):
        yield path, _without_place(value, own)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for place, each in enumerate(value):
            yield from _flat(f"{path}.{place}", each, own)
    else:
        yield path, str(value)


def _without_place(text: str, own: set[str]) -> str:
    """Return a path into one of the run's own stages as its kind and the rest; any other text as it is."""
    found = list(STAGE_NAME.finditer(text))
    if not found or (found[-1][0] not in own and not found[-1][0].startswith(STORE)):
        return text
    return found[-1][0].rpartition("-")[0] + text[found[-1].end() :]
