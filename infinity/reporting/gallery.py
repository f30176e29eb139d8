"""HTML page that shows a data set: pictures of every aspect ratio, and what was dropped for which reason."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import UInt8

from infinity.data.curation.dropped import DroppedRow, load_dropped
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import encode_png
from infinity.data.loading.batches import load_images
from infinity.reporting.templates import data_uri

_AREA_PX = 128
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.grid { display: flex; flex-wrap: wrap; gap: .75rem }
figure { margin: 0; width: 10rem } figure img { max-width: 100%; display: block }
figcaption { font-size: .75rem; color: #555; overflow-wrap: anywhere }
table { border-collapse: collapse } td { padding: .1rem 1rem .1rem 0 } td + td { text-align: right }
"""


def gallery(manifest: Manifest, per_ratio: int = 12, seed: int = 0) -> str:
    """Return the page, with all pictures embedded.

    Args:
        manifest: The data set.
        per_ratio: Most pictures per aspect ratio, and most examples per reason.

    Raises:
        ManifestError: A shard does not match the manifest.
        StorageError: A file cannot be read.
    """
    head = manifest.head
    counts = "".join(f"<tr><td>{escape(k)}</td><td>{n:,}</td></tr>" for k, n in funnel(head.counts))
    parts = [
        f"<h1>{escape(manifest.uri)}</h1><p>{manifest.digest}</p><table>{counts}</table>",
        *_ratios(manifest, per_ratio, seed),
        *_reasons(manifest, per_ratio),
    ]
    title = f"{len(manifest):,} pictures"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def funnel(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the counts in reading order: all, what was left out in descending order, what was kept."""
    rest = [item for item in counts.items() if item[0] not in ("read", "kept")]
    return [("read", counts.get("read", 0)), *sorted(rest, key=lambda item: -item[1]), ("kept", counts.get("kept", 0))]


def _ratios(manifest: Manifest, per_ratio: int, seed: int) -> list[str]:
    random, parts = np.random.default_rng(seed), []
    for ratio in sorted({float(value) for value in manifest.aspect_ratios}):
        rows = np.flatnonzero(manifest.aspect_ratios == ratio)
        chosen = np.sort(random.permutation(rows)[:per_ratio])
        size = (max(1, round(_AREA_PX * ratio**0.5)), max(1, round(_AREA_PX / ratio**0.5)))
        captions = manifest.captions(chosen)
        names = manifest.values("source", chosen)
        figures = [
            _figure(image, f"{name}: {caption}")
            for image, name, caption in zip(load_images(manifest, chosen, size), names, captions, strict=True)
        ]
        parts.append(_section(f"Height / width {ratio:.3f}: {len(rows):,} pictures", figures, ""))
    return parts


def _reasons(manifest: Manifest, most: int) -> list[str]:
    """Return examples of dropped rows; from the manifest's texts where the table of dropped rows is missing."""
    dropped = load_dropped(manifest.uri, most) or ()
    parts = [
        _section(f"Dropped: {rows.reason}, {rows.number:,} rows", [_dropped(row) for row in rows.examples], "")
        for rows in dropped
    ]
    seen = {rows.reason for rows in dropped}
    rest = [(reason, lines) for reason, lines in sorted(manifest.head.examples.items()) if reason not in seen]
    return parts + [_section(f"Dropped: {reason}", [_words(line) for line in lines], "") for reason, lines in rest]


def _dropped(row: DroppedRow) -> str:
    text = f"{row.name}: {row.detail}" if row.detail else row.name
    return _words(text) if row.image is None else _figure(row.image, text)


def _section(title: str, figures: Sequence[str], kind: str) -> str:
    return f'<h2>{escape(title)}</h2><div class="grid {kind}">{"".join(figures)}</div>'


def _figure(image: UInt8[np.ndarray, "H W 3"], text: str) -> str:
    picture = data_uri(encode_png(image))
    return f'<figure><img alt="" src="{picture}"><figcaption>{escape(text)}</figcaption></figure>'


def _words(text: str) -> str:
    return f"<figure><figcaption>{escape(text)}</figcaption></figure>"
