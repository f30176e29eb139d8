"""A model's pictures, each batch drawn once: present ones are read from the store, new ones are written to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from infinity import storage
from infinity.evaluation.benchmark import EvalContext
from infinity.evaluation.model import loaded_pipeline, picture_store
from infinity.evaluation.pictures.store import Drawing


def draw(context: EvalContext, wanted: Sequence[Drawing]) -> UInt8[np.ndarray, "B H W 3"]:
    """Return pictures of one aspect ratio, drawn in one batch.

    If all of them are in the target's store, they are read. Otherwise all are drawn together, so that a batch is the
    same whether a run was interrupted or not, and the missing ones are stored (decision 21).
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
