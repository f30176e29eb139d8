"""The page of a human-preference study: blind pairs in a random order, resumable in the browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from infinity.reporting.templates import rendered


def rating_html(study: str, pairs: Sequence[Mapping[str, str]]) -> str:
    """Return the page as HTML text, which names no model.

    Args:
        pairs: Pairs with id, prompt, and paths of the left and the right picture.
    """
    # Within a script element only "<" could end the text.
    data = json.dumps({"id": study, "pairs": list(pairs)}, ensure_ascii=False).replace("<", "\\u003c")
    return rendered("rating.html.j2", script="rating.js", study=Markup(data))
