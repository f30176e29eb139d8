"""Find the model folder that a user means: a folder of weights, or a run that trained one."""

from __future__ import annotations

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.storage.json_files import read_object

RUN_FILE = "run.json"
"""Plan of a run with the specs of its stages; the evaluation's spec names the last model."""


class ModelNotFoundError(ValueError):
    """There is no model at a place."""


def model_folder(uri: str) -> str:
    """Return the model folder that a URI stands for: itself, or the last model of a run.

    Args:
        uri: A model folder or the folder of a run; a local path or an ``s3://`` URI.

    Raises:
        ModelNotFoundError: The folder is neither, or the run has not trained a model yet.
        ConfigError: The plan of the run is damaged.
        StorageError: The place cannot be read.
    """
    if storage.exists(storage.join(uri, MARKER_FILE)):
        return uri
    plan = storage.join(uri, RUN_FILE)
    if not storage.exists(plan):
        raise ModelNotFoundError(
            f"{uri}: expected a model folder ({MARKER_FILE}) or the folder of a run ({RUN_FILE}), found neither"
        )
    model = _last_model(plan)
    if model and storage.exists(storage.join(model, MARKER_FILE)):
        return model
    raise ModelNotFoundError(f"{uri}: the run has no trained model yet ({model or 'its plan names none'})")


def of_run(uri: str) -> str:
    """Return the last model of a run for the folder of a run, and any other place as it is.

    Raises:
        ModelNotFoundError: The run has not trained a model yet.
        ConfigError: The plan of the run is damaged.
        StorageError: The place cannot be read.
    """
    is_run = not storage.exists(storage.join(uri, MARKER_FILE)) and storage.exists(storage.join(uri, RUN_FILE))
    return model_folder(uri) if is_run else uri


def _last_model(plan: str) -> str:
    specs = read_object(plan, remedy="restore the plan of the run, or name a model folder")
    evaluation = specs.get("evaluation")
    model = evaluation.get("model") if isinstance(evaluation, dict) else None
    return model if isinstance(model, str) else ""
