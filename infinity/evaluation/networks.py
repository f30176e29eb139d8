"""Pretrained networks of a worker: each is loaded once, for any number of models and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from infinity.config import Config

C = TypeVar("C", bound=Config)
N = TypeVar("N")


class Networks:
    """Networks by their configuration, each loaded when it is first needed."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._loaded: dict[tuple[str, str], Any] = {}

    def get(self, config: C, load: Callable[[C, str], N]) -> N:
        """Return the network of a configuration.

        Args:
            config: Configuration that names the weights.
            load: Function that makes the network from the configuration and the device; called the first time only.
        """
        name = type(config).__name__, config.digest()
        if name not in self._loaded:
            self._loaded[name] = load(config, self.device)
        loaded: N = self._loaded[name]
        return loaded
