"""A note on this machine for every flow run that goes on here: which process does it, and in which folder it works.

Prefect's server learns of the death of a process only from somebody who outlives it. After a reboot or a power cut
nobody does; what is written here tells `flows.operations.reaper` which runs ended without a word.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from infra.processes import birth
from infra.settings import settings
from infra.stored import read_json, record_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FlowRunRecord:
    """A flow run of this machine.

    Attributes:
        flow_run: Id of the flow run on the server.
        pid: Id of the process that does the flow run.
        birth: Start time of that process, which tells it from a later one with the same id.
        stage: Stage that the process did last; empty before the first stage.
        folder: Folder of that stage's files.
        has_spoken: Whether the process has said how the run ended.
        failure: Why that stage failed; empty while it did not.
        server: Address of the server that has the flow run; empty for one that ends with its process.
    """

    flow_run: str
    host: str
    pid: int
    birth: str
    stage: str = ""
    folder: str = ""
    has_spoken: bool = False
    failure: str = ""
    server: str = ""

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return birth(self.pid) == self.birth

    @property
    def is_of_a_worker(self) -> bool:
        """True where a worker started the process: in its own session, which a command in a terminal does not have."""
        try:
            return self.is_of_this_machine and self.is_alive and os.getsid(self.pid) == self.pid
        except ProcessLookupError:
            return False

    @property
    def is_of_this_machine(self) -> bool:
        """True where the process would be visible from this machine."""
        return self.host == socket.gethostname()


_current: ContextVar[FlowRunRecord | None] = ContextVar("record", default=None)


@contextmanager
def recorded(flow_run: str, server: str = "") -> Iterator[None]:
    """Put this process on record as the one that does the flow run.

    The record stays behind the block: the run's last state is told to the server after it, and
    `flows.operations.reaper` takes away what is over.

    Args:
        flow_run: Id of the flow run.
        server: Address of the server that has it, without a password.
    """
    pid = os.getpid()
    record = FlowRunRecord(flow_run, socket.gethostname(), pid, birth(pid) or "", server=server)
    token = _current.set(record)
    _write(record)
    try:
        yield
    finally:
        _current.reset(token)


def note_stage(stage: str, folder: str, failure: str = "") -> None:
    """Record what the flow run of this context is doing now, or why that failed.

    A run that was suspended and resumed may be on record as the work of its new process already, while the old one
    still stores its step; that record stays.
    """
    if (record := _current.get()) is None:
        return
    there = run_record(record.flow_run)
    if there is None or (there.host, there.pid, there.birth) == (record.host, record.pid, record.birth):
        _write(replace(record, stage=stage, folder=folder, failure=failure))


def run_record(flow_run: str) -> FlowRunRecord | None:
    """Return the record of a flow run; None where no process of this machine has begun it."""
    return next((record for record in records() if record.flow_run == flow_run), None)


def note_spoken(flow_run: str) -> None:
    """Record that the process of a flow run has said how the run ended."""
    if (record := run_record(flow_run)) is not None:
        _write(replace(record, has_spoken=True))


def records(state: Path | None = None) -> list[FlowRunRecord]:
    """Return all records; what cannot be read is left out with a warning.

    Args:
        state: State folder of a stack; None for that of this process.
    """
    found = []
    for path in sorted(_folder(state).glob("*.json")):
        try:
            found.append(record_of(FlowRunRecord, read_json(path), str(path)))
        except (OSError, ValueError) as error:
            logger.warning("%s is not a record of a flow run and was passed over (%s)", path, error)
    return found


def forget(record: FlowRunRecord) -> None:
    """Take a flow run off the record."""
    with suppress(OSError):
        _path(record).unlink(missing_ok=True)


def _write(record: FlowRunRecord) -> None:
    path = _path(record)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        logger.warning("%s cannot be written (%s); if this process dies, its run stays 'Running'", path, error)


def _path(record: FlowRunRecord) -> Path:
    return _folder() / f"{record.flow_run}.json"


def _folder(state: Path | None = None) -> Path:
    return (settings().state if state is None else state) / "flows"
