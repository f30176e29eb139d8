"""The model that an evaluation scores: its pipeline, loaded once per worker, and the store of its pictures."""

from __future__ import annotations

from infinity import storage
from infinity.evaluation.benchmark import EvalContext, EvalTarget
from infinity.evaluation.pictures.store import PICTURES_FOLDER, PictureStore
from infinity.generation.pipeline import Pipeline


def loaded_pipeline(context: EvalContext) -> Pipeline:
    """Return the target's model on the target's device; later calls return the same object.

    Raises:
        CheckpointError: The model folder is missing, damaged, or its parts do not belong together.
    """
    return context.once(_load_pipeline)


def _load_pipeline(target: EvalTarget) -> Pipeline:
    return Pipeline.load(target.model, device=target.device, quantized=target.quantize, cache=target.cache)


def picture_store(target: EvalTarget) -> PictureStore | None:
    """Return where the target's pictures are kept, or None where its pictures are not kept."""
    if target.store is None:
        return None
    folder = storage.join(target.store, PICTURES_FOLDER)
    forms = tuple(form or "" for form in (target.quantize, target.cache))
    return PictureStore(folder, target.model_digest, target.sampling, target.device, forms if any(forms) else ())
