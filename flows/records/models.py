"""The models of a run in the order in which their trainings ended, kept as ``models.json`` beside ``run.json``."""

import json

from flows.records.plan import alone_in
from infinity import storage
from infinity.checkpoint import is_committed
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.recipes.runs import EndToEnd

MODELS_FILE = "models.json"


def note_model(folder: str, model: str) -> None:
    """Record that a training of the run in this folder has ended with a model."""
    with alone_in(folder):
        others = [each for each in finished_models(folder) if each != model]
        storage.write_text(storage.join(folder, MODELS_FILE), json.dumps([*others, model], indent=2) + "\n")


def finished_models(folder: str) -> list[str]:
    """Models of the run, the newest last; a run begun by an older version has none on this list."""
    uri = storage.join(folder, MODELS_FILE)
    if not storage.exists(uri):
        return []
    found = json.loads(storage.read_text(uri))
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{uri}: expected a list of model folders, found something else; delete it to begin a new one")
    return found


def newest_model(plan: EndToEnd, folder: str) -> str | None:
    """Return the newest finished model: the plan may name one that is in training, or whose training was cancelled.

    None where no model of the run is finished.
    """
    planned = [
        plan.evaluation.model,
        *reversed(finished_models(folder)),
        storage.join(plan.pretrain.folder, MODEL_FOLDER),
    ]
    return next((model for model in planned if is_committed(model)), None)
