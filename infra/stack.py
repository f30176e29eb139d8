"""The local stack: a Prefect server, a worker with its deployments, and if wanted a Ray.

python -m infra.stack up [--ray] [--workers N]     start what does not run yet, and wait until it answers
python -m infra.stack deploy         deploy every flow of prefect.yaml to the server that PREFECT_API_URL names
python -m infra.stack status         what runs, and where its log is
python -m infra.stack down           stop what `up` started, and nothing else
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra import processes
from infra.database import OTHER_NAMES, VARIABLE, database
from infra.ending import end_flows, halted
from infra.environment import common_environment, free_port, is_free_port
from infra.files import is_served
from infra.processes import Register, Service
from infra.ray_ports import free_ports, port_options
from infra.server import access, keys
from infra.server.access import StackError
from infra.server.deploying import deploy, make_pool
from infra.server.login import login_file
from infra.server.prefect_api import PrefectApi
from infra.settings import REPOSITORY, Settings

DEFAULT_PORT = 4200
STOP_ORDER = ("worker", "ray", "files", "server")
FURTHER_WORKER = "worker-"
"""How the names of workers begin that `up --workers` starts besides the first."""
START_TIMEOUT_S = 180.0
BUSY, BUSY_ATTEMPTS, BUSY_PAUSE_S = "503 Service Unavailable", 4, 5.0
"""What Prefect's server answers while its database is locked for long, and how often a deploy is tried then."""
"""A server with a new database needs 16 s on an idle machine of two cores, and far longer on a busy one."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server that answers."""

    api_url: str

    @property
    def ui_url(self) -> str:
        """Address of the server's pages for a browser."""
        return self.api_url.removesuffix("/api")


class Stack:
    """The services of one state folder."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.register = Register(config.state / "stack" / "services.json")

    def server_up(self, *, timeout_s: float = START_TIMEOUT_S) -> Server:
        """Return the server that PREFECT_API_URL names, or the local one, started if need be.

        Raises:
            StackError: The server does not answer in time, it died, its port belongs to somebody else, or it asks for
                an authentication string that is not known here.
        """
        if self.config.prefect_api_url is not None:
            server = Server(self.config.prefect_api_url)
            if not self.api(server).is_healthy():
                raise StackError(
                    f"nobody answers at PREFECT_API_URL={server.api_url}; start that server, "
                    "or unset the variable to use a local one"
                )
            access.check_login(self.config, self.api(server), is_own=False)
            return server
        auth = self.auth()
        self._replace_open_services()
        with self.register.alone():
            service = self.register.living("server") or self._start_server(self._choose_port(), auth)
        server = Server(service.url)
        self._wait(service, self.api(server).is_healthy, timeout_s)
        access.check_login(self.config, self.api(server), is_own=True)
        self.login_page(server)
        return server

    def api(self, server: Server) -> PrefectApi:
        """Return the API of a server, asked as its clients ask it."""
        key = self.config.prefect_api_key
        return PrefectApi(server.api_url, self.auth(), None if key is None else key.get_secret_value())

    def auth(self) -> str | None:
        """Return the ``name:password`` that the server asks for; None for a server elsewhere that asks for nothing.

        Raises:
            StackError: The settings of server and clients do not agree.
        """
        return access.auth_string(self.config)

    def exports(self, server: Server) -> list[str]:
        """Return lines for a shell that set what `client_environment` holds, without a secret in them."""
        return access.exports(self.config, self.client_environment(server))

    def login_page(self, server: Server, path: str = "/") -> Path | None:
        """Return the file that logs a browser in and opens a page; None for a server that runs elsewhere."""
        auth = self.auth()
        if auth is None or not self._is_own(server):
            return None
        return login_file(self.config.state, server.ui_url, auth, path)

    def files_up(self, *, timeout_s: float = START_TIMEOUT_S) -> str | None:
        """Start a file server on loopback for the root of runs, so that links open; None for runs in a bucket.

        It has the same port at every start, since links in run pages point there.

        Raises:
            StackError: The port belongs to somebody else, or it does not answer in time.
        """
        if "://" in self.config.runs:
            return None
        self._replace_open_services()
        with self.register.alone():
            service = self.register.living("files") or self._start_files()
        self._wait(service, lambda: is_served(service.url), timeout_s)
        return f"{service.url}/{keys.key(self.config.state, keys.FILES_TOKEN)}"

    def deploy(self, server: Server) -> None:
        """Deploy every flow of prefect.yaml to the pool; what a person switched off stays off.

        Raises:
            StackError: The server did not take it.
        """
        with self._deploying():
            self._deploy(server)

    def _deploying(self) -> AbstractContextManager[None]:
        """Return a block in which no other command deploys, or starts the first worker, which ends runs of nobody."""
        waiting = "another command deploys to this stack; waiting for its end ..."
        return processes.alone_with(self._private("stack") / "deploying.lock", waiting)

    def _deploy(self, server: Server) -> None:
        def prefect(*arguments: str) -> None:
            self._prefect(server, *arguments)

        api, pool = self.api(server), self.config.pool
        try:
            make_pool(api, prefect, pool, self.config.work_pool_type)
            for line in self._make_ready(server, pool):  # deployments name queues of the pool
                print(line, flush=True)
            deploy(api, prefect, REPOSITORY / "prefect.yaml", self._private("stack"), self.config.environment)
        except httpx.HTTPError as error:
            raise StackError(f"the Prefect server at {server.api_url} did not take the deployments: {error}") from error

    def worker_up(self, server: Server, *, timeout_s: float = START_TIMEOUT_S, num_workers: int = 1) -> list[Service]:
        """Start process workers for the pool, after every flow of prefect.yaml has been deployed to it.

        Raises:
            StackError: Several workers on SQLite, or a pool whose runs are no processes.
        """
        pool, kind = self.config.pool, self.config.work_pool_type
        if kind != "process":
            raise StackError(
                f"INFINITY_WORK_POOL_TYPE={kind}: runs are no processes of this machine; 'python -m infra.stack "
                f"deploy' deploys to the pool, and 'prefect worker start --pool {pool} --type {kind}' serves it"
            )
        if self._is_own(server) and num_workers > 1:
            database(self.config).require(num_workers)
        with self._deploying():
            self._deploy(server)
            with self.register.alone():
                services = [self._worker(server, pool, number) for number in range(1, num_workers + 1)]
        self._wait(services[-1], lambda: self.api(server).num_workers(pool) >= num_workers, timeout_s)
        return services

    def _worker(self, server: Server, pool: str, number: int) -> Service:
        """Return the worker of this number, started if need be."""
        name, shown = ("worker", "local") if number == 1 else (f"{FURTHER_WORKER}{number}", f"local-{number}")
        command = _prefect_command("worker", "start", "--pool", pool, "--name", shown, "--type", "process")
        return self.register.living(name) or self._start(name, command, self._environment(server))

    def ray_up(self, *, timeout_s: float = START_TIMEOUT_S) -> Service:
        """Start a Ray on this machine that stays between runs; the worker started after it uses it."""
        self._replace_open_services()
        with self.register.alone():
            service = self.register.living("ray") or self._start_ray()
        self._wait(service, lambda: "Ray runtime started" in Path(service.log).read_text("utf-8"), timeout_s)
        return service

    def down(self) -> list[str]:
        """Stop every recorded service, the youngest first; return the names of those that still ran."""
        further = sorted(name for name in self.register.services() if name.startswith(FURTHER_WORKER))
        workers = [worker for name in ("worker", *further) if (worker := self.register.living(name)) is not None]
        with halted(workers):
            end_flows(self.config.state)
        return [name for name in (*further, *STOP_ORDER) if self.stop(name)]

    def stop(self, name: str) -> bool:
        """Stop and forget a service, if it is recorded; return whether it still ran."""
        service = self.register.services().get(name)
        if service is None:
            return False
        still_ran = processes.stop(service)
        self.register.remove(name)
        return still_ran

    def client_environment(self, server: Server) -> dict[str, str]:
        """Return what a process needs in its environment to talk to this stack; it holds secrets."""
        environment = {"PREFECT_API_URL": server.api_url, "PREFECT_HOME": str(self._private("prefect"))}
        environment |= self._log_environment()
        if (auth := self.auth()) is not None:
            environment["PREFECT_API_AUTH_STRING"] = auth
        if (files := self.register.living("files")) is not None:
            environment["INFINITY_FILES_URL"] = f"{files.url}/{keys.key(self.config.state, keys.FILES_TOKEN)}"
        return environment

    def _ray_environment(self) -> dict[str, str]:
        """Return address and token of the Ray that stays between runs, if there is one."""
        if self.config.ray_address is not None or (ray := self.register.living("ray")) is None:
            return {}
        token = keys.key_file(self.config.state, keys.RAY_TOKEN)
        return {"RAY_ADDRESS": ray.url, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    def _private(self, name: str) -> Path:
        return keys.private_folder(self.config.state.resolve() / name)

    def _is_own(self, server: Server) -> bool:
        service = self.register.living("server")
        return service is not None and service.url == server.api_url

    def _environment(self, server: Server | None) -> dict[str, str]:
        environment = {**common_environment(), **os.environ, "PREFECT_HOME": str(self._private("prefect"))}
        for name in ("PREFECT_API_URL", "INFINITY_DATABASE", VARIABLE, *OTHER_NAMES):  # only the server's business
            environment.pop(name, None)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        environment["PYTHONUNBUFFERED"] = "1"
        environment["INFINITY_STATE"] = str(self.config.state.resolve())  # where flows put down what they do
        if server is not None:
            environment |= self.client_environment(server)
        return environment | self._ray_environment() | self._log_environment()

    def _log_environment(self) -> dict[str, str]:
        """Return what makes Prefect's logs JSON lines, if they are to be."""
        if self.config.log_format != "json":
            return {}
        return {"PREFECT_LOGGING_SETTINGS_PATH": str(REPOSITORY / "infra" / "logging.yaml")}

    def _replace_open_services(self) -> None:
        """Stop services of an earlier version, which ask for no secret or do not know it.

        Raises:
            StackError: Runs are going on that would be cut off.
        """
        services = self.register.services()
        old = [name for name in STOP_ORDER if name in services and not services[name].is_guarded]
        if not old:
            return
        server = services.get("server")
        if server is not None and server.is_alive():
            running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
            answer = PrefectApi(server.url).try_ask("POST", "flow_runs/count", running)
            if answer is not None and answer.status_code == httpx.codes.OK and answer.json() > 0:
                raise StackError(
                    f"a Prefect server of an earlier version runs, which lets everybody in, and {answer.json()} runs "
                    "are going on there: wait for them or cancel them, or 'make down' to stop it at once"
                )
        for name in old:
            if self.stop(name):
                print(f"{name}: stopped, since an earlier version started it without a secret", flush=True)

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

    def _start_server(self, port: int, auth: str | None) -> Service:
        url = f"http://127.0.0.1:{port}/api"
        origins = f"http://127.0.0.1:{port},http://localhost:{port}"
        behind = database(self.config)
        behind.require(1)
        environment = self._environment(None) | {
            # The page in the browser asks this address; without it a proxy setting of the user would be asked instead.
            "PREFECT_UI_API_URL": url,
            "PREFECT_SERVER_API_AUTH_STRING": auth or "",
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": origins,
            **behind.environment(),
        }
        for name in ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"):
            environment.pop(name, None)  # other names of the same settings
        return self._start("server", _server_command(port), environment, url=url)

    def _start_files(self) -> Service:
        folder, port = Path(self.config.runs).resolve(), access.files_port(self.config)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "infra.files", "--folder", str(folder), "--port", str(port)]
        command += ["--token-file", str(keys.key_file(self.config.state, keys.FILES_TOKEN))]
        return self._start("files", command, self._environment(None), url=f"http://127.0.0.1:{port}")

    def _start_ray(self) -> Service:
        port = free_port()
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
        command.append(f"--ray-client-server-port={free_port()}")  # 10001 may be another stack's
        command += [*port_options(free_ports()), "--disable-usage-stats"]
        if self.config.ray_num_cpus is not None:
            command.append(f"--num-cpus={self.config.ray_num_cpus}")
        command += memory_options(self.config)
        environment = self._environment(None) | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(keys.key_file(self.config.state, keys.RAY_TOKEN)),
            # Otherwise Ray replaces 127.0.0.1 by an address that other machines reach.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        environment.pop("RAY_AUTH_TOKEN", None)  # it would be taken before the file
        return self._start("ray", command, environment, url=f"127.0.0.1:{port}")

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str], url: str = "") -> Service:
        log = self._private("stack") / f"{name}.log"
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
        """Make the pool's queues, and end runs that a crash, a reboot or `down` has left behind; return messages."""
        alone = self.config.prefect_api_url is None and self.register.living("worker") is None
        alone &= self.config.work_pool_type == "process"  # nobody on this machine sees containers and pods
        command = [sys.executable, "-m", "flows.pool", pool, *(["--reap"] if alone else [])]
        return self._told(server, command).splitlines()

    def _prefect(self, server: Server, *arguments: str) -> None:
        """Run Prefect's command line; a deploy, which may be repeated, again where the server's database was busy."""
        for left in reversed(range(BUSY_ATTEMPTS if "deploy" in arguments else 1)):
            try:
                self._told(server, _prefect_command(*arguments))
            except StackError as error:
                if not left or BUSY not in str(error):
                    raise
                time.sleep(BUSY_PAUSE_S)
            else:
                return

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


def memory_options(config: Settings) -> list[str]:
    """Return options of ``ray start``: what a node may hold in memory, and where the rest goes."""
    spill = None if config.ray_spill is None else config.ray_spill.resolve()
    given = {"memory": config.ray_memory, "object-store-memory": config.ray_object_store}
    return [f"--{name}={value}" for name, value in (given | {"object-spilling-directory": spill}).items() if value]


def _prefect_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


def _server_command(port: int) -> list[str]:
    return [sys.executable, "-m", "flows.server", "--port", str(port)]


if __name__ == "__main__":
    from infra.stack_commands import main

    sys.exit(main())
