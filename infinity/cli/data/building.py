"""The command that builds a data set without Prefect."""

from __future__ import annotations

from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Cluster, clear_errors, following, out, show_table

if TYPE_CHECKING:
    from infinity.jobs.dataset.build import BuildDatasetReport


class Filters(StrEnum):
    """Names of sets of thresholds on networks' scores."""

    none = "none"
    paper = "paper"


Roots = Annotated[
    list[str] | None,
    typer.Option(
        "--root",
        help="Further folder whose files the source may name, by links or in tables; may be given several times. "
        "What lies neither in it nor in the source is left out as outside_source.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any other setting of the spec as PATH=VALUE, such as filters.captions.min_words=3; may be given "
        "several times. `infinity data settings` lists them all.",
    ),
]


def build(
    source: Annotated[str, typer.Argument(help="Captioned pictures: folder, .zip, .tar, .jsonl, .parquet, addresses.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder or s3:// URI that gets the data set.")],
    filters: Annotated[
        Filters,
        typer.Option(help="paper: drop pictures with much text, a watermark or a low aesthetic score."),
    ] = Filters.none,
    image_column: Annotated[
        str | None, typer.Option(help="Column of the picture's file or bytes, where guessing is not enough.")
    ] = None,
    caption_column: Annotated[str | None, typer.Option(help="Column of the short or only caption.")] = None,
    long_caption_column: Annotated[str | None, typer.Option(help="Column of the long caption.")] = None,
    url_column: Annotated[str | None, typer.Option(help="Column of the picture's address on the web.")] = None,
    near_duplicates: Annotated[bool, typer.Option(help="Drop pictures that nearly repeat another one.")] = False,
    store_side_px: Annotated[
        int | None, typer.Option(help="Scale larger pictures to this shorter side in pixels and store them as JPEG.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the data set whose next version this becomes.")] = "",
    parent: Annotated[str | None, typer.Option(help="Manifest of the version before, in the same output.")] = None,
    roots: Roots = None,
    settings: Settings = None,
    ray_address: Cluster = None,
) -> None:
    """Build a data set: read pictures, drop what cannot be used, count the reasons, write shards and a manifest."""
    with clear_errors():
        from infinity import storage
        from infinity.data.curation.filters import FilterConfig
        from infinity.data.curation.storing import StoringConfig
        from infinity.data.dedup.config import NearDuplicates
        from infinity.data.sources.columns import SourceColumns
        from infinity.jobs.cluster.connection import connect
        from infinity.jobs.dataset import build as job
        from infinity.jobs.dataset.filter_sets import filter_set, with_model_filters
        from infinity.settings import with_settings

        uri, allowed = storage.absolute(source), tuple(map(storage.absolute, roots or ()))
        spec = job.BuildDatasetSpec(
            source=uri,
            fingerprint=job.fingerprint(uri, allowed),
            roots=allowed,
            columns=SourceColumns(
                picture=image_column, url=url_column, long_caption=long_caption_column, caption=caption_column
            ),
            output=storage.absolute(output),
            filters=FilterConfig(near_duplicates=NearDuplicates() if near_duplicates else None),
            storing=StoringConfig(side_px=store_side_px),
            name=name,
            parent=None if parent is None else storage.absolute(parent),
        )
        spec = with_settings(spec, dict(map(_pair, settings or ())))
        models = spec.filters.models if filters is Filters.none else filter_set("paper")
        spec = with_model_filters(spec, models)
        with connect(ray_address), following("building") as show:
            report = job.run(spec, progress=show)
        _show(report)


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print a complete spec with all defaults.")] = False,
) -> None:
    """List every setting of a data set in groups: its path for --set and for the form, type, default and meaning."""
    with clear_errors():
        from infinity.jobs.dataset.spec import BuildDatasetSpec
        from infinity.settings import settings_of

        if as_json:
            out.print_json(BuildDatasetSpec(source="/pictures", output="sets").dump())
            return
        found = sorted(settings_of(BuildDatasetSpec), key=lambda setting: setting.group)
        for title, members in groupby(found, lambda setting: setting.group):
            out.print(f"\n{title or 'the data set'}", style="bold", markup=False, highlight=False)
            for setting in members:
                default = f", default {setting.default}" if setting.default else ""
                out.say(f"  {setting.path} ({setting.kind}{default}): {setting.help}")


def _pair(text: str) -> tuple[str, str]:
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ValueError(f"--set: expected PATH=VALUE, such as filters.min_side_px=64, got {text!r}")
    return path.strip(), value


def _show(report: BuildDatasetReport) -> None:
    """Print the funnel, what was not read, and the manifest."""
    from infinity.reporting.gallery import funnel

    show_table(("", ""), [(name, f"{number:,}") for name, number in funnel(report.summary.counts)])
    for line in report.not_read:
        out.say(f"not read: {line}")
    counts = report.summary.counts
    out.say(f"{counts['kept']:,} of {counts['read']:,} pictures kept")
    out.say(report.manifest)
