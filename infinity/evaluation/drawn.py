"""Drawings of a model, each batch drawn once: what the store has is read, what is drawn is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from infinity import storage
from infinity.evaluation.benchmark import EvalContext
from infinity.evaluation.model import loaded_pipeline, picture_store
from infinity.evaluation.pictures.store import Drawing


def draw(context: EvalContext, wanted: Sequence[Drawing]) -> UInt8[np.ndarray, "B H W 3"]:
    """Drawings of one aspect ratio in one batch.

    They come from the subject's store where all of them are there; else all are drawn together, so that a batch is the
    same whether a run was interrupted or not, and those that are missing are kept.
    """
    store = picture_store(context.target)
    if store is not None and all(storage.exists(store.uri(drawing)) for drawing in wanted):
        return np.stack([store.read(drawing) for drawing in wanted])
    generated = loaded_pipeline(context).generate(
        [drawing.prompt for drawing in wanted],
        aspect_ratio=wanted[0].aspect_ratio,
        sampling=context.target.sampling,
        seeds=[drawing.seed for drawing in wanted],
        batch_size=len(wanted),
    )
    pictures = np.asarray(generated.images_BHW3.numpy())
    if store is not None:
        for drawing, picture in zip(wanted, pictures, strict=True):
            store.write(drawing, picture)
    return pictures
