"""The page of a data set on its run: first what became of the pictures, then why, where it is, and how to go on."""

import shlex
from collections.abc import Iterator, Mapping

from flows.pages.links import link
from flows.pages.pictures import embedded, embedded_png, inline
from infinity import storage
from infinity.data.curation.dropped import DroppedRow, DroppedRows, load_dropped
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.versions import versions
from infinity.data.images.contact_sheet import compose_sheet
from infinity.reporting.plots.histogram_sheet import histogram_sheet
from infinity.reporting.summary import DatasetSummary

EXAMPLES = 10
"""Pictures shown of every reason."""

_BAR = 8
_UNREADABLE = "unreadable_"


def dataset_page(manifest: Manifest, files: Mapping[str, str], summary: DatasetSummary) -> str:
    """Return Markdown with all pictures inside.

    Args:
        manifest: The data set.
        files: Files that a person may want to open, by name.
        summary: Counts and examples of the data set.

    Raises:
        StorageError: Pictures or the table of dropped rows cannot be read.
    """
    parts = [
        *_funnel(summary),
        *_place(manifest, files),
        *_look_closer(manifest),
        *_kept(summary),
        *_left_out(manifest, summary),
        *_quarantine(manifest, summary),
        *_spread(summary),
    ]
    return "\n".join(parts) + "\n"


def _funnel(summary: DatasetSummary) -> Iterator[str]:
    counts = summary.counts
    read, kept = counts["read"], counts["kept"]
    settings = {rule.reason: rule.setting for rule in summary.rules}
    yield f"# {kept:,} of {read:,} pictures kept\n"
    yield "| | pictures | share | | rule |\n|---|--:|--:|---|---|"
    yield _line("**read**", read, read, "")
    dropped = {k.removeprefix("dropped_"): n for k, n in counts.items() if k.startswith("dropped_")}
    for reason, number in sorted(dropped.items(), key=lambda item: -item[1]):
        yield _line(f"dropped: {inline(reason)}", number, read, settings.get(reason, ""))
    if counts["unreadable"]:
        yield _line("in quarantine", counts["unreadable"], read, "could not be read")
    yield _line("**kept**", kept, read, "")
    yield ""
    split = ", ".join(f"{number:,} {name}" for name, number in summary.splits.items())
    yield f"Kept: {split}; {summary.num_shards:,} shards, {summary.num_bytes:,} bytes.\n"
    yield "| height / width | " + " | ".join(summary.ratios) + " |"
    yield "|---|" + "--:|" * len(summary.ratios)
    yield "| pictures | " + " | ".join(f"{number:,}" for number in summary.ratios.values()) + " |\n"


def _line(what: str, number: int, read: int, rule: str) -> str:
    share = number / read if read else 0.0
    bar = "█" * max(1, round(share * _BAR)) if number else ""
    return f"| {what} | {number:,} | {share:.1%} | {bar} | {inline(rule)} |"


def _place(manifest: Manifest, files: Mapping[str, str]) -> Iterator[str]:
    head, gone = manifest.head, manifest.head.takedown
    yield "## Version\n"
    yield f"- digest: `{manifest.digest}`"
    if name := head.spec.get("name"):
        numbers = [each.number for each in versions(manifest.root, name) if each.sha256 == manifest.digest]
        yield f"- name: {inline(name)}, version {numbers[0] if numbers else 'not published'}"
    if head.parent:
        yield f"- parent: `{head.parent}`, {link(_parent_uri(manifest))}"
    else:
        yield "- parent: none, made from its sources alone"
    for source in head.sources:
        what = source.source or (f"{source.scenes.count:,} drawn scenes" if source.scenes else "")
        yield f"- source: {inline(what)} {f'(fingerprint `{source.fingerprint}`)' if source.fingerprint else ''}"
    if listed := sum(map(len, (gone.sha256, gone.phash, gone.urls, gone.domains))):
        yield f"- taken down: {listed:,} entries of a list of pictures, addresses and hosts"
    yield f"- written by: {inline(head.code_version)}"
    yield from (f"- {name}: {link(uri)}" for name, uri in files.items())
    yield ""


def _parent_uri(manifest: Manifest) -> str:
    uri = manifest.head.parent_uri
    return uri if "://" in uri or uri.startswith("/") else storage.join(manifest.root, uri)


def _look_closer(manifest: Manifest) -> Iterator[str]:
    yield f"## Look closer\n\n```bash\nMANIFEST={shlex.quote(manifest.uri)}"
    yield "infinity data gallery $MANIFEST --output gallery.html  # pictures of every ratio and every reason"
    yield "infinity data verify $MANIFEST                         # every shard against its checksums"
    yield "infinity data show $MANIFEST                           # all settings"
    if manifest.head.parent:
        yield f"PARENT={shlex.quote(_parent_uri(manifest))}"
        yield "infinity data diff $PARENT $MANIFEST                   # what changed"
    yield "```\n"


def _kept(summary: DatasetSummary) -> Iterator[str]:
    if summary.thumbnails is not None:
        yield f"## Kept, for example\n\n![Pictures that are kept]({embedded(summary.thumbnails)})\n"
    if summary.caption_examples:
        yield from (f"- {inline(caption)}" for caption in summary.caption_examples)
        yield ""


def _left_out(manifest: Manifest, summary: DatasetSummary) -> Iterator[str]:
    settings = {rule.reason: rule.setting for rule in summary.rules}
    rows = load_dropped(manifest.uri, EXAMPLES)
    found = [each for each in rows or () if not each.reason.startswith(_UNREADABLE)]
    words = {reason: lines for reason, lines in summary.examples.items() if not reason.startswith(_UNREADABLE)}
    if not found and not words:
        return
    yield "## Left out, for example\n"
    for each in sorted(found, key=lambda each: -each.number):
        yield f"### {inline(each.reason)}: {each.number:,}\n\n{inline(settings.get(each.reason, ''))}\n"
        yield from _examples(each)
    for reason in sorted(words.keys() - {each.reason for each in found}):  # taken down: no picture may be kept
        yield f"### {inline(reason)}: {summary.counts.get(f'dropped_{reason}', 0):,}\n"
        yield from (f"- {inline(line)}" for line in words[reason])
        yield ""


def _examples(rows: DroppedRows) -> Iterator[str]:
    images = [row.image for row in rows.examples if row.image is not None]
    if images:
        sheet = embedded_png(compose_sheet(images, EXAMPLES, gap_px=6))
        yield f"![Pictures left out: {inline(rows.reason)}]({sheet})\n"
    yield " · ".join(f"**{number}** {_named(row)}" for number, row in enumerate(rows.examples, start=1))
    yield ""


def _named(row: DroppedRow) -> str:
    return f"{inline(row.name)}: {inline(row.detail)}" if row.detail else inline(row.name)


def _quarantine(manifest: Manifest, summary: DatasetSummary) -> Iterator[str]:
    if not summary.counts["unreadable"]:
        return
    yield "## In quarantine\n\n| reason | rows | for example |\n|---|--:|---|"
    for reason, number in sorted(manifest.head.unreadable.items(), key=lambda item: -item[1]):
        example = next(iter(summary.examples.get(f"{_UNREADABLE}{reason}", ())), "")
        yield f"| {inline(reason)} | {number:,} | {inline(example)} |"
    yield "\nTheir bytes are kept. To look at them, repair them, and put them through again as a child version:\n"
    yield f"```bash\nMANIFEST={shlex.quote(manifest.uri)}"
    yield "infinity data quarantine $MANIFEST --export repair  # then mend what lies in repair/"
    yield "infinity data replay $MANIFEST repair\n```\n"


def _spread(summary: DatasetSummary) -> Iterator[str]:
    filled = [histogram for histogram in summary.histograms if sum(histogram.counts)]
    if not filled:
        return
    filled.sort(key=lambda histogram: histogram.minimum is None and histogram.maximum is None)
    yield "## How scores are spread\n"
    yield "All readable pictures. Red lies beyond the threshold; heights are square roots of the counts.\n"
    names = ", ".join(inline(each.score) for each in filled)
    yield f"![Histograms of {names}]({embedded_png(histogram_sheet(filled))})"
