"""Dashboard and alerts name metrics and labels that are really exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from infinity.jobs.upkeep.prometheus import METRICS
from infinity.serving.metrics import ServerMetrics
from infra.settings import REPOSITORY
from tests.fixtures.limits import AGES_S

FOLDER = REPOSITORY / "infra" / "monitoring"
NAME = re.compile(r"\binfinity_[a-z0-9_]+")
FUNCTIONS = {
    "absent", "count", "delta", "histogram_quantile", "rate", "sum", "time", "vector", "by", "on", "and", "or", "le",
    "max",
}  # fmt: skip
"""Words of the query language that the files use."""


def exported() -> dict[str, set[str]]:
    """Labels by the name of every sample that `infinity metrics` and the picture server give."""
    found = {name: set(labels) for name, (labels, _) in METRICS.items()}
    server = ServerMetrics(lambda: 1.0, lambda: 0.0)
    server.requests.labels("/", "200").inc()
    server.seconds.labels("/").observe(1.0)
    server.drawn(1, 1.0)
    for family in text_string_to_metric_families(server.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return loaded


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in dashboard()["panels"]:
        yield from ((f"panel {panel['title']}", target["expr"]) for target in panel["targets"])
    yield from ((f"alert {rule['alert']}", rule["expr"]) for rule in rules())
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"].removeprefix("label_values")


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_name_and_label_of_an_expression_is_exported(where: str, expression: str) -> None:
    known = exported()
    names = NAME.findall(expression)
    assert names, where
    assert set(names) <= set(known), where
    for name, selector in re.findall(r"(infinity_[a-z0-9_]+)\{([^}]*)\}", expression):
        labels = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector)
        assert set(labels) <= known[name], where
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|infinity_[a-z0-9_]+', " ", expression)
    assert bare.count("(") == bare.count(")"), where
    words = set(re.findall(r"[a-z]{2,}[a-z_]*", re.sub(r"\d+e\d+", " ", bare)))
    assert words <= FUNCTIONS | {label for labels in known.values() for label in labels}, where


def test_legends_and_summaries_name_labels_that_are_there() -> None:
    known = exported()
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            labels = set().union(*(known[name] for name in NAME.findall(target["expr"])))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, panel["title"]
    for rule in rules():
        labels = set().union(*(known[name] for name in NAME.findall(rule["expr"])))
        text = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, rule["alert"]


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_panels_have_places_that_do_not_overlap_and_a_data_source() -> None:
    taken: dict[tuple[int, int], int] = {}
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["id"]) == panel["id"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_prometheus_scrapes_the_exporter_and_loads_the_alerts() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    assert all((FOLDER / name).exists() for name in config["rule_files"])
    assert {job["job_name"] for job in config["scrape_configs"]} == {"infinity", "infinity-serve", "ray"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: apt-get install prometheus)")
def test_prometheus_itself_reads_the_files_and_every_expression(tmp_path: Path) -> None:
    panels = [
        {"record": f"panel:{number}", "expr": expression.replace("$run", ".*")}
        for number, (where, expression) in enumerate(expressions())
        if where.startswith("panel")
    ]
    assert len(panels) >= 18
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    for what, file in [
        ("config", FOLDER / "prometheus.yaml"), ("rules", FOLDER / "alerts.yaml"), ("rules", tmp_path / "panels.yaml"),
    ]:  # fmt: skip
        command = ["promtool", "check", what, str(file)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=AGES_S, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_documentation_names_every_metric() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    assert {name for name in METRICS if f"`{name}`" not in text} == set()
    assert Path(FOLDER / "dashboard.json").stat().st_size < 100_000
