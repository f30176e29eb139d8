"""Workers on several machines find each other at the addresses of their nodes, wherever a machine's name leads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infinity.jobs.training.addresses import VARIABLE, interface_of, listen_at
from tests.fixtures.faults.killing import REPOSITORY
from tests.fixtures.limits import AGES_S
from tests.fixtures.operations.many_nodes import network, why_no_namespaces

MEET = """
import sys, torch
from infinity.jobs.training.addresses import listen_at
rank, own, first = int(sys.argv[1]), sys.argv[2], sys.argv[3]
listen_at(own)
torch.distributed.init_process_group("gloo", init_method=f"tcp://{first}:29500", rank=rank, world_size=2)
total = torch.tensor([rank + 1.0])
torch.distributed.all_reduce(total)
assert total.item() == 3.0
torch.distributed.barrier()
torch.distributed.destroy_process_group()  # gloo's threads abort a process that ends around them
"""


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the addresses of interfaces")
def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"


@pytest.mark.parametrize("address", ["192.0.2.77", "::1", "", "no address"])
def test_an_address_of_another_machine_has_no_interface_and_changes_nothing(address: str) -> None:
    assert interface_of(address) is None
    listen_at(address)
    assert VARIABLE not in os.environ


def test_an_interface_that_the_user_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "eth7")
    listen_at("127.0.0.1")
    assert os.environ[VARIABLE] == "eth7"


@pytest.mark.slow
def test_workers_of_two_machines_whose_names_lead_to_loopback_meet() -> None:
    if (reason := why_no_namespaces()) is not None:
        pytest.skip(reason)
    with network(2) as (_, nodes):
        here = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        started = []
        for rank, node in enumerate(nodes):
            command = ["ip", "netns", "exec", node.name, sys.executable, "-c", MEET]
            command += [str(rank), node.address, nodes[0].address]
            started.append(subprocess.Popen(command, cwd=REPOSITORY, env=here))
        assert [process.wait(timeout=AGES_S) for process in started] == [0, 0]
