"""What a person sees: the run with its artifacts, the form of a deployment, the report; none asks the outside."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.end_to_end import end_to_end
from flows.forms.parameters import PretrainForm
from tests.browser.screenshots import Browser, open_browser, why_no_browser
from tests.flows.conftest import MiniRun

pytestmark = [
    pytest.mark.browser,
    pytest.mark.prefect,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(why_no_browser() is not None, reason=why_no_browser() or ""),
]

HERE = {"127.0.0.1", "localhost"}
SETTLE_S = 1.0
"""A page that shows what it should gets this long to ask somebody whom it should not."""


@pytest.fixture(scope="module")
def browser(prefect_server: str) -> Iterator[Browser]:
    with open_browser() as opened:
        opened.log_in(prefect_server.removesuffix("/api"), os.environ["PREFECT_API_AUTH_STRING"])
        yield opened


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: a new folder, or INFINITY_SCREENSHOTS to look at them afterwards."""
    return Path(os.environ.get("INFINITY_SCREENSHOTS", tmp_path))


def test_the_run_page_names_every_stage_and_shows_its_artifacts(
    browser: Browser, mini_run: MiniRun, prefect_server: str, pictures: Path
) -> None:
    url = f"{prefect_server.removesuffix('/api')}/runs/flow-run/{mini_run.flow_run}"
    browser.open(url, until=("mini: end to end", "Completed"), settle_s=SETTLE_S)
    browser.shoot(pictures / "run.png")
    keys = ("dataset-numbers", "pretrain-pictures", "evaluation-numbers", "report")
    browser.open(url, click="Artifacts", until=keys, settle_s=SETTLE_S)
    browser.shoot(pictures / "run-artifacts.png")
    assert browser.asked_hosts() <= HERE


def test_the_form_of_the_deployment_has_a_described_box_for_every_parameter(
    browser: Browser, prefect_server: str, pictures: Path
) -> None:
    deployment = end_to_end.to_deployment(name="form").apply()
    description = PretrainForm.model_fields["learning_rate"].description
    assert description is not None
    url = f"{prefect_server.removesuffix('/api')}/deployments/deployment/{deployment}/run"
    browser.open(url, until=("recipe", "Captioned pictures", description), settle_s=SETTLE_S)
    browser.shoot(pictures / "form.png")
    assert browser.asked_hosts() <= HERE


def test_the_report_is_whole_without_a_network(browser: Browser, mini_run: MiniRun, pictures: Path) -> None:
    browser.asked_hosts()
    browser.errors()
    browser.open((mini_run.folder / "report.html").as_uri(), until=("mini",), settle_s=SETTLE_S)
    assert browser.errors() == []
    assert browser.asked_hosts() == set()
    browser.shoot(pictures / "report.png")
