"""Published figures and ours: never ranked together under two protocols."""

import pytest

from infinity.evaluation.promotion.leaderboard import is_lower_better, leaderboard, ours, published
from infinity.evaluation.score import Score
from infinity.reporting.scores.leaderboard import leaderboard_html, leaderboard_markdown

HEADER = "metric,model,value,unit,protocol,source\n"


def score(protocol: str, value: float | None = 0.7) -> Score:
    if value is None:
        return Score.not_measured("geneval.overall", "share", protocol=protocol, reason="no pictures")
    return Score(metric="geneval.overall", value=value, unit="share", n=2212, protocol=protocol, low=0.6, high=0.8)


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("cmmd.overall", True), ("fd_dinov2_rewritten.overall", True), ("dpg.failed", True), ("judge_dsg.gaps", True),
        ("text_rendering.edit_distance", True), ("text_rendering_rewritten.edit_distance", True),
        ("geneval.overall", False), ("diversity.overall", False),
    ],
)  # fmt: skip
def test_distances_and_failures_are_better_when_lower(metric: str, lower: bool) -> None:
    assert is_lower_better(metric) is lower


def test_the_table_of_published_figures_holds_those_of_the_paper() -> None:
    entries = {(entry.metric, entry.model, entry.source): entry.value for entry in published()}
    assert entries["geneval.overall", "SDXL", "GenEval README"] == 0.55
    assert entries["dpg.overall", "Infinity-2B, paper", "arXiv:2412.04431 Table 1"] == 83.46
    assert entries["image_reward.overall", "logit guidance 4", "arXiv:2412.04431 Table 9"] == 0.962
    assert len(entries) > 100
    assert all(entry.protocol and entry.source and not entry.is_ours for entry in published())


def test_every_group_has_one_metric_and_one_protocol_and_the_best_first() -> None:
    entries = [*published(), *ours("mine", [score("geneval/1: other networks")], "/runs/e")]
    groups = leaderboard(entries)
    for group in groups:
        assert {(entry.metric, entry.protocol) for entry in group.entries} == {(group.metric, group.protocol)}
        values = [entry.value for entry in group.entries if entry.value is not None]
        assert values == sorted(values, reverse=not is_lower_better(group.metric))
    assert sum(len(group.entries) for group in groups) == len(entries)
    first = next(group for group in groups if group.metric == "geneval.overall")
    assert [entry.model for entry in first.entries] == ["mine"], "ours first, alone under its protocol"


def test_ours_is_ranked_among_figures_of_the_very_same_protocol() -> None:
    protocol = next(entry.protocol for entry in published() if entry.model == "SDXL")
    groups = leaderboard([*published(), *ours("mine", [score(protocol, 0.6)], "/runs/e")])
    models = [entry.model for entry in groups[0].entries]
    assert models.index("SD3-Medium") < models.index("mine") < models.index("SDXL")


def test_what_was_not_measured_stays_last_with_its_reason() -> None:
    protocol = next(entry.protocol for entry in published() if entry.model == "SDXL")
    group = leaderboard([*published(), *ours("mine", [score(protocol, None)], "/runs/e")])[0]
    assert group.entries[-1].model == "mine"
    assert "not measured | " in leaderboard_markdown([group])
    assert "no pictures" in leaderboard_html([group])


def test_pages_mark_ours_and_name_every_protocol() -> None:
    groups = leaderboard([*published(), *ours("my | model", [score("geneval/1")], "/runs/e")])
    markdown, html = leaderboard_markdown(groups), leaderboard_html(groups)
    assert "| **my \\| model** | 0.7 | 0.6 to 0.8 | 2,212 |" in markdown
    assert '<tr class="ours"><td>my | model</td>' in html
    for group in groups:
        assert group.protocol in html


INCOMPLETE = (" ,a,0.5,share,p,s", "m,,0.5,share,p,s", "m,a, ,share,p,s", "m,a,0.5,share,,s", "m,a,0.5,share,p, ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected the columns"),
        ("metric,value\n", "found metric, value"),
        (HEADER + "m,a,0.5,share,p\n", "line 2: expected a value for every column"),
        *((f"{HEADER}{row}\n", "line 2: expected a value for every column but unit") for row in INCOMPLETE),
        (HEADER + "m,a,0.5,share,p,s,more\n", "line 2: expected a value for every column but unit"),
        (HEADER + "m,a,much,share,p,s\n", "expected a number as value, got 'much'"),
        (HEADER + "m,a,nan,share,p,s\n", "finite"),
        (HEADER + "m,a,1,share,p,s\nm,a,0,share,p,s\n", "line 3: the figure of 'a' for m is there twice"),
    ],
)
def test_a_broken_table_is_refused_by_line(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        published(text, where="table.csv")


@pytest.mark.parametrize("row", ["m,a,67,share,p,s", "m,a,-0.1,share,p,s", "m,a,100.5,percent,p,s"])
def test_a_value_beyond_its_unit_is_refused_by_line(row: str) -> None:
    with pytest.raises(ValueError, match=r"table.csv line 2: expected 0 to (1|100) as (share|percent), got"):
        published(f"{HEADER}{row}\n", where="table.csv")


def test_percent_and_share_are_never_ranked_together() -> None:
    protocol = next(entry.protocol for entry in published() if entry.model == "SDXL")
    theirs = published(f'{HEADER}geneval.overall,flux,67,percent,"{protocol}",mine.csv\n')
    with pytest.raises(ValueError, match=r"flux is in 'percent' \(mine.csv\).*write both in one unit"):
        leaderboard([*published(), *theirs])
    assert [len(group.entries) for group in leaderboard(theirs)] == [1]
