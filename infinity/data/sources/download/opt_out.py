"""What a server forbids with the header ``X-Robots-Tag``."""

from __future__ import annotations

from collections.abc import Collection, Iterable

# Directives whose value follows a colon: "max-snippet: 10" addresses no robot of that name.
_WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


def forbidden_by(headers: Iterable[str], opt_outs: Collection[str], robot: str) -> str | None:
    """Return the first directive in ``opt_outs`` that is meant for us, or None.

    A header is a list of directives between commas; a name before a colon addresses the directives after it to the
    robot of that name ("otherbot: noai, noindex"), and directives without one to everybody.

    Args:
        headers: Values of all headers of that name.
        opt_outs: Directives that we honour, in small letters.
        robot: Our own name, in small letters.
    """
    for header in headers:
        ours = True
        for part in header.lower().split(","):
            name, colon, rest = part.partition(":")
            directive = part.strip()
            if colon and name.strip() not in _WITH_VALUE:
                ours, directive = name.strip() in (robot, "*"), rest.strip()
            if ours and directive in opt_outs:
                return directive
    return None
