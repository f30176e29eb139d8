"""The database behind the local Prefect server: SQLite for one worker, PostgreSQL for more; backup and restore.

python -m infra.database backup <file>      copy runs, deployments, schedules and artifacts into a new file
python -m infra.database restore <file>     put them back; the server must not run
python -m infra.database show               which database it is, without its password

``make up DATABASE=postgresql+asyncpg://user:password@host:5432/prefect`` chooses PostgreSQL and is remembered;
``make up DATABASE=sqlite`` goes back. Only the server is told the address.
"""

import argparse
import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from infra.processes import Register
from infra.server import keys
from infra.server.access import StackError
from infra.settings import Settings, settings
from infra.stored import read_word

SQLITE, POSTGRESQL = "sqlite", "postgresql+asyncpg"
VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
OTHER_NAMES = ("PREFECT_API_DATABASE_CONNECTION_URL",)
ANSWER_S = 20.0
MEMORY = "database"
"""File of the state folder's secrets that remembers the address."""
HOW = "make up DATABASE=postgresql+asyncpg://user:password@host:5432/prefect"


@dataclass(frozen=True, slots=True)
class Database:
    """A database of the local stack.

    Attributes:
        url: Address of a PostgreSQL database; None for SQLite.
        file: File of SQLite.
    """

    url: str | None = field(repr=False)
    file: Path

    @property
    def shown(self) -> str:
        """Address without a password."""
        if self.url is None:
            return str(self.file)
        parts = urlsplit(self.url)
        host = f"{parts.username or ''}@{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        return urlunsplit((parts.scheme, host, parts.path, "", ""))

    @property
    def dsn(self) -> str:
        """Address as PostgreSQL's own programs write it."""
        assert self.url is not None
        return self.url.replace(POSTGRESQL, "postgresql", 1)

    def environment(self) -> dict[str, str]:
        """Return variables for the server; for nobody else, since they hold the password."""
        return {} if self.url is None else {VARIABLE: self.url}

    def require(self, num_workers: int) -> None:
        """Refuse a database that does not answer, or that this number of workers would overload.

        Raises:
            StackError: SQLite with several workers, or no PostgreSQL that lets this user in.
        """
        if self.url is None and num_workers > 1:
            raise StackError(
                f"{num_workers} workers need PostgreSQL: SQLite has one writer at a time, and runs would be lost to "
                f"'database is locked'; start with {HOW}, or use one worker"
            )
        if self.url is not None:
            try:
                asyncio.run(_connect_once(self.dsn))
            except (OSError, asyncpg.PostgresError, ValueError, TimeoutError) as error:
                reason = str(error).strip() or type(error).__name__
                raise StackError(
                    f"the database {self.shown} cannot be used ({reason.splitlines()[0]}); start it, correct DATABASE, "
                    "or go back with: make up DATABASE=sqlite"
                ) from error


def database(config: Settings) -> Database:
    """Return the database that is asked for, or the one of the last start; what is asked for is remembered.

    Raises:
        StackError: The address is not one of PostgreSQL with asyncpg.
    """
    file = config.state.resolve() / "prefect" / "prefect.db"
    memory = keys.private_folder(config.state.resolve() / keys.FOLDER) / MEMORY
    asked = None if config.database is None else config.database.get_secret_value()
    if asked == SQLITE:
        memory.unlink(missing_ok=True)
        return Database(None, file)
    if asked is None:
        return Database(read_word(memory) if memory.exists() else None, file)
    parts = urlsplit(asked)
    if parts.scheme != POSTGRESQL or not parts.hostname or not parts.path.strip("/"):
        raise StackError(f"DATABASE: expected {SQLITE} or {HOW.partition('=')[2]}, got {parts.scheme}://…")
    keys.write_private(memory, f"{asked}\n", replace=True)
    return Database(asked, file)


async def _connect_once(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=ANSWER_S)
    await connection.close()


def backup(config: Settings, target: Path) -> None:
    """Copy the database into a new file; the server may run meanwhile.

    Raises:
        StackError: The file is there, or the copy cannot be made.
    """
    if target.exists():
        raise StackError(f"{target} is there already; choose another name")
    found = database(config)
    partial = target.with_name(f".{target.name}.part")
    partial.touch(mode=0o600)
    try:
        if found.url is None:
            _copy_sqlite(found.file, partial)
        else:
            _postgresql(found, ["pg_dump", "--format=custom", f"--file={partial}"])
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def restore(config: Settings, source: Path) -> None:
    """Replace the content of the database by that of a backup.

    Raises:
        StackError: The server runs, or the file is no backup of this kind of database.
    """
    if Register(config.state / "stack" / "services.json").living("server") is not None:
        raise StackError("the Prefect server runs; stop it first with: make down")
    if not source.is_file():
        raise StackError(f"{source}: expected the file of a backup, found none")
    found, is_sqlite = database(config), source.read_bytes()[:16] == b"SQLite format 3\0"
    if is_sqlite != (found.url is None):
        kinds = ("SQLite", "PostgreSQL") if is_sqlite else ("PostgreSQL", "SQLite")
        raise StackError(f"{source} is a backup of {kinds[0]}, and the stack's database is {kinds[1]}: {found.shown}")
    if found.url is not None:
        _postgresql(found, ["pg_restore", "--clean", "--if-exists", "--no-owner", "--exit-on-error", str(source)])
        return
    keys.private_folder(found.file.parent)
    partial = found.file.with_name(f".{found.file.name}.part")
    _copy_sqlite(source, partial)
    for name in ("-wal", "-shm"):
        found.file.with_name(f"{found.file.name}{name}").unlink(missing_ok=True)
    partial.replace(found.file)


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.is_file():
        raise StackError(f"{source} is not there: no server of this stack has run yet")
    try:
        with closing(sqlite3.connect(source)) as before, closing(sqlite3.connect(target)) as after:
            before.backup(after)
            (verdict,) = after.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise StackError(f"{source} cannot be copied: {error}") from error
    if verdict != "ok":
        raise StackError(f"{source} is damaged: {verdict}")


def _postgresql(found: Database, command: Sequence[str]) -> None:
    """Run one of PostgreSQL's programs; the password goes through the environment, where no list of processes has it.

    Raises:
        StackError: The program is not installed, or it fails.
    """
    if shutil.which(command[0]) is None:
        raise StackError(f"{command[0]} is not installed; on Debian and Ubuntu: apt-get install postgresql-client")
    parts = urlsplit(found.dsn)
    variables = {
        "PGHOST": parts.hostname, "PGPORT": str(parts.port or 5432), "PGDATABASE": unquote(parts.path.strip("/")),
        "PGUSER": unquote(parts.username or ""), "PGPASSWORD": unquote(parts.password or ""),
    }  # fmt: skip
    given = {name: value for name, value in variables.items() if value}
    target = [f"--dbname={given['PGDATABASE']}"] if command[0] == "pg_restore" else []
    ended = subprocess.run(
        [*command, *target], env=_without(os.environ) | given, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise StackError(f"{command[0]} failed for {found.shown}: {ended.stderr.strip()[-500:]}")


def _without(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PG")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when all went well."""
    parser = argparse.ArgumentParser(prog="python -m infra.database", description=__doc__.partition("\n")[0])
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("backup", "restore"):
        actions.add_parser(name).add_argument("file", type=Path)
    actions.add_parser("show")
    options = parser.parse_args(arguments)
    try:
        if options.action == "backup":
            backup(settings(), options.file)
        elif options.action == "restore":
            restore(settings(), options.file)
        print(database(settings()).shown)
    except (StackError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
