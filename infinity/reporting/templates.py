"""Pages from templates: self-contained HTML, readable without a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

PAGE = Path(__file__).with_name("page")
"""Folder of the templates, styles and scripts."""


def rendered(
    template: str,
    *,
    styles: Sequence[str] = ("page.css",),
    script: str = "page.js",
    escape: bool = True,
    **values: Any,
) -> str:
    """Return the text of a template; a name that it uses and that has no value is an error.

    Args:
        styles: Names of style sheets, which the template embeds as ``css``.
        script: Name of a script, which the template may embed as ``js``.
        escape: Whether values are escaped for HTML.
        values: Values by the names that the template uses.
    """
    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        css=Markup("".join(map(_text, styles))), js=Markup(_text(script)), **values
    )


def data_uri(data: bytes, kind: str = "png") -> str:
    """Return the bytes of a picture of this kind as a ``data:`` URI, for the ``src`` of a picture."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
