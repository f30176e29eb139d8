"""HTML page that shows a data set: pictures of every aspect ratio, and what was dropped for which reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from infinity.data.curation.dropped import load_dropped
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import encode_png
from infinity.data.loading.batches import load_images
from infinity.reporting.templates import data_uri, rendered

_AREA_PX = 128

Section = tuple[str, list[tuple[UInt8[np.ndarray, "H W 3"] | None, str]]]
"""Title, and pictures with their texts; None for a text alone."""


def gallery(manifest: Manifest, per_ratio: int = 12, seed: int = 0) -> str:
    """Return the page, with all pictures embedded.

    Args:
        manifest: The data set.
        per_ratio: Most pictures per aspect ratio, and most examples per reason.

    Raises:
        ManifestError: A shard does not match the manifest.
        StorageError: A file cannot be read.
    """
    return rendered(
        "gallery.html.j2",
        styles=("gallery.css",),
        manifest=manifest,
        funnel=funnel(manifest.head.counts),
        sections=[*_ratios(manifest, per_ratio, seed), *_reasons(manifest, per_ratio)],
        picture=lambda image: data_uri(encode_png(image)),
    )


def funnel(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the counts in reading order: all, what was left out in descending order, what was kept."""
    rest = [item for item in counts.items() if item[0] not in ("read", "kept")]
    return [("read", counts.get("read", 0)), *sorted(rest, key=lambda item: -item[1]), ("kept", counts.get("kept", 0))]


def _ratios(manifest: Manifest, per_ratio: int, seed: int) -> Iterator[Section]:
    random = np.random.default_rng(seed)
    for ratio in sorted({float(value) for value in manifest.aspect_ratios}):
        rows = np.flatnonzero(manifest.aspect_ratios == ratio)
        chosen = np.sort(random.permutation(rows)[:per_ratio])
        size = (max(1, round(_AREA_PX * ratio**0.5)), max(1, round(_AREA_PX / ratio**0.5)))
        names = zip(manifest.values("source", chosen), manifest.captions(chosen), strict=True)
        texts = [f"{name}: {caption}" for name, caption in names]
        pictures = list(zip(load_images(manifest, chosen, size), texts, strict=True))
        yield f"Height / width {ratio:.3f}: {len(rows):,} pictures", pictures


def _reasons(manifest: Manifest, most: int) -> Iterator[Section]:
    """Yield examples of dropped rows; from the manifest's texts where the table of dropped rows is missing."""
    dropped = load_dropped(manifest.uri, most) or ()
    for rows in dropped:
        examples = [(row.image, f"{row.name}: {row.detail}" if row.detail else row.name) for row in rows.examples]
        yield f"Dropped: {rows.reason}, {rows.number:,} rows", examples
    seen = {rows.reason for rows in dropped}
    for reason, lines in sorted(manifest.head.examples.items()):
        if reason not in seen:
            yield f"Dropped: {reason}", [(None, line) for line in lines]
