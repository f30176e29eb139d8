"""What tests ask of any page: well-formed tags, nothing from outside, and hostile texts that stay texts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

HOSTILE = """<script>alert("x")</script> & 'quotes' "double" {{ 7 * 7 }} | pipe ` tick"""
"""A text that means something in HTML, in templates and in Markdown."""

VOID = {"meta", "link", "img", "input", "br", "line", "polyline"}


class _Checker(HTMLParser):
    """Follows the tags of a page; remembers what it would load and which scripts it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.num_scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.num_scripts += tag == "script"
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        self.wrong += [f"{name} in <{tag}>" for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self.open[-3:]}")
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def check_page(html: str, *, num_scripts: int) -> str:
    """Return the texts of a page, after checking its tags, its links and its number of scripts."""
    checker = _Checker()
    checker.feed(html)
    checker.close()
    assert checker.open in ([], ["html"], ["html", "body"]), checker.open
    assert checker.wrong == []
    assert checker.num_scripts == num_scripts
    outside = [uri for uri in checker.loaded if not uri.startswith(("data:", "#"))]
    assert outside == []
    assert not re.search(r"\{\{|\{%", html.replace("{{ 7 * 7 }}", ""))
    return " ".join(" ".join(checker.texts).split())


def squeezed(text: str) -> str:
    """Return a text with single blanks, as `check_page` returns texts."""
    return " ".join(text.split())
