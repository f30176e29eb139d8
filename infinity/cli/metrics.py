"""``infinity metrics``: figures for Prometheus, as a file or at an address."""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import clear_errors, err, out
from infinity.cli.upkeep import CpuHour, GpuHour, PrefectUrl, Registry, Root, State, check_amounts

if TYPE_CHECKING:
    from collections.abc import Callable

FRESH_S = 15.0
"""Seconds for which one reading of the runs is served again; a bucket charges for every listing."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(
    root: Root = "runs",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, for a collector of text files.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve them at this port until stopped.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    registry: Registry = None,
    prefect_url: PrefectUrl = None,
    state: State = Path(".local"),
    cpu_hour: CpuHour = 0.0,
    gpu_hour: GpuHour = 0.0,
) -> None:
    """Print figures of all runs, champions and flow runs for Prometheus; write them with -o, or serve with --port."""
    with clear_errors():
        from infinity import storage

        check_amounts({"cpu_hour": cpu_hour, "gpu_hour": gpu_hour})

        def text() -> bytes:
            return _text(root, registry, prefect_url, state, (cpu_hour, gpu_hour))

        if output is not None:
            storage.write_bytes(str(output), text())
        elif port is None:
            out.file.write(text().decode())
        else:
            server = metrics_server(text, host, port)
            err.print(f"serving http://{host}:{server.server_port}/metrics until stopped", highlight=False)
            with server:
                server.serve_forever()


def _text(root: str, registry: str | None, prefect_url: str | None, state: Path, prices: tuple[float, float]) -> bytes:
    from infinity import storage
    from infinity.cli.upkeep import local_prefect
    from infinity.evaluation.promotion.champions import Champions
    from infinity.jobs.upkeep.fleet import fleet
    from infinity.jobs.upkeep.inventory import take_inventory
    from infinity.jobs.upkeep.prefect_names import PrefectUnknownError, flow_run_counts
    from infinity.jobs.upkeep.prometheus import fleet_metrics

    inventory = take_inventory(root)
    known = Champions(storage.absolute(registry or storage.join(inventory.root, "registry")))
    champions = [champion for family in known.families() if (champion := known.champion(family)) is not None]
    flow_runs = None
    try:
        address = local_prefect(prefect_url, state)
        flow_runs = None if address is None else flow_run_counts(address)
        asks = address is not None
    except PrefectUnknownError:
        asks = True
    return fleet_metrics(
        fleet(inventory), champions, flow_runs, root=inventory.root, cpu_hour=prices[0], gpu_hour=prices[1],
        asks_prefect=asks,
    )  # fmt: skip


def metrics_server(text: Callable[[], bytes], host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of one page, ``/metrics``, that is not started.

    Args:
        text: Function that returns the page; an error of it is answered with status 503 and its sentence.
        host: Address to listen at.
        port: Port; 0 takes a free one.
    """
    lock, newest = threading.Lock(), [(-FRESH_S, b"")]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                return self._answer(404, b"the page is /metrics\n")
            try:
                with lock:
                    if time.monotonic() - newest[0][0] >= FRESH_S:
                        newest[0] = (time.monotonic(), text())
                    found = newest[0][1]
            except (ValueError, OSError) as error:
                return self._answer(503, f"{error}\n".encode())
            return self._answer(200, found)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the log free of a line per scrape."""

    return _Server((host, port), Handler)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a scraper that was tired of waiting is no error
            super().handle_error(request, client_address)
