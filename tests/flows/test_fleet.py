"""The flow publishes where all runs stand, and runs side by side; the exporter answers over HTTP."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from flows.fleet import fleet
from infinity import storage
from infinity.cli import app
from infinity.cli.metrics import metrics_server
from infinity.recipes.runs import end_to_end
from infra.settings import settings
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask


def begun(root: Path, name: str, seed: int) -> None:
    """Begin a run with nothing but its plan."""
    plan = end_to_end("mini", source=None, output=str(root / name))
    plan = plan.replace(tokenizer=plan.tokenizer.replace(seed=seed))
    storage.write_text(str(root / name / "run.json"), json.dumps(plan.to_json()))


@pytest.mark.prefect
def test_the_pages_are_artifacts(tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("INFINITY_STATE", str(tmp_path / "state"))
    settings.cache_clear()
    for seed, name in enumerate(("one<b>", "two")):
        begun(tmp_path / "runs", name, seed)
    try:
        assert fleet() == 2
        begun(tmp_path / "elsewhere", "three", 3)
        begun(tmp_path / "runs" / "team", "four", 4)
        fleet(compare=(str(tmp_path / "elsewhere" / "three"), "team/four"))  # as the page names them
        other = ask(prefect_server, "artifacts/comparison/latest", method="GET")["data"]
        assert "# three and four" in other
        assert "tokenizer.seed" in other
        refused = fleet(compare=("two",), return_state=True)
        assert "expected 2 to 8 runs to compare, got 1" in str(refused.message)
        shutil.rmtree(tmp_path / "runs" / "team")
        assert fleet() == 2
        found = {key: ask(prefect_server, f"artifacts/{key}/latest", method="GET") for key in ("fleet", "comparison")}
    finally:
        settings.cache_clear()
    assert "waiting: dataset" in found["fleet"]["data"]
    assert "one\\<b\\>" in found["fleet"]["data"]
    assert "tokenizer.seed" in found["comparison"]["data"]
    assert len(found["fleet"]["data"]) < 20_000


@pytest.mark.parametrize(("trouble", "status", "body"), [("", 200, "up 1.0\n"), ("no bucket", 503, "no bucket\n")])
def test_the_exporter_answers_or_says_why_it_cannot(trouble: str, status: int, body: str) -> None:
    def text() -> bytes:
        if trouble:
            raise OSError(trouble)
        return b"up 1.0\n"

    server = metrics_server(text, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        with httpx.Client(trust_env=False, timeout=AGES_S) as client:
            answer = client.get(f"{base}/metrics")
            assert (answer.status_code, answer.text) == (status, body)
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert client.get(f"{base}/").status_code == 404
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_command_writes_the_figures_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    begun(tmp_path / "runs", "demo", 0)
    words = ["metrics", str(tmp_path / "runs"), "--state", str(tmp_path / "state"), "-o", str(tmp_path / "m.prom")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "m.prom").read_text()
    assert 'infinity_stage_state{run="demo",stage="dataset",state="waiting"} 1.0' in text
    assert "infinity_prefect_up" not in text
    shown = CliRunner().invoke(app, words[:4])
    assert 'run="demo"' in shown.stdout
