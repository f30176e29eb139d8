"""The page of a benchmark's figures: every part in its place, and texts that stay texts."""

from infinity.reporting.figures import Figure, figures_html
from infinity.reporting.plots.charts import line_chart
from infinity.reporting.plots.curves import Series
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed


def test_every_figure_has_its_text_charts_and_table_in_order() -> None:
    chart = line_chart([Series("loss", ((0.0, 1.0), (1.0, 0.5)))], title="loss over steps")
    first = Figure("First", "What it shows.", (chart, chart), table=(("name", "value"), ("a", "1"), ("b", "2")))
    html = figures_html("Title", "About it.", (first, Figure("Second", "No chart.", ())))
    texts = check_page(html, num_scripts=1)
    places = [texts.index(word) for word in ("About it.", "First", "What it shows.", "Second", "No chart.")]
    assert places == sorted(places)
    assert html.count('<figure class="chart">') == 2
    assert html.count("<table>") == 1
    assert html.count("<th") == 2
    assert html.count("<td") == 4


def test_a_sheet_is_shown_with_the_title_as_its_words() -> None:
    html = figures_html("T", "", (Figure("Sheet", "", (), sheet="data:image/png;base64,AAAA"),))
    check_page(html, num_scripts=1)
    assert 'src="data:image/png;base64,AAAA" alt="Sheet"' in html


def test_hostile_texts_stay_texts() -> None:
    figure = Figure(HOSTILE, HOSTILE, (), table=((HOSTILE,), (HOSTILE,)))
    assert check_page(figures_html(HOSTILE, HOSTILE, (figure,)), num_scripts=1).count(squeezed(HOSTILE)) >= 6
