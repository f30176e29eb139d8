"""The models of a run in the order in which their trainings ended, kept as ``models.json`` beside ``run.json``."""

import json

from flows.records.plan import alone_in
from infinity import storage
from infinity.checkpoint import is_committed
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.upkeep.inventory import MODELS_FILE
from infinity.jobs.upkeep.plans import finished_models
from infinity.recipes.runs import EndToEnd


def note_model(folder: str, model: str) -> None:
    """Record that a training of the run in this folder has ended with a model."""
    with alone_in(folder):
        others = [each for each in finished_models(folder) if each != model]
        storage.write_text(storage.join(folder, MODELS_FILE), json.dumps([*others, model], indent=2) + "\n")


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
