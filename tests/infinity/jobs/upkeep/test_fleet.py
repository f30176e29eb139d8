"""The page of the fleet says of every run where it stands; pages escape whatever a name holds and fit a phone."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from flows.pages.comparison_page import comparison_markdown
from flows.pages.fleet_page import fleet_markdown
from flows.records.plan import changed
from infinity import storage
from infinity.cli import app
from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.score import Score
from infinity.jobs.spec import begin
from infinity.jobs.upkeep.cards import card
from infinity.jobs.upkeep.fleet import RunStatus, ago, duration, fleet
from infinity.jobs.upkeep.inventory import take_inventory
from infinity.jobs.upkeep.prometheus import METRICS, fleet_metrics
from infinity.jobs.upkeep.run_views import view
from infinity.recipes.runs import EndToEnd, end_to_end
from infinity.reporting.fleet import render_fleet
from infinity.reporting.run_comparison import (
    RunView,
    different_settings,
    render_run_comparison,
    score_rows,
    shared_curves,
)
from infinity.storage.leases.lease import acquire
from infinity.storage.leases.look import holder

EVIL = "<img src=x onerror=alert(1)>|`*[x](javascript:1)"


def begun(root: Path, name: str, recipe: str = "mini") -> EndToEnd:
    """Begin a run whose tokenizer is at step 20, with a state of step 15."""
    folder = storage.join(str(root), name)
    plan = end_to_end(recipe, source=None, output=folder)  # type: ignore[arg-type]
    storage.write_text(storage.join(folder, "run.json"), json.dumps(plan.to_json()))
    storage.write_text(
        storage.join(plan.dataset.folder, "report.json"), json.dumps({"seconds": 12.0, "notes": ["n 1"]})
    )
    begin(plan.tokenizer)
    rows = [{"step": step, "loss": 1.0 / step, "seconds_per_step": 0.5, "gain_db": 0.1} for step in (10, 20)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    storage.write_text(storage.join(plan.tokenizer.folder, "metrics.jsonl"), lines)
    storage.write_text(storage.join(plan.tokenizer.folder, "state", "step-00000015", "COMMITTED"), "x")
    return plan


def status(root: Path, name: str = "demo") -> RunStatus:
    return next(run for run in fleet(take_inventory(str(root))) if run.name == name)


def test_a_training_that_works_tells_owner_step_rate_time_left_and_checkpoint(tmp_path: Path) -> None:
    plan = begun(tmp_path, "demo")
    total = plan.tokenizer.loop.num_steps
    lease = acquire(plan.tokenizer.folder, silence_s=3600.0)
    try:
        run = status(tmp_path)
    finally:
        lease.release(finished=False)
    assert [stage.state for stage in run.stages] == ["done", "works", "waiting", "waiting", "waiting"]
    now = run.now
    assert now is not None
    assert (now.name, now.step, now.num_steps, now.rate, now.stored_step) == ("tokenizer", 20, total, 2.0, 15)
    assert now.left_s == pytest.approx(0.5 * (total - 20))
    assert now.fraction == pytest.approx(20 / total)
    assert now.owner is not None
    assert "process" in now.owner.who
    assert now.seconds == pytest.approx(10.0)
    assert now.cost(3600.0, 0.0) == pytest.approx(10.0 * now.cpus)
    facts = dict(card(run, cpu_hour=1.0, cpu_w=3.6e6).facts)
    assert float(facts["energy so far"].removesuffix(" kWh")) == pytest.approx(
        sum(each.cost(3600.0, 0.0) for each in run.stages), rel=0.01
    )
    assert facts["step"] == f"20 of {total:,}"
    assert {"rate", "time left", "last checkpoint", "owner", "cost so far", "disk"} <= set(facts)


def test_a_training_that_nobody_works_on_is_cut_off_and_says_how_it_goes_on(tmp_path: Path) -> None:
    plan = begun(tmp_path, "demo")
    run = status(tmp_path)
    assert run.now is not None
    assert run.now.state == "cut off"
    told = list(run.attention())
    assert any("stored at step 15; start the same run again" in each for each in told)
    assert any("n 1" in each for each in told)
    assert any("no better than one constant picture" in each for each in told)
    acquire(plan.tokenizer.folder, silence_s=60.0).release(finished=False)
    assert holder(plan.tokenizer.folder) is None  # given back


def test_an_owner_that_is_silent_for_twice_its_promise_counts_as_gone(tmp_path: Path) -> None:
    import os

    lease = acquire(str(tmp_path / "a"), silence_s=3600.0)
    try:
        found = holder(str(tmp_path / "a"))
        assert found is not None
        assert not found.is_gone
        long_ago = time.time() - 7300.0
        os.utime(tmp_path / "a" / ".lease", (long_ago, long_ago))
        found = holder(str(tmp_path / "a"))
        assert found is not None
        assert found.is_gone
    finally:
        lease.release(finished=True, empty=True)


def test_the_owner_in_a_bucket_is_seen_too(s3_server: str) -> None:
    lease = acquire(f"{s3_server}/a", silence_s=3600.0)
    try:
        found = holder(f"{s3_server}/a")
        assert found is not None
        assert not found.is_gone
    finally:
        lease.release(finished=True, empty=True)


def test_a_plan_of_another_version_is_a_run_that_needs_attention(tmp_path: Path) -> None:
    storage.write_text(str(tmp_path / "old" / "run.json"), json.dumps({"dataset": {"of_old": 1}}))
    run = status(tmp_path, "old")
    assert "cannot be read by this version" in next(iter(run.attention()))
    assert card(run).state == "unreadable"


@pytest.mark.sweep(12)
@pytest.mark.parametrize("value", [None, True, -1, 1e308, math.inf, math.nan, "x", [], {}, [1], 10**400])
@pytest.mark.parametrize("place", ["seconds", "notes", "step", "loss", "seconds_per_step"])
def test_a_damaged_value_of_one_run_leaves_the_page_of_all(tmp_path: Path, place: str, value: object) -> None:
    plan = begun(tmp_path, "demo")
    if place in ("seconds", "notes"):
        storage.write_text(storage.join(plan.dataset.folder, "report.json"), json.dumps({place: value}))
    else:
        row = {"step": 20, "loss": 0.1, "seconds_per_step": 0.5, place: value}
        storage.write_text(storage.join(plan.tokenizer.folder, "metrics.jsonl"), json.dumps(row) + "\n")
    runs = fleet(take_inventory(str(tmp_path)))
    cards = [card(run, cpu_hour=1.0) for run in runs]
    assert "demo" in "".join(fleet_markdown(cards, [], str(tmp_path)))
    assert "demo" in render_fleet(cards, root=str(tmp_path), when="now")
    assert b'run="demo"' in fleet_metrics(runs, root=str(tmp_path), cpu_hour=1.0)


def test_pages_escape_what_names_hold(tmp_path: Path) -> None:
    name = EVIL.replace("/", "")
    begun(tmp_path, name)
    cards = [card(run) for run in fleet(take_inventory(str(tmp_path)))]
    page = render_fleet(cards, root=str(tmp_path), when="now")
    assert "<img" not in page
    text = "\n".join(fleet_markdown(cards, [], str(tmp_path)))
    assert "<img" not in text.replace("\\<", "").replace(f"`{cards[0].folder}`", "")
    views = [RunView(name=EVIL, folder=EVIL, settings={"a": EVIL}), RunView(name="b", folder="b", settings={"a": "1"})]
    assert "<img" not in render_run_comparison(views)
    assert "<img" not in "\n".join(comparison_markdown(views)).replace("\\<", "").replace(f"`{EVIL}`", "")


def test_two_runs_side_by_side_show_what_differs_and_nothing_else(tmp_path: Path) -> None:
    first, second = begun(tmp_path, "one"), begun(tmp_path, "two")
    again = changed(second, {"tokenizer": lambda spec: spec.replace(seed=7)})
    storage.write_text(str(tmp_path / "two" / "run.json"), json.dumps(again.to_json()))
    storage.write_text(storage.join(again.tokenizer.folder, "metrics.jsonl"), '{"step": 10, "loss": 2.0}\n')
    for plan in (first, again):
        storage.delete_tree(plan.dataset.folder)
    inventory = take_inventory(str(tmp_path))
    views = [view(str(tmp_path / name), inventory) for name in ("one", "two")]
    assert different_settings(views) == [("tokenizer.seed", "0", "7")]
    lines = {(stage, metric): series for stage, metric, series in shared_curves(views)}
    assert [line.label for line in lines["tokenizer", "loss"]] == ["one", "two"]
    foreign = again.replace(finetune=again.finetune.replace(start_from=storage.join(first.pretrain.folder, "model")))
    storage.write_text(str(tmp_path / "two" / "run.json"), json.dumps(foreign.to_json()))
    (from_one,) = (
        row for row in different_settings([views[0], view(str(tmp_path / "two"), inventory)]) if "start_from" in row[0]
    )
    assert from_one == ("finetune.start_from", "transformer/model", foreign.finetune.start_from)
    storage.write_text(str(tmp_path / "two" / "run.json"), json.dumps(again.to_json()))
    page = CliRunner().invoke(
        app, ["compare-runs", "one", "two", "--root", str(tmp_path), "-o", str(tmp_path / "p.html")]
    )
    assert page.exit_code == 0, page.output
    assert "tokenizer.seed: 0 | 7" in page.stdout
    assert "tokenizer: loss" in (tmp_path / "p.html").read_text()
    by_folder = [str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "q.html")]
    page = CliRunner().invoke(app, ["compare-runs", *by_folder])
    assert page.exit_code == 0, page.output
    assert (tmp_path / "q.html").read_text() == (tmp_path / "p.html").read_text()
    wrong = CliRunner().invoke(app, ["compare-runs", str(tmp_path / "three"), "one", "--root", str(tmp_path)])
    assert f"{tmp_path}/three/run.json: expected the plan of a run" in wrong.stderr.replace("\n", "")
    wrong = CliRunner().invoke(app, ["compare-runs", "one", "three", "--root", str(tmp_path)])
    assert wrong.exit_code == 1
    assert "below" in wrong.stderr
    assert "lies one, two" in wrong.stderr


def score(metric: str, value: float, protocol: str) -> Score:
    return Score(metric=metric, value=value, unit="share", n=10, protocol=protocol)


def test_figures_of_two_protocols_never_stand_in_one_row() -> None:
    views = [
        RunView(name="a", folder="a", scores=(score("m", 0.5, "p"), score("k", 0.1, "p"))),
        RunView(name="b", folder="b", scores=(score("m", 0.7, "q"), score("k", 0.2, "p"))),
    ]
    rows = score_rows(views)
    assert [row[0] for row in rows] == ["m", "k", "m"]
    assert rows[0][2] == rows[2][1] == "–"


@pytest.mark.parametrize("number", [1, 9])
def test_a_page_of_too_few_or_too_many_runs_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"expected 2 to 8 runs to compare, got {number}"):
        render_run_comparison([RunView(name=str(i), folder="") for i in range(number)])


def test_every_metric_is_exported_with_its_labels_and_no_other(tmp_path: Path) -> None:
    plan = begun(tmp_path, "demo")
    lease = acquire(plan.tokenizer.folder, silence_s=3600.0)
    champion = Champion(
        family="demo", number=3, parent=2, action="promote", model="m", model_digest="d", evaluation=None,
        scores=(score("m", 0.5, "p"),), why="", who="", when="", token="",
    )  # fmt: skip
    try:
        runs = fleet(take_inventory(str(tmp_path)))
    finally:
        lease.release(finished=False)
    text = fleet_metrics(runs, [champion], {"FAILED": 2}, root=str(tmp_path), cpu_hour=1.0, asks_prefect=True)
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert set(families) == set(METRICS)
    for name, (labels, _) in METRICS.items():
        samples = families[name].samples
        assert samples, name
        assert all(set(sample.labels) == set(labels) for sample in samples)
    assert families["infinity_flow_runs"].samples[0].value == 2
    down = fleet_metrics([], root=str(tmp_path), asks_prefect=True).decode()
    assert "infinity_prefect_up 0.0" in down
    assert "infinity_prefect_up" not in fleet_metrics([], root="s3://nowhere").decode().replace("# ", "")


def test_the_command_shows_a_line_per_run_and_writes_the_page(tmp_path: Path) -> None:
    begun(tmp_path, "demo")
    shown = CliRunner().invoke(app, ["fleet", str(tmp_path), "-o", str(tmp_path / "fleet.html")])
    assert shown.exit_code == 0, shown.output
    assert "demo  cut off: tokenizer" in shown.stdout
    assert 'name="viewport"' in (tmp_path / "fleet.html").read_text()
    listed = json.loads(CliRunner().invoke(app, ["fleet", str(tmp_path), "--json"]).stdout)
    assert listed[0]["name"] == "demo"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0, "0 s"), (119, "119 s"), (120, "2.0 min"), (7200, "2.0 h"), (172_800, "2.0 d")]
)
def test_spans_of_time_are_in_words(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
    assert ago(0.0) == ""


@pytest.mark.parametrize("command", [["gc", "--without-prefect"], ["fleet"]])
def test_a_root_without_runs_is_told(command: list[str], tmp_path: Path) -> None:
    """A root that is mistyped must not look like one in which all is well."""
    shown = CliRunner().invoke(app, [*command, str(tmp_path / "rusn")])
    assert shown.exit_code == 0, shown.output
    assert f"no run lies below {tmp_path}/rusn" in shown.stderr
