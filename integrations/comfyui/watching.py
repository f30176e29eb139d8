"""What a drawing tells ComfyUI while it runs: progress with previews, and whether the user has stopped it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from infinity.generation.drawing.results import ScalePreview

_PREVIEW_PX = 512
"""Longest side of a preview, in pixels."""


def scale_callback(pictures: int) -> Callable[[ScalePreview], None] | None:
    """Return a callback after every scale, for ``InfinityPipeline``; None outside ComfyUI.

    It shows the first picture of the batch, and raises ComfyUI's own exception if the user has stopped the queue.

    Args:
        pictures: Number of pictures of the call, in all its batches.
    """
    utils, management = sys.modules.get("comfy.utils"), sys.modules.get("comfy.model_management")
    if utils is None or management is None:
        return None
    bar = utils.ProgressBar(pictures)

    def on_scale(preview: ScalePreview) -> None:
        management.throw_exception_if_processing_interrupted()
        done = preview.rows.start + len(preview.rows) * (preview.scale + 1) / preview.num_scales
        bar.update_absolute(done, pictures, ("JPEG", preview.images()[0], _PREVIEW_PX))

    return on_scale
