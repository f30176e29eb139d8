"""Work outlives the Prefect server: what has to be said waits for it."""

import logging
import threading

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations import outage as server_module
from flows.operations.outage import await_server, until_shown
from infra.environment import free_port
from infra.settings import settings
from tests.fixtures.faults.relay import Relay
from tests.fixtures.limits import wait_until

pytestmark = pytest.mark.prefect


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LONGEST_PAUSE_S", 0.2)


def test_a_server_that_answers_is_not_waited_for(prefect_server: str) -> None:
    assert await_server()


def test_a_server_that_is_away_is_waited_for_until_it_is_back(
    prefect_server: str, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    with Relay(prefect_server.removesuffix("/api")) as relay:
        relay.close()

        def open_when_it_was_missed() -> None:
            wait_until(lambda: "does not answer" in caplog.text, "a word about the server")
            relay.open()

        opening = threading.Thread(target=open_when_it_was_missed)
        opening.start()
        with temporary_settings(updates={PREFECT_API_URL: f"{relay.url}/api"}):
            assert await_server()
        opening.join()
    assert caplog.text.count("the Prefect server does not answer") == 1


def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch, quick: None, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("INFINITY_SERVER_PATIENCE_S", "0.5")
    settings.cache_clear()
    with temporary_settings(updates={PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert not await_server()
    assert "what was made is kept" in caplog.text


def test_a_page_that_cannot_be_shown_is_shown_later_and_once(
    prefect_server: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown_after([httpx.ConnectError("refused"), httpx.ReadTimeout("silent")]) == ["a page"]


def shown_after(trouble: list[Exception]) -> list[str]:
    """What a page has shown that met these errors first, the last one at first."""
    shown: list[str] = []

    @until_shown
    def show(text: str) -> None:
        if trouble:
            raise trouble.pop()
        shown.append(text)

    show("a page")
    return shown


def refusal(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1/api/artifacts/")
    return httpx.HTTPStatusError(f"refused: {code}", request=request, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("refused"), refusal(413), refusal(500), refusal(503)], ids=lambda error: str(error)
)
def test_a_page_ends_no_run_where_the_server_stays_away_or_does_not_take_it(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    monkeypatch.setattr(server_module, "await_server", lambda: False)

    @until_shown
    def show() -> None:
        raise trouble

    with caplog.at_level(logging.ERROR):
        show()
    assert "show was not shown: refused" in caplog.text


def test_a_page_that_a_busy_database_did_not_take_is_shown_at_the_next_try(quick: None) -> None:
    assert shown_after([refusal(503), refusal(500)]) == ["a page"]
