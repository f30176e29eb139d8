"""Processes that outlive the command that started them: recorded in a file, and only those are ever stopped."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.stored import read_json, record_of

KEPT_LOGS = 5
"""Logs of earlier processes of a name."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process that we started.

    Attributes:
        name: Name of the service, unique in a stack.
        pid: Process id, which is also the id of the process group.
        birth: Start time as the system tells it, which tells the process from a later one with the same id.
        url: Address where the process answers; empty when it only asks.
        log: File of all it says.
        is_guarded: Whether it was started so that it asks for a secret of the state folder, or shows it. Records of
            earlier versions do not have this, and their services did not.
    """

    name: str
    pid: int
    birth: str
    url: str
    log: str
    is_guarded: bool = False

    def is_alive(self) -> bool:
        """Return whether this very process still runs."""
        return birth(self.pid) == self.birth

    def log_tail(self, num_lines: int = 15) -> str:
        """Return the last lines of its log."""
        path = Path(self.log)
        if not path.exists():
            return "(no log)"
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])


class Register:
    """The JSON file that remembers the services of one stack."""

    def __init__(self, path: Path) -> None:
        self._path, self._depth = path, 0

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside the block no other command changes the file or starts a service of the stack; blocks may be nested."""
        with contextlib.ExitStack() as held:
            if self._depth == 0:
                held.enter_context(alone_with(self._path.with_name(f"{self._path.name}.lock")))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def services(self) -> dict[str, Service]:
        """Return every recorded service by name, dead ones too."""
        if not self._path.exists():
            return {}
        try:
            found = read_json(self._path)
            if not isinstance(found, dict):
                raise ValueError(f"{self._path}: expected an object of services by name, found {found!r:.80}")
            return {name: record_of(Service, each, f"{self._path}: {name}") for name, each in found.items()}
        except ValueError as error:
            raise ValueError(f"{error}; this is no record of services: stop them by hand and delete it") from error

    def living(self, name: str) -> Service | None:
        """Return the service of this name if it runs."""
        service = self.services().get(name)
        return service if service is not None and service.is_alive() else None

    def add(self, service: Service) -> None:
        """Remember a service, in the place of an older one of its name."""
        with self.alone():
            self._write({**self.services(), service.name: service})

    def remove(self, name: str) -> None:
        """Forget a service of this name."""
        with self.alone():
            self._write({key: value for key, value in self.services().items() if key != name})

    def _write(self, services: Mapping[str, Service]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps({k: asdict(v) for k, v in services.items()}, indent=2) + "\n", "utf-8")
        temporary.replace(self._path)


@contextlib.contextmanager
def alone_with(path: Path, waiting: str = "") -> Iterator[None]:
    """Inside the block nobody else holds the lock in a file; it ends with the process, however that ends.

    Args:
        path: File of the lock, made if need be; it stays.
        waiting: Sentence that is printed where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path, url: str = "", cwd: Path
) -> Service:
    """Start a process in a group of its own, so that Ctrl-C in this terminal does not reach it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    _rotate(log)
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
    process.returncode = 0  # it is meant to outlive us: no warning about a child that nobody waited for
    return Service(name=name, pid=process.pid, birth=birth(process.pid) or "", url=url, log=str(log), is_guarded=True)


def _rotate(log: Path) -> None:
    """Keep what earlier processes said, ``log.1`` the youngest: it may tell why they died."""
    if not log.exists() or log.stat().st_size == 0:
        return
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def stop(service: Service, *, patience_s: float = 15.0) -> bool:
    """End the process and its children: first politely, then for certain.

    Returns:
        Whether there was anything to stop.
    """
    if not service.is_alive():
        return False
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, sign)
        deadline = time.monotonic() + patience_s
        while service.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        if not service.is_alive():
            break
    with contextlib.suppress(ChildProcessError):  # ours to wait for only if this very process started it
        os.waitpid(service.pid, os.WNOHANG)
    return True


def birth(pid: int) -> str | None:
    """Return the start time of a running process in whatever form the system gives it; None when there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()
