"""The page that compares two models: paired scores, other scores, the choice of prompts, and hostile texts."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infinity.evaluation.promotion.gate import GateReport, ScoredModel, compare
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.score import Score
from infinity.reporting.comparison import (
    ComparisonPage,
    ShownPrompt,
    Side,
    chosen,
    comparison_row,
    number,
    render_comparison,
    thumbnail,
    write_figures,
)
from infinity.storage import FileMissingError
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed

METRIC = "clip_score.overall"


def score(metric: str, value: float, protocol: str = "p/1") -> Score:
    return Score(metric=metric, value=value, unit="", n=12, protocol=protocol)


def gate_report(gain: float) -> GateReport:
    items = {f"{index:05d}": 20.0 + index % 3 for index in range(12)}
    models = [
        ScoredModel(
            model=f"/{name}", digest=name, setting="s", scores={METRIC: score(METRIC, 20.0)},
            items={METRIC: {item: value + added for item, value in items.items()}},
        )
        for name, added in (("old", 0.0), ("new", gain))
    ]  # fmt: skip
    return compare(*models, GateConfig(num_resamples=1000))


def shown(name: str, loss: float, **changes: object) -> ShownPrompt:
    values: dict[str, object] = {
        "benchmark": "clip_score", "id": name, "prompt": f"prompt {name}", "seeds": (), "before": (), "after": (),
        "values": ((METRIC, 1.0, 1.0 - loss),), "loss": loss,
    }  # fmt: skip
    return ShownPrompt(**(values | changes))  # type: ignore[arg-type]


def page(**changes: object) -> ComparisonPage:
    values: dict[str, object] = {
        "before": Side(title="A", model="/a", digest="1", scores=()),
        "after": Side(title="B", model="/b", digest="2", scores=()),
        "report": gate_report(1.0), "refusal": "", "prompts": (), "num_prompts": 0,
    }  # fmt: skip
    return ComparisonPage(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gain", "decision", "words"),
    [(1.0, "promote", "better"), (0.0, "undecided", "sample too small to decide"), (-1.0, "block", "worse")],
)
def test_the_page_and_the_file_say_what_the_gate_decides(gain: float, decision: str, words: str) -> None:
    report = gate_report(gain)
    made = page(report=report)
    texts = check_page(render_comparison(made), num_scripts=1)
    content = json.loads(write_figures(made))
    assert content["decision"] == report.decision == decision
    assert squeezed(content["cause"]) in texts
    assert comparison_row(report.comparisons[0])["verdict"] == words
    assert GateReport.from_json(content["report"]) == report


def test_a_refusal_stands_in_the_place_of_paired_scores() -> None:
    made = page(report=None, refusal="two settings")
    assert "No paired scores: two settings" in check_page(render_comparison(made), num_scripts=1)
    content = json.loads(write_figures(made))
    assert (content["decision"], content["cause"], content["report"]) == (None, "two settings", None)


def test_two_scores_share_a_row_only_under_one_protocol_and_paired_ones_are_not_repeated() -> None:
    sides = {
        "before": Side(title="A", model="/a", digest="1", scores=(score("fid", 3.25, "x"), score("kid", 0.5, "k"))),
        "after": Side(
            title="B",
            model="/b",
            digest="2",
            scores=(score("fid", 7.75, "y"), score("kid", 0.125, "k"), score(METRIC, 9)),
        ),
    }
    html = render_comparison(page(**sides))
    rows = [row for row in html.split('<section id="others">')[1].split("<tr>") if "<code>" in row]
    assert len(rows) == 3
    assert ["3.25" in row and "7.75" in row for row in rows] == [False] * 3
    assert [("0.5" in row and "0.125" in row) for row in rows] == [False, False, True]
    assert METRIC not in html.split('<section id="others">')[1]


def test_hostile_texts_stay_texts() -> None:
    side = Side(title=HOSTILE, model=HOSTILE, digest=HOSTILE, scores=(score("fid", 1.0, HOSTILE),))
    prompt = shown("1", 0.5, prompt=HOSTILE, benchmark=HOSTILE, id=HOSTILE)
    texts = check_page(
        render_comparison(
            page(before=side, after=side, prompts=(prompt,), num_prompts=1, report=None, refusal=HOSTILE)
        ),
        num_scripts=1,
    )
    assert texts.count(squeezed(HOSTILE)) >= 9


def test_pictures_are_embedded_with_their_seeds_and_a_missing_one_is_named(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(uri)
    prompt = shown("1", 0.5, before=(uri, uri), after=(), seeds=(5, 6))
    html = render_comparison(page(prompts=(prompt,), num_prompts=1))
    check_page(html, num_scripts=1)
    assert html.count("data:image/png;base64,") == 2
    assert "A, picture 2, seed 6" in html
    assert html.count("no picture") == 1
    with pytest.raises(FileMissingError, match=r"gone\.png"):
        render_comparison(page(prompts=(shown("1", 0.5, before=(str(tmp_path / "gone.png"),)),), num_prompts=1))


@pytest.mark.parametrize(("mode", "kind"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "jpeg")])
def test_a_small_png_is_embedded_as_it_is_and_all_else_as_a_small_jpeg(tmp_path: Path, mode: str, kind: str) -> None:
    path = tmp_path / "a"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, mode)
    uri = thumbnail(str(path))
    head, data = uri.split(",")
    assert head == f"data:image/{kind};base64"
    assert (base64.b64decode(data) == path.read_bytes()) == (mode == "PNG")
    shrunk = Image.open(
        io.BytesIO(base64.b64decode(thumbnail(str(path), max_png_bytes=10, max_side_px=30).split(",")[1]))
    )
    assert shrunk.format == "JPEG"
    assert shrunk.size == (30, 20)


@given(st.lists(st.floats(-5, 5), max_size=40), st.integers(1, 30))
def test_the_worst_and_the_best_are_chosen_in_order_and_none_twice(losses: list[float], most: int) -> None:
    prompts = [shown(str(index), loss) for index, loss in enumerate(losses)]
    found = chosen(prompts, most)
    assert len(found) == min(most, len(prompts))
    assert len({each.id for each in found}) == len(found)
    assert [each.loss for each in found] == sorted((each.loss for each in found), reverse=True)
    if found and most >= 3:
        assert found[0].loss == max(losses)
        assert found[-1].loss == min(losses)


def test_a_number_has_four_digits_or_is_written_out_and_none_is_said() -> None:
    assert number(0.123456) == "0.1235"
    assert number(12345.6) == "12,346"
    assert number(None) == "not measured"


def test_a_single_item_has_no_known_interval_in_its_row() -> None:
    comparison = gate_report(0.5).comparisons[0].replace(low=None, high=None, noise=None)
    row = comparison_row(comparison)
    assert (row["interval"], row["noise"]) == ("unknown", "unknown")
    assert row["gain"].startswith("+0.5")
