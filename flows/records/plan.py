"""The plan of a run: the specs of its five stages, kept as ``run.json`` beside their outputs.

A stage names its inputs by the folders of the stages before it, and a folder's name follows from its spec. So a changed
stage changes the folders that later stages must name; `changed` follows these links through.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infinity import storage
from infinity.jobs.dataset.build import BuildDatasetSpec, fingerprint
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.encode import from_store
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.paper_transformer import model_config, started_from
from infinity.recipes.runs import EndToEnd, RecipeName, end_to_end
from infinity.storage.json_files import read_config
from infinity.storage.leases.lease import acquire
from infra.settings import settings

PLAN_FILE = "run.json"
_DAMAGED = "restore the file, or move it away and begin the run again: finished stages are found by their folders"
CHANGING = "changing"
"""Folder of a run that is there while a flow changes ``run.json`` or ``models.json``."""
LOCK_SILENCE_S = 10.0
"""Silence of a process after which another one changes these files; it holds them for less than a second."""
STAGES = ("dataset", "tokenizer", "pretrain", "finetune", "evaluation")
"""Names of the stages, which are fields of `EndToEnd`, in the order in which they run."""

_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that are no text, or that turn the order of others round."""
TAKEN = {"registry": "the champions", "studies": "the studies"}
"""Names beside the runs that no run can have."""

Change = Callable[[Any], JobSpec]
"""From a stage's spec to the spec that is wanted instead."""


def folder_of(run: str) -> str:
    """Return the folder of a run: a name means a folder in the root of runs; a path with a slash or a URI itself.

    Raises:
        ValueError: No name that a run can have.
    """
    if not run.strip() or ".." in run.split("/"):
        raise ValueError(f"run: expected a name like 'demo', a path or an s3:// URI, got {run!r}")
    folder = storage.absolute(run if "/" in run else storage.join(settings().runs, run))
    name = storage.name(folder.rstrip("/"))
    if name != name.strip() or _UNREADABLE.search(name):
        raise ValueError(f"run: expected a name without spaces around it and control characters, got {run!r:.200}")
    if name in TAKEN:
        raise ValueError(f"run: {name!r} is the folder of {TAKEN[name]} beside the runs; choose another name")
    return folder


def new_plan(recipe: RecipeName, data: str | None, folder: str) -> EndToEnd:
    """Return a recipe for captioned pictures, or for drawn scenes, with its outputs in ``folder``."""
    return end_to_end(recipe, source=None if data is None else storage.absolute(data), output=folder)


def changed(plan: EndToEnd, changes: Mapping[str, Change]) -> EndToEnd:
    """Return the plan with some stages changed; later stages name the changed outputs and have models that fit."""
    specs: dict[str, JobSpec] = {}
    moved: dict[str, str] = {}
    for stage in STAGES:
        before: JobSpec = getattr(plan, stage)
        after: Any = type(before).from_json(_renamed(before.to_json(), moved), where=stage)
        if isinstance(after, TrainTransformerSpec):
            after = _fitting(stage, after, specs)
        if stage in changes:
            after = changes[stage](after)
        if isinstance(after, TrainTransformerSpec) and after.encoded is not None:
            after = from_store(after)
        specs[stage] = after
        moved[before.folder] = after.folder
    return plan.replace(**specs)


def with_data(plan: EndToEnd, data: str, change: Change) -> tuple[BuildDatasetSpec, EndToEnd]:
    """Return the spec of a dataset of other pictures, and the plan that finetunes and evaluates on it."""
    uri = storage.absolute(data)
    other = change(plan.dataset.replace(source=uri, scenes=None, fingerprint=fingerprint(uri)))
    assert isinstance(other, BuildDatasetSpec)
    moved = {plan.dataset.folder: other.folder}
    later = {
        stage: type(spec).from_json(_renamed(spec.to_json(), moved), where=stage)
        for stage, spec in (("finetune", plan.finetune), ("evaluation", plan.evaluation))
    }
    return other, plan.replace(**later)


def change_plan(
    run: str, change: Callable[[EndToEnd], EndToEnd], begin: Callable[[], EndToEnd] | None = None
) -> EndToEnd:
    """Change the plan of a run, and return it; two flows of one run lose nothing of each other's change.

    Args:
        run: Name of the run.
        change: Function from the plan that is there to the one that is wanted.
        begin: Function that makes the plan of a run that was not begun; without it such a run is an error.

    Raises:
        ValueError: No run of this name was begun, its plan is of another version, or the change is not possible.
    """
    with alone_in(folder_of(run)):
        is_new = begin is not None and not is_begun(run)
        before = begin() if begin is not None and is_new else load_plan(run)
        plan = change(before)
        if is_new or plan != before:
            save_plan(plan, folder_of(run))
    return plan


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Inside the block no other flow changes the small files of this run, here or on another machine."""
    place = storage.join(folder, CHANGING)
    lease = acquire(place, silence_s=LOCK_SILENCE_S)
    try:
        yield
    finally:
        lease.release(finished=True, empty=True)


def save_plan(plan: EndToEnd, folder: str) -> str:
    """Write ``run.json`` and return its URI."""
    uri = storage.join(folder, PLAN_FILE)
    storage.write_text(uri, json.dumps(plan.to_json(), indent=2, ensure_ascii=False) + "\n")
    return uri


def replace_plan(plan: EndToEnd, folder: str) -> None:
    """Write ``run.json`` of a run that begins, or begins anew; a flow that changes it meanwhile is waited for."""
    with alone_in(folder):
        save_plan(plan, folder)


def is_begun(run: str) -> bool:
    """Return whether a run of this name was begun."""
    return storage.exists(storage.join(folder_of(run), PLAN_FILE))


def beginning_with(spec: TrainTransformerSpec, model: str | None) -> TrainTransformerSpec:
    """Return a finetuning that begins with another model folder, at its resolution; as it is without one.

    Raises:
        CheckpointError: No model folder.
    """
    if model is None:
        return spec
    uri = storage.absolute(model)
    return started_from(spec, uri).replace(resolution=model_config(uri).resolution)


def load_plan(run: str) -> EndToEnd:
    """Return the plan of a run that was begun.

    Raises:
        ValueError: No run of this name was begun, or its plan is of another version.
    """
    uri = storage.join(folder_of(run), PLAN_FILE)
    if not is_begun(run):
        raise ValueError(f"no run {run!r}: {uri} is not there; begin it with the flow build-dataset or end-to-end")
    return read_config(uri, EndToEnd, remedy=_DAMAGED)


def _fitting(stage: str, spec: TrainTransformerSpec, specs: Mapping[str, Any]) -> TrainTransformerSpec:
    """Return a spec whose model predicts the tokenizer's bits and, if finetuned, has the shape of its first model."""
    if stage != "finetune":
        return spec.replace(model=spec.model.replace(num_bits=specs["tokenizer"].model.token_bits))
    pretrain = specs["pretrain"]
    if spec.start_from is None or not spec.start_from.startswith(f"{pretrain.folder}/"):
        return spec  # of a model from elsewhere
    drops = {name: getattr(spec.model, name) for name in ("drop_path", "condition_drop")}
    return spec.replace(model=pretrain.model.replace(**drops))


def _renamed(value: Any, moved: Mapping[str, str]) -> Any:
    """Return JSON with the folders of changed stages replaced wherever a text names them or something below them."""
    if isinstance(value, str):
        for old, new in moved.items():
            if value == old or value.startswith(f"{old}/"):
                return new + value[len(old) :]
        return value
    if isinstance(value, list):
        return [_renamed(item, moved) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, moved) for key, item in value.items()}
    return value
