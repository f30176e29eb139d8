"""A data set for people: counts, captions, and a sheet of pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import compose_sheet
from infinity.data.images.decoding import open_unguarded
from infinity.data.images.fitting import CENTRE, fit
from infinity.data.images.rgb import to_rgb
from infinity.reporting.summary import DatasetSummary

THUMBNAILS_FILE = "thumbnails.png"

_THUMBNAILS = 40
_THUMBNAIL_COLUMNS = 10
_THUMBNAIL_PX = 96
_CAPTION_EXAMPLES = 12


def save_thumbnails(manifest: Manifest, folder: str) -> str:
    """Return a sheet of pictures spread evenly over the data set, each in the shape of its aspect ratio."""
    images = []
    for row in _spread(len(manifest), _THUMBNAILS):
        ratio = float(manifest.aspect_ratios[row])
        height, width = (round(_THUMBNAIL_PX * min(1.0, side)) for side in (ratio, 1 / ratio))
        images.append(small_picture(manifest, row, (max(1, height), max(1, width))))
    uri = storage.join(folder, THUMBNAILS_FILE)
    storage.write_bytes(uri, compose_sheet(images, _THUMBNAIL_COLUMNS))
    return uri


def summarize(manifest: Manifest, thumbnails: str) -> DatasetSummary:
    ratios, numbers = np.unique(manifest.aspect_ratios, return_counts=True)
    captions = manifest.captions(_spread(len(manifest), _CAPTION_EXAMPLES))
    return DatasetSummary(
        counts=manifest.head.counts,
        ratios={f"{ratio:.3f}": number for ratio, number in zip(ratios.tolist(), numbers.tolist(), strict=True)},
        splits={"train": len(manifest.rows("train")), "validation": len(manifest.rows("validation"))},
        examples=manifest.head.examples,
        caption_examples=tuple(captions),
        num_shards=len(manifest.head.shards),
        num_bytes=sum(shard.num_bytes for shard in manifest.head.shards),
        thumbnails=thumbnails,
        rules=manifest.head.rules,
        histograms=manifest.head.histograms,
    )


def small_picture(manifest: Manifest, row: int, size_px: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture, cut and shrunk to (height, width); a JPEG is decoded no larger than that needs."""
    image = open_unguarded(manifest.read_image(row))
    image.draft(None, (2 * size_px[1], 2 * size_px[0]))
    return fit(to_rgb(image), size_px, CENTRE)


def _spread(total: int, wanted: int) -> list[int]:
    """Return at most ``wanted`` different row numbers, evenly over all."""
    return sorted({int(row) for row in np.linspace(0, total - 1, min(wanted, total))})
