"""Commands on data sets: look at one, compare two, see whether one is whole, take pictures down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import Cluster, clear_errors, err, out, show_table

if TYPE_CHECKING:
    from infinity.data.dataset.difference import Change
    from infinity.data.dataset.manifest import Manifest
    from infinity.jobs.dataset.purge import Purged

app = typer.Typer(no_args_is_help=True, help="Look at data sets, compare versions, verify shards, take pictures down.")

ManifestUri = Annotated[str, typer.Argument(help="URI of a manifest.parquet, or of the folder that holds it.")]


def _load(uri: str) -> Manifest:
    from infinity import storage
    from infinity.data.dataset.manifest import Manifest

    return Manifest.load(storage.absolute(uri if uri.endswith(".parquet") else storage.join(uri, "manifest.parquet")))


def _table(title: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        cells = [tuple(f"{value:,}" if isinstance(value, int) else str(value) for value in row) for row in rows]
        show_table([""] * len(rows[0]), cells, title=title)


@app.command()
def show(manifest: ManifestUri) -> None:
    """Show what a data set holds: the funnel, ratios, shards, rules, settings and where it comes from."""
    with clear_errors():
        from infinity.reporting.gallery import funnel

        loaded = _load(manifest)
        head = loaded.head
        sizes = [shard.num_samples for shard in head.shards]
        about = [
            ("digest", loaded.digest),
            ("parent", f"{head.parent} ({head.parent_uri})" if head.parent else "none"),
            ("written by", head.code_version),
            ("shards", f"{len(sizes)} of {min(sizes, default=0)} to {max(sizes, default=0)} samples"),
            ("bytes", sum(shard.num_bytes for shard in head.shards)),
        ]
        _table("data set", about)
        _table("funnel", funnel(head.counts))
        for name in ("split", "aspect_ratio"):
            values = loaded.column(name).value_counts().to_pylist()
            _table(name, sorted((str(value["values"]), value["counts"]) for value in values))
        _table("rules", [(rule.reason, rule.setting, rule.dropped) for rule in head.rules])
        _table("sources", [(record.source or "drawn scenes", record.fingerprint) for record in head.sources])
        out.print_json(json.dumps(head.spec))


@app.command()
def diff(
    first: ManifestUri,
    second: ManifestUri,
    as_json: Annotated[bool, typer.Option("--json", help="Print the difference as JSON.")] = False,
) -> None:
    """Compare two versions: rows added, removed and moved, shards kept and written anew, settings that changed."""
    with clear_errors():
        from infinity.data.dataset.difference import compare

        found = compare(_load(first), _load(second))
        if as_json:
            out.print_json(json.dumps(found.to_json()))
            return
        _table(
            "the second was made from the first" if found.is_child else "neither was made from the other directly",
            [
                ("rows added", found.added),
                ("rows removed", found.removed),
                ("rows in another shard", found.moved),
                ("rows in another split", found.resplit),
                ("shards kept", found.shards_kept),
                ("shards new", f"{found.shards_new} ({found.bytes_new:,} bytes)"),
                ("shards gone", found.shards_gone),
            ],
        )
        _changes("counts", found.counts)
        _changes("settings", found.settings)
        for kind in ("added", "removed"):
            _table(f"{kind}, for example", [(name,) for name in found.examples[kind]])


def _changes(title: str, changes: tuple[Change, ...]) -> None:
    _table(title, [(change.name, json.dumps(change.before), "->", json.dumps(change.after)) for change in changes])


@app.command()
def verify(manifest: ManifestUri) -> None:
    """Read every shard and compare it with the manifest: sizes, checksums, order, places, captions and counts.

    Ends with code 1 and a list of what is broken, if anything is.
    """
    with clear_errors():
        from infinity.data.dataset.verify import verify as find_faults

        loaded = _load(manifest)
        faults = find_faults(loaded)
    for fault in faults:
        err.say(str(fault))
    if faults:
        err.print(f"{len(faults)} faults in {len(loaded.head.shards)} shards", style="red")
        raise typer.Exit(1)
    out.print(f"whole: {len(loaded):,} pictures in {len(loaded.head.shards):,} shards")


@app.command()
def gallery(
    manifest: ManifestUri,
    output: Annotated[str, typer.Option("--output", "-o", help="File or URI of the page.")] = "gallery.html",
    per_ratio: Annotated[int, typer.Option(min=1, help="Most pictures of each aspect ratio and each reason.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed shows other pictures.")] = 0,
) -> None:
    """Write one HTML page with pictures of every aspect ratio and examples of what was dropped for which reason."""
    with clear_errors():
        from infinity import storage
        from infinity.reporting.gallery import gallery as page

        storage.write_text(output, page(_load(manifest), per_ratio, seed))
        out.say(output)


@app.command()
def takedown(
    manifest: ManifestUri,
    listed: Annotated[str, typer.Argument(help="File of lines like sha256:..., phash:..., url:... and domain:....")],
    distance: Annotated[
        int, typer.Option(min=0, max=64, help="Most bits between a picture's phash and a listed one.")
    ] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set whose next version this becomes.")] = "",
    purge: Annotated[
        bool,
        typer.Option(
            "--purge", help="Delete the older versions that hold the pictures, and every file beside them that does."
        ),
    ] = False,
    ray_address: Cluster = None,
) -> None:
    """Make a new version without the listed pictures; shards that hold none of them stay as they are.

    Older versions still hold the pictures, unless --purge deletes them.
    """
    with clear_errors():
        from infinity import storage
        from infinity.data.curation.takedown import load_takedown
        from infinity.data.dataset.manifest import Manifest
        from infinity.jobs.cluster.connection import connect
        from infinity.jobs.dataset.build import BuildDatasetSpec, run
        from infinity.jobs.dataset.purge import not_there
        from infinity.jobs.dataset.purge import purge as purge_versions

        parent = _load(manifest)
        settings = {
            key: value for key, value in parent.head.spec.items() if key not in ("source", "scenes", "fingerprint")
        }
        wanted = load_takedown(listed).replace(phash_distance=distance)
        if not wanted:
            raise ValueError(f"{listed}: expected at least one entry such as url:https://..., found none")
        absent = not_there(parent, wanted)
        spec = BuildDatasetSpec.from_json(
            {
                **settings,
                "output": parent.root,
                "parent": parent.uri,
                "takedown": (wanted.hidden() if purge else wanted).to_json(),
                "name": name,
            },
            where=storage.name(parent.uri),
        )
        with connect(ray_address):
            report = run(spec)
        counts = report.summary.counts
        if purge:
            _tell(purge_versions(Manifest.load(report.manifest), wanted))
        else:
            out.say("older versions still hold the pictures; the same command with --purge deletes them")
        _tell_absent(absent)
        out.say(f"{counts['kept']:,} pictures left: {report.manifest}")


def _tell_absent(absent: Sequence[str]) -> None:
    if absent:
        out.say(f"{len(absent):,} entries of the list name no picture of this version, for example {absent[0]}")


def _tell(done: Purged) -> None:
    """What a purge deleted, and what it left alone."""
    told = ", ".join(f"{number:,} {kind}" for kind, number in done.deleted.items() if number) or "nothing"
    out.say(f"deleted: {told}")
    for uri in done.still:
        out.say(f"still held by {uri}, which does not come before it")
    for uri in done.writing:
        out.say(f"not touched, since a writer may be at work on it, and may hold them: {uri}; purge again later")
    for uri in done.readers:
        out.say(f"not touched, and made from them: {uri} (weights, samples and sheets)")
    for uri in done.sources:
        out.say(f"not touched, and may hold them: the source {uri}")


@app.command()
def gc(
    root: Annotated[str, typer.Argument(help="Folder or URI that holds all versions: the output of the builds.")],
    older_than_hours: Annotated[
        float, typer.Option(min=0.0, help="Younger files stay: a build that is running may be about to name them.")
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
) -> None:
    """Delete what no version needs: shards, their indices, and drafts of writers that died."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.dataset.purge import collect_garbage

        if not storage.exists(storage.absolute(root)):
            raise storage.FileMissingError(f"{root}: there is no such folder; expected the output of data sets")
        done = collect_garbage(storage.absolute(root), older_than_hours * 3600, dry_run=dry_run)
        told = ", ".join(f"{number:,} {kind}" for kind, number in done.items()) or "nothing"
        out.print(f"{'would delete' if dry_run else 'deleted'}: {told}", highlight=False)
