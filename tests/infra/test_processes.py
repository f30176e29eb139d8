"""Processes are recorded, recognised and stopped, and no other process is."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra import processes
from infra.processes import Register, Service
from tests.fixtures.limits import wait_until

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(3600)"]


def _start(folder: Path, command: list[str] = SLEEP) -> Service:
    return processes.start("sleeper", command, environment={}, log=folder / "sleeper.log", cwd=folder)


def test_a_started_process_lives_until_it_is_stopped(tmp_path: Path) -> None:
    service = _start(tmp_path)
    assert service.is_alive()
    assert processes.stop(service)
    assert not service.is_alive()
    assert not processes.stop(service)


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    script = "import subprocess; p = subprocess.Popen(['sleep', '3600']); print(p.pid, flush=True); p.wait()"
    service = _start(tmp_path, [sys.executable, "-c", script])
    child = int(wait_until((tmp_path / "sleeper.log").read_text, "the number of the child"))
    processes.stop(service)
    wait_until(lambda: processes.birth(child) is None, "the end of the child")


def test_a_process_that_ignores_the_polite_signal_is_ended_all_the_same(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(3600)"
    )
    service = _start(tmp_path, [sys.executable, "-c", script])
    wait_until(lambda: "on" in (tmp_path / "sleeper.log").read_text(), "its word that it ignores the signal")
    processes.stop(service, patience_s=0.5)
    assert not service.is_alive()


def test_another_process_with_the_same_id_is_not_ours(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        service = Service(name="old", pid=stranger.pid, birth="of another process", url="", log="")
        assert not service.is_alive()
        assert not processes.stop(service)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_register_remembers_across_processes_and_forgets_the_dead(tmp_path: Path) -> None:
    service = Service(name="server", pid=1, birth="never", url="http://127.0.0.1:1/api", log="x.log")
    Register(tmp_path / "services.json").add(service)
    register = Register(tmp_path / "services.json")
    assert register.services() == {"server": service}
    assert register.living("server") is None
    register.add(replace(service, pid=2))
    assert register.services()["server"].pid == 2
    register.remove("server")
    assert register.services() == {}


def test_the_register_forgets_nothing_of_commands_that_change_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "services.json"

    def add(number: int) -> None:
        Register(path).add(Service(name=f"worker-{number}", pid=1, birth="never", url="", log=""))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert len(Register(path).services()) == 40


def test_a_broken_register_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text("{")
    with pytest.raises(ValueError, match="no record of services"):
        Register(tmp_path / "services.json").services()


def test_the_logs_of_earlier_processes_are_kept(tmp_path: Path) -> None:
    for number in range(1, 9):
        service = _start(tmp_path, [sys.executable, "-c", f"print('number {number}', flush=True)"])
        wait_until(lambda: not service.is_alive(), "its end")  # noqa: B023 - called at once
        wait_until((tmp_path / "sleeper.log").read_text, "its word")
    kept = {path.name: path.read_text().strip() for path in tmp_path.iterdir()}
    assert kept == {"sleeper.log": "number 8"} | {f"sleeper.log.{k}": f"number {8 - k}" for k in range(1, 6)}
