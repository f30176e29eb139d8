from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from infra import ray_ports
from infra.ray_ports import FIRST, OPTIONS, free_ports, port_options


def test_each_service_of_a_node_gets_a_port_of_its_own() -> None:
    options = port_options(free_ports())
    assert [option.partition("=")[0] for option in options] == list(OPTIONS)
    assert len({option.partition("=")[2] for option in options}) == len(OPTIONS)


def test_ray_knows_every_option() -> None:
    from ray.scripts.scripts import start

    assert set(OPTIONS) <= {name for parameter in start.params for name in parameter.opts}


def test_a_port_that_somebody_listens_on_is_left_out() -> None:
    with socket.socket() as taken:
        port = free_ports()[2]
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert port not in free_ports()


def test_no_port_is_one_that_the_kernel_gives_to_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = tmp_path / "range"
    monkeypatch.setattr(ray_ports, "_KERNEL_RANGE", ranges)
    ranges.write_text(f"{FIRST + 10_500}\t60999\n")
    assert max(free_ports(FIRST + 10_000)) < FIRST + 10_500
    with pytest.raises(OSError, match=r"from 30496 to 30499 only \d are free"):
        free_ports(FIRST + 10_496)


@pytest.mark.parametrize("text", ["", "words", "1024 65535"])
def test_an_odd_range_of_the_kernel_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    ranges = tmp_path / "range"
    monkeypatch.setattr(ray_ports, "_KERNEL_RANGE", ranges)
    ranges.write_text(text)
    assert max(free_ports()) < 32_768


@pytest.mark.parametrize("ports", [[], [1] * 6, [1, 2, 3, 4, 5], list(range(1, 8))])
def test_too_few_ports_or_one_twice_are_refused(ports: list[int]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected 6 different ones, got {ports}")):
        port_options(ports)
