"""Pretrained networks that a worker holds: each is loaded once, however many models and benchmarks use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from infinity.config import Config

C = TypeVar("C", bound=Config)
N = TypeVar("N")


class Networks:
    """Loads what a configuration names when it is first asked for.

    Attributes:
        device: Where the networks run.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._loaded: dict[tuple[str, str], Any] = {}

    def get(self, config: C, load: Callable[[C, str], N]) -> N:
        """The network of this configuration.

        Args:
            config: Names the weights.
            load: Makes the network from the configuration and the device, the first time.
        """
        name = type(config).__name__, config.digest()
        if name not in self._loaded:
            self._loaded[name] = load(config, self.device)
        loaded: N = self._loaded[name]
        return loaded
