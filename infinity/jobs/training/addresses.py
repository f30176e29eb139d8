"""The address at which the workers of a training find each other: that of their node, as Ray knows it.

Gloo listens where the machine's own name leads. On Debian and Ubuntu that is loopback, which the workers of other
machines do not reach.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

VARIABLE = "GLOO_SOCKET_IFNAME"
_ASK_ADDRESS = 0x8915
"""Linux's request for the IPv4 address of an interface (SIOCGIFADDR)."""


def interface_of(address: str) -> str | None:
    """Return the network interface of this machine that has an IPv4 address; None where none is known to have it."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asker.fileno(), _ASK_ADDRESS, struct.pack("256s", name.encode()[:15]))
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def listen_at(address: str) -> None:
    """Let Gloo in this process listen at an address, unless the user has named an interface."""
    if VARIABLE not in os.environ and (name := interface_of(address)) is not None:
        os.environ[VARIABLE] = name


def _listen_at_node() -> None:
    import ray

    listen_at(ray.util.get_node_ip_address())


def torch_config(backend: str) -> Any:
    """Return Ray Train's settings of a process group whose workers listen at the addresses of their nodes."""
    from ray.train.torch import TorchConfig
    from ray.train.torch.config import _TorchBackend

    class Reachable(_TorchBackend):  # type: ignore[misc]  # Ray has no types
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(_listen_at_node)
            super().on_start(worker_group, backend_config)

    @dataclass
    class ReachableConfig(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> Any:
            return Reachable

    return ReachableConfig(backend=backend)
