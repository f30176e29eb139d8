"""A scraper that leaves before it has the figures is no error of the server."""

from __future__ import annotations

import pytest

from infinity.cli.metrics import metrics_server
from tests.fixtures.servers.leaving_client import error_of_a_client_that_leaves

LONG = b"infinity_run_bytes 1\n" * 2_000_000


def test_a_scraper_that_leaves_makes_no_trace(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server = metrics_server(lambda: LONG, "127.0.0.1", 0)
    assert error_of_a_client_that_leaves(server, "/metrics", monkeypatch, capfd) == ""


def test_a_fault_of_ours_keeps_its_trace(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    server = metrics_server(lambda: LONG, "127.0.0.1", 0)
    monkeypatch.setattr(server.RequestHandlerClass, "_answer", lambda self, *_: self.wfile.write(b"HTTP") / 0)
    assert "Traceback" in error_of_a_client_that_leaves(server, "/metrics", monkeypatch, capfd)
