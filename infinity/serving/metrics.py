"""Counters of the server in Prometheus' text format; no label holds anything of a prompt."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Metrics of one server process."""

    def __init__(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        """Start at zero.

        Args:
            waiting: Function that returns the number of waiting pictures.
            running: Function that returns the number of pictures in computation.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "infinity_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self.pictures = Counter("infinity_pictures", "Pictures drawn.", registry=self._registry)
        self.seconds = Histogram(
            "infinity_request_seconds",
            "Seconds from a request to its answer.",
            ["path"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=self._registry,
        )
        self.batches = Histogram(
            "infinity_batch_pictures", "Pictures per batch.", buckets=(1, 2, 4, 8, 16, 32), registry=self._registry
        )
        for name, function in (("waiting", waiting), ("running", running)):
            gauge = Gauge(f"infinity_{name}_pictures", f"Pictures {name}.", registry=self._registry)
            gauge.set_function(function)

    def drawn(self, count: int, seconds: float) -> None:
        """Count a batch."""
        self.pictures.inc(count)
        self.batches.observe(count)

    def text(self) -> bytes:
        """Return all metrics as text."""
        found: bytes = generate_latest(self._registry)
        return found
