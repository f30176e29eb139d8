"""Pages from templates: values are escaped, names without a value are errors, nothing is loaded from elsewhere."""

import pytest
from jinja2 import TemplateNotFound, UndefinedError
from markupsafe import Markup

from infinity.reporting.templates import PAGE, rendered

FIGURES = {"title": "a <b> title", "about": "", "figures": ()}


def test_values_are_escaped_and_markup_is_not() -> None:
    page = rendered("figures.html.j2", **FIGURES)
    assert "a &lt;b&gt; title" in page
    assert "<b>" not in page
    assert "a <b> title" in rendered("figures.html.j2", **{**FIGURES, "title": Markup("a <b> title")})


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        rendered("figures.html.j2", about="", figures=())


def test_styles_and_script_are_embedded_whole() -> None:
    page = rendered("figures.html.j2", styles=("page.css", "comparison.css"), **FIGURES)
    for name in ("page.css", "comparison.css", "page.js"):
        assert (PAGE / name).read_text("utf-8") in page
    assert (PAGE / "comparison.js").read_text("utf-8") in rendered("figures.html.j2", script="comparison.js", **FIGURES)


def test_a_template_that_is_not_there_is_named() -> None:
    with pytest.raises(TemplateNotFound, match=r"nothing\.html\.j2"):
        rendered("nothing.html.j2")


@pytest.mark.parametrize("template", sorted(path.name for path in PAGE.glob("*.html.j2")))
def test_no_page_names_a_file_or_host_that_a_reader_would_have_to_load(template: str) -> None:
    text = (PAGE / template).read_text("utf-8")
    for way in ('src="http', 'href="http', '<link rel="stylesheet', "@import", "url(http"):
        assert way not in text
