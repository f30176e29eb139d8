"""The ledger as one HTML page: every run of every item with its interval, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from benchmarks.ledger.judging import LEAST, Entry, Verdict, verdicts

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}td,th{padding:.15rem .6rem;text-align:left;border-bottom:1px solid #ddd}
.slower{background:#fbd5d5}.faster{background:#dcf3dc}svg{width:16rem;height:1rem;display:block}p{color:#555}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.slower{background:#5b2020}
.faster{background:#1f4a24}td,th{border-color:#444}p{color:#aaa}}
"""
_HEAD = Markup("<tr><th>date</th><th>commit</th><th>processor s</th><th>95 % interval</th><th>ratio</th><th></th></tr>")


def page(found: Mapping[tuple[str, str], Sequence[Entry]]) -> str:
    """Return the page; items whose newest run is slower come first.

    Args:
        found: Runs by item and by what was measured where, oldest first.
    """
    judged = {key: verdicts(entries) for key, entries in found.items()}
    order = sorted(found, key=lambda key: (judged[key][-1].kind != "slower", key))
    parts = [_section(key, found[key], judged[key]) for key in order]
    slower = sum(each[-1].kind == "slower" for each in judged.values())
    title = f"{slower} of {len(found)} items slower" if slower else f"No item of {len(found)} slower"
    return str(
        Markup(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Benchmarks: {t}</title><style>{style}'
            "</style></head><body><h1>{t}</h1><p>Each run is compared with the best five runs in a row before "
            "it. It is flagged where the whole 95 % interval of the ratio lies above {most}.</p>{parts}</body></html>"
        ).format(t=title, style=Markup(_STYLE), most=f"{1 + LEAST:.2f}", parts=Markup("").join(parts))
    )


def _section(key: tuple[str, str], entries: Sequence[Entry], judged: Sequence[Verdict]) -> Markup:
    most = max(entry.high for entry in entries)
    rows = [_row(entry, verdict, most) for entry, verdict in zip(entries, judged, strict=True)]
    return Markup("<h2>{}</h2><p>{}</p><table>{}{}</table>").format(*key, _HEAD, Markup("").join(reversed(rows)))


def _row(entry: Entry, verdict: Verdict, most: float) -> Markup:
    ratio = "" if verdict.kind == "too few" else f"{verdict.ratio:.2f} ({verdict.low:.2f} to {verdict.high:.2f})"
    said = f"accepted: {entry.reason}" if entry.reason else verdict.kind
    return Markup('<tr class="{}"><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>').format(
        verdict.kind, entry.at, entry.commit, f"{entry.seconds:.4g}", _bar(entry, most), ratio, said
    )


def _bar(entry: Entry, most: float) -> Markup:
    low, middle, high = (100 * value / most for value in (entry.low, entry.seconds, entry.high))
    return Markup(
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{} to {} seconds">'
        '<rect x="{}" width="{}" y="4" height="2" fill="#888"/>'
        '<rect x="{}" width="1" y="1" height="8" fill="currentColor"/></svg>'
    ).format(
        f"{entry.low:.4g}", f"{entry.high:.4g}", f"{low:.2f}", f"{max(high - low, 0.4):.2f}", f"{middle - 0.5:.2f}"
    )
