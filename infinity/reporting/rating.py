"""The page of a human-preference study: blind pairs in a random order, resumable in the browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from infinity.reporting.comparison import PAGE


def rating_html(study: str, pairs: Sequence[Mapping[str, str]]) -> str:
    """Return the page as HTML text, which names no model.

    Args:
        study: Name of the study.
        pairs: Pairs with id, prompt, and paths of the left and the right picture.
    """
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Within a script element only "<" could end the text.
    data = json.dumps({"id": study, "pairs": list(pairs)}, ensure_ascii=False).replace("<", "\\u003c")
    return environment.get_template("rating.html.j2").render(
        study=Markup(data),
        css=Markup((PAGE / "page.css").read_text(encoding="utf-8")),
        js=Markup((PAGE / "rating.js").read_text(encoding="utf-8")),
    )
