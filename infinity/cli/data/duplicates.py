"""A command about near duplicates: see what a filter would do before it is used."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out, show_table


def duplicates(
    source: Annotated[str, typer.Argument(help="URI of a source: whatever a data set can be built from.")],
    output: Annotated[str, typer.Option(help="Folder for duplicates.json and duplicates.png.")],
    distance: Annotated[int, typer.Option(help="Largest number of different bits of the hash.")] = 12,
    difference: Annotated[float, typer.Option(help="Largest difference of thumbnails, in levels.")] = 18.0,
) -> None:
    """Find near duplicates in a source, and write the clusters and the histogram of differences."""
    with clear_errors():
        from infinity import storage
        from infinity.data.curation.duplicate_survey import survey
        from infinity.data.dedup.config import NearDuplicates
        from infinity.data.sources.opening import open_source

        limits = NearDuplicates(distance=distance, difference=difference)
        found, sheet = survey(open_source(storage.absolute(source)).slices, limits)
        storage.write_text(storage.join(output, "duplicates.json"), found.dump())
        storage.write_bytes(storage.join(output, "duplicates.png"), sheet)
        rows = [
            (f"{low} to {low + 5}", f"{sum(found.differences[low : low + 5]):,}")
            for low in range(0, len(found.differences), 5)
        ]
        show_table(("levels", "pairs within the hash distance"), rows)
        dropped = sum(len(cluster.dropped) for cluster in found.clusters)
        out.print(f"{found.pictures:,} pictures, {len(found.clusters):,} clusters, {dropped:,} would be dropped")
