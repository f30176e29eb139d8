"""The local stack: a Prefect server, a worker with its deployments, and if wanted a Ray.

python -m infra.stack up [--ray]     start what does not run yet, and wait until it answers
python -m infra.stack status         what runs, and where its log is
python -m infra.stack down           stop what `up` started, and nothing else
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra import processes
from infra.environment import common_environment, free_port, is_free_port
from infra.processes import Register, Service
from infra.records import records
from infra.settings import REPOSITORY, Settings, settings

DEFAULT_PORT = 4200
START_TIMEOUT_S = 180.0
"""A server with a new database needs 16 s on an idle machine of two cores, and far longer on a busy one."""
ANSWER_TIMEOUT_S = 30.0
"""A busy machine answers late; where nobody listens, it says so at once."""


FLOW_PATIENCE_S = 60.0
"""A training stores its state before it ends."""

CONNECT_TIMEOUT_S = 5.0
"""A machine that does not take up a connection by then is away."""


class StackError(RuntimeError):
    """A part of the stack does not run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server that answers."""

    api_url: str

    @property
    def ui_url(self) -> str:
        """Where a browser finds its pages."""
        return self.api_url.removesuffix("/api")


class Stack:
    """The services of one state folder."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.register = Register(config.state / "stack" / "services.json")

    def server_up(self, *, timeout_s: float = START_TIMEOUT_S) -> Server:
        """The server that PREFECT_API_URL names, or the local one, started if need be.

        Raises:
            StackError: It does not answer in time, it died, or its port belongs to somebody else.
        """
        if self.config.prefect_api_url is not None:
            server = Server(self.config.prefect_api_url)
            if not _is_healthy(server.api_url):
                raise StackError(
                    f"nobody answers at PREFECT_API_URL={server.api_url}; start that server, "
                    "or unset the variable to use a local one"
                )
            return server
        service = self.register.living("server")
        if service is None:
            service = self._start_server(self._choose_port())
        self._wait(service, lambda: _is_healthy(service.url), timeout_s)
        return Server(service.url)

    def files_up(self, *, timeout_s: float = START_TIMEOUT_S) -> str | None:
        """A file server on loopback for the root of runs, so that links open; None for runs in a bucket."""
        if "://" in self.config.runs:
            return None
        service = self.register.living("files")
        if service is None:
            folder, port = Path(self.config.runs).resolve(), free_port()
            folder.mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                "-m",
                "http.server",
                str(port),
                "--bind",
                "127.0.0.1",
                "--directory",
                str(folder),
            ]
            service = self._start("files", command, self._environment(None), url=f"http://127.0.0.1:{port}")
        self._wait(service, lambda: _answers(service.url), timeout_s)
        return service.url

    def worker_up(self, server: Server, *, timeout_s: float = START_TIMEOUT_S) -> Service:
        """A process worker for the pool, after every flow of prefect.yaml has been deployed to it."""
        pool = self.config.work_pool
        self._prefect(server, "work-pool", "create", pool, "--type", "process", "--overwrite")
        for said in self._make_ready(server, pool):
            print(said, flush=True)
        self._prefect(server, "--no-prompt", "deploy", "--all", "--prefect-file", str(REPOSITORY / "prefect.yaml"))
        service = self.register.living("worker")
        if service is None:
            command = _prefect_command("worker", "start", "--pool", pool, "--name", "local", "--type", "process")
            service = self._start("worker", command, self._environment(server))
        self._wait(service, lambda: _has_worker(server.api_url, pool), timeout_s)
        return service

    def ray_up(self, *, timeout_s: float = START_TIMEOUT_S) -> Service:
        """A Ray of this machine that stays between runs; the worker started after it uses it."""
        service = self.register.living("ray")
        if service is None:
            port = free_port()
            command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
            command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
            command += ["--disable-usage-stats"]
            if self.config.ray_num_cpus is not None:
                command.append(f"--num-cpus={self.config.ray_num_cpus}")
            service = self._start("ray", command, self._environment(None), url=f"127.0.0.1:{port}")
        self._wait(service, lambda: "Ray runtime started" in Path(service.log).read_text("utf-8"), timeout_s)
        return service

    def down(self) -> list[str]:
        """Stop every recorded service, the youngest first; the names of those that still ran."""
        if (worker := self.register.living("worker")) is not None:
            # At its end it kills the flows that it has started, and until then it starts the next one that waits.
            os.killpg(worker.pid, signal.SIGSTOP)
        self._end_flows()
        if worker is not None:
            os.killpg(worker.pid, signal.SIGTERM)
            os.killpg(worker.pid, signal.SIGCONT)
        return [name for name in ("worker", "ray", "files", "server") if self.stop(name)]

    def _end_flows(self) -> None:
        """Ask the flows that the worker has started to store what they have done and end, as a cancel does."""
        left = [record for record in records(self.config.state) if record.is_of_a_worker]
        for sign, patience_s in ((signal.SIGTERM, FLOW_PATIENCE_S), (signal.SIGKILL, 5.0)):
            for record in left:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(record.pid, sign)
            deadline = time.monotonic() + patience_s
            while (left := [record for record in left if record.is_alive]) and time.monotonic() < deadline:
                time.sleep(0.2)

    def stop(self, name: str) -> bool:
        """Stop and forget a service, if it is recorded; whether it still ran."""
        service = self.register.services().get(name)
        if service is None:
            return False
        still_ran = processes.stop(service)
        self.register.remove(name)
        return still_ran

    def client_environment(self, server: Server) -> dict[str, str]:
        """What a process needs in its environment to talk to this stack."""
        environment = {"PREFECT_API_URL": server.api_url, "PREFECT_HOME": str(self._prefect_home)}
        if (files := self.register.living("files")) is not None:
            environment["INFINITY_FILES_URL"] = files.url
        return environment

    @property
    def _prefect_home(self) -> Path:
        return self.config.state.resolve() / "prefect"

    def _environment(self, server: Server | None) -> dict[str, str]:
        environment = {**common_environment(), **os.environ, "PREFECT_HOME": str(self._prefect_home)}
        environment.pop("PREFECT_API_URL", None)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        environment["PYTHONUNBUFFERED"] = "1"
        environment["INFINITY_STATE"] = str(self.config.state.resolve())  # where flows put down what they do
        if server is not None:
            environment |= self.client_environment(server)
        if (ray := self.register.living("ray")) is not None:
            environment["RAY_ADDRESS"] = ray.url
        if self.config.ray_address is None:  # a cluster on loopback needs no token
            environment.setdefault("RAY_AUTH_MODE", "disabled")
        return environment

    def _choose_port(self) -> int:
        wanted = self.config.prefect_port
        if wanted is not None and not is_free_port(wanted):
            raise StackError(
                f"port {wanted} (INFINITY_PREFECT_PORT) is taken by another program; choose another port, "
                f"or set PREFECT_API_URL=http://127.0.0.1:{wanted}/api if that program is a Prefect server to use"
            )
        if wanted is not None:
            return wanted
        return DEFAULT_PORT if is_free_port(DEFAULT_PORT) else free_port()

    def _start_server(self, port: int) -> Service:
        url = f"http://127.0.0.1:{port}/api"
        environment = self._environment(None)
        # The page in the browser asks this address; without it a proxy setting of the user would be asked instead.
        environment["PREFECT_UI_API_URL"] = url
        command = _prefect_command("server", "start", "--host", "127.0.0.1", "--port", str(port))
        return self._start("server", command, environment, url=url)

    def _start(self, name: str, command: Sequence[str], environment: dict[str, str], url: str = "") -> Service:
        log = self.config.state.resolve() / "stack" / f"{name}.log"
        service = processes.start(name, command, environment=environment, log=log, url=url, cwd=REPOSITORY)
        self.register.add(service)
        return service

    def _wait(self, service: Service, is_ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not service.is_alive():
                self.register.remove(service.name)
                raise StackError(f"{service.name} died while starting; the end of {service.log}:\n{service.log_tail()}")
            if is_ready():
                return
            time.sleep(0.3)
        raise StackError(
            f"{service.name} (process {service.pid}) is not ready after {timeout_s:.0f} s; "
            f"the end of {service.log}:\n{service.log_tail()}"
        )

    def _make_ready(self, server: Server, pool: str) -> list[str]:
        """Queues of the pool, and an end for runs that a crash, a reboot or `down` has left behind; what was said."""
        alone = self.config.prefect_api_url is None and self.register.living("worker") is None
        command = [sys.executable, "-m", "flows.pool", pool, *(["--reap"] if alone else [])]
        return self._told(server, command).splitlines()

    def _prefect(self, server: Server, *arguments: str) -> None:
        self._told(server, _prefect_command(*arguments))

    def _told(self, server: Server, command: Sequence[str]) -> str:
        result = subprocess.run(
            command,
            env=self._environment(server),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            said = (result.stdout + result.stderr).strip()[-2000:]
            raise StackError(f"'{' '.join(command[2:])}' failed with code {result.returncode}:\n{said}")
        return result.stdout


def _prefect_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


def _is_healthy(api_url: str) -> bool:
    answer = _asked("GET", f"{api_url}/health")
    return answer is not None and answer.status_code == 200


def _answers(url: str) -> bool:
    answer = _asked("GET", url)
    return answer is not None and answer.status_code < 500


def _has_worker(api_url: str, pool: str) -> bool:
    answer = _asked("POST", f"{api_url}/work_pools/{pool}/workers/filter", json={})
    if answer is None or answer.status_code != 200:
        return False
    return any(worker.get("status") == "ONLINE" for worker in answer.json())


def _asked(method: str, url: str, **content: Any) -> httpx.Response | None:
    """The answer, or None if there is none."""
    try:
        return httpx.request(
            method,
            url,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=not _is_local(url),
            **content,
        )
    except httpx.HTTPError:
        return None


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def _up(stack: Stack, with_ray: bool) -> None:
    server = stack.server_up()
    print(f"Prefect server: {server.ui_url}", flush=True)
    if with_ray:
        print(f"Ray:            {stack.ray_up().url}", flush=True)
    if (files := stack.files_up()) is not None:
        print(f"files:          {files}", flush=True)
    stack.worker_up(server)
    print(f"worker:         serves the pool '{stack.config.work_pool}'; every flow of prefect.yaml is deployed")
    print("Stop all of it with: make down")


def _status(stack: Stack) -> None:
    services = stack.register.services()
    if not services:
        print("nothing runs; start it with: make up")
    for service in services.values():
        state = "runs" if service.is_alive() else "died"
        print(f"{service.name:8} {state}  process {service.pid}  {service.url or '-'}  log {service.log}")


def _env(stack: Stack) -> None:
    server = stack.register.living("server")
    if server is None:
        raise StackError("no server of this stack runs; start it with: make up")
    for name, value in stack.client_environment(Server(server.url)).items():
        print(f"export {name}={shlex.quote(value)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when all went well."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["up", "down", "status", "env"])
    parser.add_argument("--ray", action="store_true", help="up: keep a Ray running between runs")
    options = parser.parse_args(arguments)
    try:
        stack = Stack(settings())
        if options.action == "up":
            _up(stack, options.ray)
        elif options.action == "down":
            print(f"stopped: {', '.join(stack.down()) or 'nothing ran'}")
        elif options.action == "env":
            _env(stack)
        else:
            _status(stack)
    except (StackError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
